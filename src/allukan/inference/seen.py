"""Whether images that are scored were in the training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from allukan.data import Case, Dataset, LabelRules, Splits, open_dataset
from allukan.data.names import visible
from allukan.errors import UserError


def seen_in_training(
    cases: Sequence[Case], dataset: Dataset, trained_on: Path, rules: LabelRules, splits: Splits
) -> tuple[str, ...] | None:
    """Ids of the cases of ``dataset`` that were training or validation images, whatever they are called there.

    In the folder of the training by their ids, in another by the bytes of their files. None where that is not known: the data
    of the training are gone, or can no longer be opened by its ``rules`` of labels.
    """
    used = {*splits.train, *splits.val} - set(splits.test)  # by the protocol "ukan" test and validation are the same images
    if dataset.root.resolve() == trained_on.resolve():
        return tuple(case.id for case in cases if case.id in used)
    try:
        known = {case.id: case for case in open_dataset(trained_on, rules, learn=False).cases}
    except UserError:
        return None
    with ThreadPoolExecutor() as pool:
        theirs = set(pool.map(_digest, (known[name] for name in sorted(used) if name in known)))
        return tuple(case.id for case, digest in zip(cases, pool.map(_digest, cases), strict=True) if digest in theirs)


def _digest(case: Case) -> bytes:
    digest = hashlib.blake2b()
    for path in case.images:
        for file in visible(path) if path.is_dir() else [path]:  # the slices of a series
            digest.update(file.read_bytes())
    return digest.digest()
