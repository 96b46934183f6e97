"""Train, validation and test: named protocols, reproduced from ``splits.json``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from allukan.data.dataset import Dataset
from allukan.data.masks import read_masks
from allukan.data.near_duplicates import near_duplicates
from allukan.errors import UserError
from allukan.files import nfc, read_json, write_json

PROTOCOLS = ("clean", "ukan")
_SHARES = {"test": 0.2, "val": 0.1, "train": 0.7}


@dataclass(frozen=True)
class Splits:
    """Which case is used for what.

    Attributes:
        protocol: "clean" or "ukan".
        seed: that they were drawn with.
        train: ids.
        val: ids on which the epoch is chosen.
        test: ids that are reported.
        groups_from: what was kept together.
    """

    protocol: str
    seed: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    groups_from: str = ""

    def save(self, path: Path) -> None:
        """Write as JSON with the number of ids in each part, whole or not at all."""
        write_json(path, {**asdict(self), "counts": self.counts})

    @staticmethod
    def load(path: Path) -> Splits:
        """Raises ``UserError`` when the file is missing, is not one of ours, or contradicts itself."""
        try:
            raw = read_json(path)
        except OSError:
            raise UserError(f"{path} does not exist or cannot be read.") from None
        except UserError as error:
            raise UserError(f"{path} is not a file of splits ({error}).") from None
        fault = _fault(raw)
        if fault:
            raise UserError(f"{path} is not a file of splits: {fault}.")
        values: dict[str, Any] = {f.name: raw[f.name] for f in fields(Splits)}
        values |= {name: tuple(map(nfc, raw[name])) for name in _SHARES}
        return Splits(**values)

    @property
    def counts(self) -> dict[str, int]:
        """Number of ids in each part."""
        return {"train": len(self.train), "val": len(self.val), "test": len(self.test)}

    def matches(self, dataset: Dataset) -> None:
        """Raises ``UserError`` when a case of the splits is no longer in the dataset."""
        gone = sorted({*self.train, *self.val, *self.test} - set(dataset.ids))
        if gone:
            raise UserError(
                f"{dataset.root} lacks {len(gone)} images of the splits, as {gone[0]!r}: give the dataset of the training."
            )


def _fault(raw: Any) -> str:
    """What is wrong with the content of a ``splits.json``; empty when nothing is."""
    if not isinstance(raw, dict):
        return "it holds no fields"
    for field in fields(Splits):
        if field.name not in raw:
            return f"field {field.name!r} is missing"
        value = raw[field.name]
        names = isinstance(value, list) and all(isinstance(name, str) for name in value)
        good = names if field.name in _SHARES else isinstance(value, int if field.name == "seed" else str)
        if not good or isinstance(value, bool):
            return f"field {field.name!r} is {str(value)[:60]!r}"
    if raw["protocol"] not in PROTOCOLS:
        return f"field 'protocol' is {raw['protocol']!r} instead of {' or '.join(PROTOCOLS)}"
    held = [raw["val"], raw["test"]] if raw["protocol"] == "clean" else [raw["test"]]
    used = [name for part in (raw["train"], *held) for name in part]
    if len(set(used)) < len(used):
        return f"image {next(name for name in used if used.count(name) > 1)!r} is in it twice"
    if raw.get("counts", found := {name: len(raw[name]) for name in ("train", "val", "test")}) != found:
        return f"field 'counts' is {raw['counts']} but the lists hold {found}"
    return ""


def make_splits(dataset: Dataset, protocol: str = "clean", seed: int = 0, groups: Mapping[str, str] | None = None) -> Splits:
    """Draw the splits of a protocol; the same arguments give the same splits.

    "ukan": scikit-learn's 80/20 of the sorted ids, validation and test the same images, as in the literature. "clean": 70/10/20
    by whole groups; near-duplicates are joined into one group; the shares of foreground are spread alike over the three.
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
    pairs = [(a, b) for a, b, _ in near_duplicates(dataset)] if len(ids) > 1 else []
    members = _join(ids, groups or {}, pairs)
    if len(members) < 3:
        raise UserError(
            f"{dataset.root} has {len(ids)} images in {len(members)} independent groups: the three parts of a split need 3."
        )
    parts = _deal(members, _foreground(dataset), seed)
    origin = f"{'given groups' if groups else 'images'}, near-duplicates joined ({len(pairs)} pairs)"
    return Splits(protocol, seed, parts["train"], parts["val"], parts["test"], origin)


def _join(ids: Sequence[str], groups: Mapping[str, str], pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
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


def _foreground(dataset: Dataset) -> dict[str, float]:
    with ThreadPoolExecutor() as pool:
        shares = list(pool.map(lambda case: float(read_masks(case, dataset).any(0).mean()), dataset.cases))
    return dict(zip(dataset.ids, shares, strict=True))


def _deal(members: list[list[str]], foreground: Mapping[str, float], seed: int) -> dict[str, tuple[str, ...]]:
    """Groups sorted by foreground, in runs of about ten dealt at random: every part gets groups of every kind."""
    generator = np.random.default_rng(seed)
    order = sorted(members, key=lambda group: (float(np.mean([foreground[name] for name in group])), group))
    for start in range(0, len(order), 10):
        order[start : start + 10] = [order[start + i] for i in generator.permutation(len(order[start : start + 10]))]
    parts: dict[str, list[str]] = {name: [] for name in _SHARES}
    dealt = 0
    for left, group in zip(range(len(order), 0, -1), order, strict=True):
        dealt += len(group)
        empty = [name for name in parts if not parts[name]]
        candidates = empty if len(empty) >= left else list(parts)
        lacks = {name: _SHARES[name] * dealt - len(parts[name]) for name in candidates}
        parts[max(lacks, key=lacks.__getitem__)].extend(group)
    return {name: tuple(sorted(ids)) for name, ids in parts.items()}
