"""What a dataset is: cases of images and masks, classes, and the kind of target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from allukan.files import nfc


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
class Dataset:
    """Cases in the order of their ids.

    Attributes:
        root: the folder.
        layout: "folders", "label-maps", "nnunet" or "decathlon".
        classes: names of the foreground classes.
        cases: all of them.
        label_values: value of every class in the label maps; empty for "folders".
    """

    root: Path
    layout: str
    classes: tuple[str, ...]
    cases: tuple[Case, ...]
    label_values: tuple[int, ...] = ()

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
