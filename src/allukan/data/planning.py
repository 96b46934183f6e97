"""The split that a training uses, and what the user should know about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from allukan.data.dataset import Dataset, GivenSplit
from allukan.data.drawing import Pairs, draw_validation, kept_together, make_splits, near_pairs
from allukan.data.folds import fold_shares, make_folds
from allukan.data.given_splits import read_splits
from allukan.data.split_notes import class_notes, group_notes, leak_notes, uneven_notes
from allukan.data.splits import PARTS, Splits
from allukan.errors import UserError
from allukan.files import nfc
from allukan.options import DRAWN


@dataclass(frozen=True)
class SplitPlan:
    """Splits, and sentences on what is not as it seems: images left out, parts that leak, classes that a part lacks."""

    splits: Splits
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """Counts and origin, as "28 train, 4 val, 8 test (drawn; images, near-duplicates joined (1 pairs))"."""
        counts = ", ".join(f"{count} {part}" for part, count in self.splits.counts.items())
        return f"{counts} ({self.splits.origin}{'; ' + self.splits.groups_from if self.splits.groups_from != 'none' else ''})"


def plan_splits(
    dataset: Dataset,
    protocol: str = "clean",
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
    source: str | None = None,
    fold: int | None = None,
    pairs: Pairs | None = None,
    folds: int | None = None,
) -> SplitPlan:
    """The split that was given, else one that is drawn; the same arguments give the same split.

    By the protocol "clean" the file ``source`` counts, else the split of the dataset; "drawn" takes neither. ``fold`` chooses
    among folds, the first one if None. Given parts are used literally; validation that is not given is drawn from train.
    With ``folds`` so many are drawn, as by ``make_folds``. ``pairs`` are the near-duplicates where they are known already.

    Raises ``UserError`` for a file that is none, a fold that there is not, ids that the dataset lacks, and as ``make_splits``.
    """
    if protocol != "clean":
        return _literature(dataset, protocol, seed, source, fold)
    pairs = near_pairs(dataset) if pairs is None else pairs
    if folds is not None:
        return _one_of(folds, fold or 0, dataset, seed, groups or {}, pairs)
    parts, origin, notes = given_parts(dataset, source, fold)
    if parts:
        splits, more = _as_given(dataset, parts, origin, seed, groups, pairs)
        notes += [*more, *leak_notes(splits, groups or {}, pairs)]
    else:
        splits = make_splits(dataset, protocol, seed, groups, pairs)
        notes += uneven_notes(splits, groups or {}, pairs)
    return SplitPlan(splits, (*notes, *group_notes(dataset, splits, groups or {}), *class_notes(dataset, splits)))


def _one_of(folds: int, fold: int, dataset: Dataset, seed: int, groups: Mapping[str, str], pairs: Pairs) -> SplitPlan:
    if fold >= folds:
        raise UserError(f"there is no fold {fold}: the first of {folds} is 0 and the last {folds - 1}.")
    splits = make_folds(dataset, folds, seed, groups, pairs)[fold]
    unused = [f"the split given by {dataset.given.origin} is not used: {folds} folds of all images are drawn."]
    notes = [*dataset.given.notes, *(unused if dataset.given.folds else [])]
    notes += uneven_notes(splits, groups, pairs, fold_shares(folds))
    return SplitPlan(splits, (*notes, *group_notes(dataset, splits, groups), *class_notes(dataset, splits)))


def _literature(dataset: Dataset, protocol: str, seed: int, source: str | None, fold: int | None) -> SplitPlan:
    splits = make_splits(dataset, protocol, seed)
    if fold is not None or source not in (None, DRAWN):
        raise UserError(f"the protocol {protocol} draws 80/20 as in the literature: leave splits and fold out, or choose clean.")
    unused = [f"the split given by {dataset.given.origin} is not used: the protocol {protocol} draws 80/20 as in the literature."]
    notes = [*dataset.given.notes, *(unused if dataset.given.folds else [])]
    return SplitPlan(splits, (*notes, *class_notes(dataset, splits)))


def given_parts(
    dataset: Dataset, source: str | None = None, fold: int | None = None
) -> tuple[dict[str, tuple[str, ...]], str, list[str]]:
    """Ids of the given split by part, sorted, where it stands, and notes; no parts where one is to be drawn.

    Raises ``UserError`` as ``plan_splits``.
    """
    given, notes = dataset.given, list(dataset.given.notes)
    if source is not None:
        if given.folds:
            notes.append(f"the split given by {given.origin} is not used: --splits {source} is.")
        given = GivenSplit() if source == DRAWN else read_splits(source)
    parts, origin = _chosen(given, fold, dataset)
    known = _spellings(dataset)
    found = {part: tuple(sorted(_known(name, part, known, origin, dataset) for name in names)) for part, names in parts.items()}
    used = [name for names in found.values() for name in names]
    if len(set(used)) < len(used):
        twice = next(name for name in used if used.count(name) > 1)
        raise UserError(f"{origin} names image {twice!r} twice, in two spellings: leave one of them out.")
    rest = sorted(set(dataset.ids) - set(used)) if parts else []
    if rest:
        notes.append(f"{len(rest)} images are in no part of {origin}, as {rest[0]!r}: they are not used.")
    return found, origin, notes


def _chosen(given: GivenSplit, fold: int | None, dataset: Dataset) -> tuple[Mapping[str, Sequence[str]], str]:
    numbers = [number for number in given.folds if number is not None]
    if fold is not None and fold not in numbers:
        has = f"has the folds {', '.join(map(str, numbers))}" if numbers else "has no folds"
        raise UserError(f"there is no fold {fold}: {given.origin or dataset.root} {has}.")
    if not given.folds:
        return {}, ""
    number = (fold if fold is not None else min(numbers)) if numbers else None
    origin = given.origin if number is None else f"fold {number} of {len(numbers)} of {given.origin}"
    return given.folds[number], origin


def _spellings(dataset: Dataset) -> dict[str, str]:
    """Ids by themselves and by the names of their files, where those are the names of one image only."""
    files: dict[str, set[str]] = {}
    for case in dataset.cases:
        for path in case.images:
            files.setdefault(nfc(path.name), set()).add(case.id)
    return {**{name: min(ids) for name, ids in files.items() if len(ids) == 1}, **{name: name for name in dataset.ids}}


def _known(name: str, part: str, known: Mapping[str, str], origin: str, dataset: Dataset) -> str:
    if name in known:
        return known[name]
    plain = name.casefold().lstrip("0")
    near = next((other for other in known if other.casefold().lstrip("0") == plain), "")
    hint = f"did you mean {near!r}?" if near else "mend the split, or say --splits drawn for one that is drawn."
    raise UserError(f"{origin} puts {name!r} into {part}, and {dataset.root} has no such image: {hint}")


def _as_given(
    dataset: Dataset,
    parts: dict[str, tuple[str, ...]],
    origin: str,
    seed: int,
    groups: Mapping[str, str] | None,
    pairs: Pairs,
) -> tuple[Splits, list[str]]:
    kept, notes = "none", []
    if "val" not in parts:
        parts = parts | draw_validation(dataset, parts["train"], seed, groups, pairs)
        kept = kept_together(groups, pairs)
        notes.append(f"{origin} gives no validation: {len(parts['val'])} images for it are drawn from train.")
    if "test" not in parts:
        notes.append(f"{origin} gives no test images: nothing is left that the epoch was not chosen on.")
    train, val, test = (parts.get(part, ()) for part in PARTS)
    return Splits("clean", seed, train, val, test, kept, origin), notes
