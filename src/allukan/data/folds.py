"""Folds that are drawn: every image is tested once, groups stay whole."""

from __future__ import annotations

from collections.abc import Mapping

from allukan.data.dataset import Dataset
from allukan.data.drawing import REST, Pairs, deal, foreground_shares, join, kept_together, near_pairs
from allukan.data.splits import Splits
from allukan.errors import UserError


def make_folds(
    dataset: Dataset, folds: int, seed: int = 0, groups: Mapping[str, str] | None = None, pairs: Pairs | None = None
) -> tuple[Splits, ...]:
    """As many splits by the protocol "clean"; the same arguments give the same ones.

    The groups, near-duplicates joined, are dealt to ``folds`` parts with shares of foreground that are alike, as by
    ``make_splits``. Each part is the test of one split; an eighth of the rest validates, again by whole groups. ``pairs`` are the
    near-duplicates where they are known already. Raises ``UserError`` for too few groups.
    """
    pairs = near_pairs(dataset) if pairs is None else pairs
    members = join(sorted(dataset.ids), groups or {}, pairs)
    if len(members) < folds:
        counted = f"{dataset.root} has {len(dataset.ids)} images in {len(members)} independent groups"
        raise UserError(f"{counted}, too few for {folds} folds: ask for fewer, or look at --groups.")
    foreground, kept = foreground_shares(dataset), kept_together(groups, pairs)
    tests = deal(members, foreground, seed, dict.fromkeys(map(str, range(folds)), 1 / folds))
    made = []
    for number, test in enumerate(tests.values()):
        origin = f"drawn, fold {number} of {folds}"
        rest = [group for group in members if group[0] not in test]
        parts = deal(rest, foreground, seed, REST, f"what the {origin} of {dataset.root} trains on")
        made.append(Splits("clean", seed, parts["train"], parts["val"], test, kept, origin))
    return tuple(made)


def fold_shares(folds: int) -> dict[str, float]:
    """What each part of one of ``folds`` should have; with five as in ``make_splits``.

    >>> {part: round(share, 3) for part, share in fold_shares(5).items()}
    {'test': 0.2, 'val': 0.1, 'train': 0.7}
    """
    return {"test": 1 / folds, **{part: share * (1 - 1 / folds) for part, share in REST.items()}}
