"""Splits that are drawn: named protocols, by whole groups, the same every time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from sklearn.model_selection import train_test_split

from allukan.data.dataset import Dataset
from allukan.data.duplicates import near_duplicates
from allukan.data.masks import read_masks
from allukan.data.splits import Splits
from allukan.errors import UserError

Pairs = Sequence[tuple[str, str]]
SHARES = {"test": 0.2, "val": 0.1, "train": 0.7}
REST = {"val": 1 / 8, "train": 7 / 8}  # where the test is known already


def make_splits(
    dataset: Dataset,
    protocol: str = "clean",
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
    pairs: Pairs | None = None,
) -> Splits:
    """Draw the splits of a protocol, whatever split the dataset has; the same arguments give the same splits.

    "ukan": scikit-learn's 80/20 of the sorted ids, validation and test the same images, as in the literature. "clean": 70/10/20
    by whole groups; near-duplicates are joined into one group; the shares of foreground are spread alike over the three.
    ``pairs`` are the near-duplicates where they are known already.
    Raises ``UserError`` for an unknown protocol and for too few images or groups.
    """
    ids = sorted(dataset.ids)
    if protocol == "ukan":
        if len(ids) < 2:
            raise UserError(f"{dataset.root} has {len(ids)} image: the ukan protocol needs at least 2.")
        train, test = train_test_split(ids, test_size=0.2, random_state=seed)
        return Splits(protocol, seed, tuple(train), tuple(test), tuple(test), "none")
    if protocol != "clean":
        raise UserError(f"unknown protocol {protocol!r}: choose clean or ukan.")
    pairs = near_pairs(dataset) if pairs is None else pairs
    members = join(ids, groups or {}, pairs)
    parts = deal(members, foreground_shares(dataset), seed, SHARES, str(dataset.root))
    return Splits(protocol, seed, parts["train"], parts["val"], parts["test"], kept_together(groups, pairs))


def draw_validation(
    dataset: Dataset, train: Sequence[str], seed: int, groups: Mapping[str, str] | None, pairs: Pairs
) -> dict[str, tuple[str, ...]]:
    """An eighth of ``train`` as "val", by whole groups, and the rest as "train". Raises ``UserError`` for too few groups."""
    inside = set(train)
    members = join(sorted(train), groups or {}, [(a, b) for a, b in pairs if {a, b} <= inside])
    part = replace(dataset, cases=dataset.select(sorted(train)))
    return deal(members, foreground_shares(part), seed, REST, f"the part 'train' of {dataset.root}")


def near_pairs(dataset: Dataset) -> Pairs:
    """The near-duplicates of a dataset, without how near they are."""
    return [(a, b) for a, b, _ in near_duplicates(dataset)]


def kept_together(groups: Mapping[str, str] | None, pairs: Pairs) -> str:
    """What is in one group, for ``Splits.groups_from``."""
    return f"{'given groups' if groups else 'images'}, near-duplicates joined ({len(pairs)} pairs)"


def join(ids: Sequence[str], groups: Mapping[str, str], pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Connected components of "same group" and "near-duplicate", each sorted."""
    parent = {name: name for name in ids}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    first: dict[str, str] = {}
    links = [(name, first.setdefault(groups[name], name)) for name in ids if name in groups]
    for a, b in [*links, *pairs]:
        parent[root(a)] = root(b)
    members: dict[str, list[str]] = defaultdict(list)
    for name in ids:
        members[root(name)].append(name)
    return sorted(members.values())


def foreground_shares(dataset: Dataset) -> dict[str, float]:
    """Share of the pixels of every image that are of any class."""
    with ThreadPoolExecutor() as pool:
        shares = list(pool.map(lambda case: float((read_masks(case, dataset) == 1).any(0).mean()), dataset.cases))
    return dict(zip(dataset.ids, shares, strict=True))


def deal(
    members: list[list[str]],
    foreground: Mapping[str, float],
    seed: int,
    shares: Mapping[str, float] = SHARES,
    what: str = "the dataset",
) -> dict[str, tuple[str, ...]]:
    """Groups sorted by foreground, in runs of about ten dealt at random: every part gets groups of every kind.

    A group that is larger than a part should be goes to a larger part, the emptiest of several, as far as there are others for
    the smaller ones.
    Raises ``UserError`` naming ``what`` where there are fewer groups than parts.
    """
    total, least = sum(map(len, members)), len(shares)
    if len(members) < least:
        why = "; look at --groups, or give a split of your own with --splits" if total >= least else ""
        counted = f"{what} has {total} images in {len(members)} independent groups"
        raise UserError(f"{counted}: the {'three' if least == 3 else 'two'} parts of a split need {least}{why}.")
    generator = np.random.default_rng(seed)
    order = sorted(members, key=lambda group: (float(np.mean([foreground[name] for name in group])), group))
    for start in range(0, len(order), 10):
        order[start : start + 10] = [order[start + i] for i in generator.permutation(len(order[start : start + 10]))]
    room = {name: max(1.0, share * total) for name, share in shares.items()}
    widest = [name for name in room if room[name] == max(room.values())]
    parts: dict[str, list[str]] = {name: [] for name in shares}
    large = [group for group in order if len(group) > sorted(room.values())[-2]]
    for group in sorted(large, key=len, reverse=True)[: len(order) - least + 1]:
        parts[min(widest, key=lambda name: len(parts[name]))].extend(group)
        order.remove(group)
    dealt = sum(map(len, parts.values()))
    for left, group in zip(range(len(order), 0, -1), order, strict=True):
        dealt += len(group)
        empty = [name for name in parts if not parts[name]]
        candidates = empty if len(empty) >= left else list(parts)
        fitting = [name for name in candidates if len(group) <= room[name]] or candidates
        lacks = {name: shares[name] * dealt - len(parts[name]) for name in fitting}
        parts[max(lacks, key=lacks.__getitem__)].extend(group)
    return {name: tuple(sorted(ids)) for name, ids in parts.items()}
