"""Classes of other people's data beside those of a model: by name and value, never by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from allukan.data import FOREGROUND, IGNORED, Dataset
from allukan.errors import UserError
from allukan.models import ModelCard

NOT_THERE = "none"  # as the target of a mapping: read as background


@dataclass(frozen=True)
class ClassMatch:
    """Where the masks of a model's classes stand in a dataset.

    Attributes:
        sources: for every class of the model the places of its masks among the classes of the dataset; they are united.
        scored: whether the dataset can tell about that class.
        notes: sentences about what is not as it was in the training.
    """

    sources: tuple[tuple[int, ...], ...]
    scored: tuple[bool, ...]
    notes: tuple[str, ...] = ()

    def arrange(self, masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Masks of the dataset ``(K', H, W)``, perhaps of no class, → of the classes of the model ``(K, H, W)``."""
        planes = np.zeros((len(self.sources), *masks.shape[1:]), np.uint8)
        for plane, places in zip(planes, self.sources, strict=True):
            for place in places:
                np.maximum(plane, masks[place], out=plane)
        if len(masks):
            planes[:, (masks == IGNORED).any(0)] = IGNORED
        return planes


def match_classes(dataset: Dataset, card: ModelCard, mapping: Mapping[str, str] | None = None) -> ClassMatch:
    """Find every class of ``dataset`` among those of the model; ``mapping`` says so for names that differ.

    A class is found by its name, or by its value where one of the two sides has values and no names. One class on both sides
    is the same class where one of them has no name. ``mapping`` goes from names of the dataset to names of the model, or to
    "none": such masks are background. Raises ``UserError`` for a class of the dataset that is not found, two that would be the
    same without a mapping, and a mapping of names that do not exist.
    """
    mapping = dict(mapping or {})
    _check(mapping, dataset, card)
    sources: list[list[int]] = [[] for _ in card.classes]
    for place, name in enumerate(dataset.classes):
        if mapping.get(name) == NOT_THERE:
            continue
        found = card.classes.index(mapping[name]) if name in mapping else _find(dataset, place, card)
        if found is None:
            raise UserError(_unknown(dataset, name, card))
        taken = [dataset.classes[other] for other in sources[found]]
        if taken and not (name in mapping and taken[0] in mapping):
            raise UserError(
                f"{dataset.root} has the classes {taken[0]!r} and {name!r}, which both are {card.classes[found]!r} of the model: "
                f"say so with --map {taken[0]}={card.classes[found]} --map {name}={card.classes[found]}."
            )
        sources[found].append(place)
    return ClassMatch(tuple(map(tuple, sources)), *_coverage(dataset, card, sources))


def _check(mapping: Mapping[str, str], dataset: Dataset, card: ModelCard) -> None:
    for theirs, ours in mapping.items():
        if theirs not in dataset.classes:
            raise UserError(f"--map {theirs}={ours}: {dataset.root} has no class {theirs!r}, only {_list(dataset.classes)}.")
        if ours != NOT_THERE and ours not in card.classes:
            raise UserError(f"--map {theirs}={ours}: the model has no class {ours!r}, only {_list(card.classes)}; or none.")


def _find(dataset: Dataset, place: int, card: ModelCard) -> int | None:
    """Place of the dataset's class among those of the model."""
    name = dataset.classes[place]
    value = dataset.label_values[place] if dataset.label_values else None
    by_value = not dataset.named or _nameless(card)
    single = len(dataset.classes) == len(card.classes) == 1
    if by_value and value is not None and card.label_values and not (single and value not in card.label_values):
        return card.label_values.index(value) if value in card.label_values else None
    number = name.isdecimal() and bool(dataset.label_values) != bool(card.label_values)  # a value here, a folder's name there
    if name in card.classes and (single or not number):
        return card.classes.index(name)
    return 0 if single and (not dataset.named or name.isdecimal() or _nameless(card)) else None


def _nameless(card: ModelCard) -> bool:
    """Whether the names are numbers: values of label maps, or folders named 0, 1 …; or the one class of all labels."""
    return all(name.isdecimal() or name == FOREGROUND for name in card.classes)


def _coverage(dataset: Dataset, card: ModelCard, sources: Sequence[Sequence[int]]) -> tuple[tuple[bool, ...], tuple[str, ...]]:
    """Which classes of the model are scored, and notes on the others."""
    lacking = [name for name, places in zip(card.classes, sources, strict=True) if not places]
    if not lacking:
        return (True,) * len(card.classes), ()
    if dataset.named:
        scored = tuple(bool(places) for places in sources)
        if not any(scored):
            raise UserError(f"{dataset.root} has none of the classes of the model, {_list(card.classes)}: nothing can be scored.")
        return scored, (f"{dataset.root} does not name {_list(lacking)}: not scored.",)
    note = f"no label map of {dataset.root} holds {_list(lacking)}: taken as absent, and what is predicted as a false alarm."
    return (True,) * len(card.classes), (note,)


def _unknown(dataset: Dataset, name: str, card: ModelCard) -> str:
    known = [f"{own} ({value})" for own, value in zip(card.classes, card.label_values, strict=False)] or card.classes
    return (
        f"{dataset.root} has a class {name!r}, which the model does not know: it has {_list(known)}. Say which one it is with "
        f"--map {name}={card.classes[0]}, for instance, or --map {name}=none to take it as background."
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
