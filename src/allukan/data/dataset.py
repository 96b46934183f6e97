"""What a dataset is: cases of images and masks, classes, the kind of target, and how labels are to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from allukan.files import nfc

FOREGROUND = "foreground"  # name of the class that all labels become


@dataclass(frozen=True)
class Case:
    """One image with its masks.

    Attributes:
        id: unique name within the dataset.
        images: files whose channels are stacked.
        masks: a tuple of files a class (their union counts) for layout "folders", else one tuple with one label map.
    """

    id: str
    images: tuple[Path, ...]
    masks: tuple[tuple[Path, ...], ...]


@dataclass(frozen=True)
class GivenSplit:
    """A split that somebody made, as it stands in a dataset or a file; not yet held against the images.

    Attributes:
        origin: where it stands.
        folds: ids by "train", "val" and "test", of which one may be missing, for every fold by its number; None is the number of
            a split that has no folds. Empty where there is no split.
        notes: what of it is not used, in sentences.
    """

    origin: str = ""
    folds: Mapping[int | None, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Cases in the order of their ids.

    Attributes:
        root: the folder.
        layout: "folders", "label-maps", "nnunet" or "decathlon".
        classes: names of the foreground classes.
        cases: all of them.
        label_values: value of every class in the label maps; empty for "folders" and where all labels are one class.
        named: whether the names of the classes were given, not made from their values.
        ignored: value of pixels that are neither background nor a class.
        given: the split that came with it.
        groups: of the images, where the folders say what belongs together.
        patterns: of the paths of the files of an image, ``*`` for its name, as ``*_0001``; empty strings without a rule.
        channel_names: of the files of an image or of their channels, where a description gives them.
        spatial_dims: 2 for pictures, 3 for volumes.
    """

    root: Path
    layout: str
    classes: tuple[str, ...] = ()
    cases: tuple[Case, ...] = ()
    label_values: tuple[int, ...] = ()
    named: bool = True
    ignored: int | None = None
    given: GivenSplit = field(default_factory=GivenSplit)
    groups: Mapping[str, str] = field(default_factory=dict)
    patterns: tuple[str, ...] = ("*",)
    channel_names: tuple[str, ...] = ()
    spatial_dims: int = 2

    @property
    def merged(self) -> bool:
        """Whether every label above 0 of a label map is the one class."""
        return self.layout != "folders" and bool(self.classes) and not self.label_values

    @property
    def target(self) -> str:
        """ "binary" for one class; else "multiclass" for label maps, "multilabel" for a folder a class."""
        if len(self.classes) == 1:
            return "binary"
        return "multiclass" if self.label_values else "multilabel"

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the cases, sorted."""
        return tuple(case.id for case in self.cases)

    def select(self, ids: Sequence[str]) -> tuple[Case, ...]:
        """The cases of these ids, in their order; ``KeyError`` for an id that does not exist."""
        by_id = {case.id: case for case in self.cases}
        return tuple(by_id[nfc(case_id)] for case_id in ids)
