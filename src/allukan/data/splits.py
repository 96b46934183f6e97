"""Train, validation and test, as ``splits.json`` keeps them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from allukan.data.dataset import Dataset
from allukan.errors import UserError
from allukan.files import nfc, read_json, write_json

PROTOCOLS = ("clean", "ukan")
PARTS = ("train", "val", "test")


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
        origin: "drawn", or where the split that was given stands.
    """

    protocol: str
    seed: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    groups_from: str = ""
    origin: str = "drawn"

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
        named = {field.name: raw[field.name] for field in fields(Splits) if field.name in raw}
        values: dict[str, Any] = {name: tuple(map(nfc, value)) if name in PARTS else value for name, value in named.items()}
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
        if field.name not in raw and field.name == "origin":  # version 0.1 did not write it
            continue
        if field.name not in raw:
            return f"field {field.name!r} is missing"
        value = raw[field.name]
        names = isinstance(value, list) and all(isinstance(name, str) for name in value)
        good = names if field.name in PARTS else isinstance(value, int if field.name == "seed" else str)
        if not good or isinstance(value, bool):
            return f"field {field.name!r} is {str(value)[:60]!r}"
    if raw["protocol"] not in PROTOCOLS:
        return f"field 'protocol' is {raw['protocol']!r} instead of {' or '.join(PROTOCOLS)}"
    if not (raw["train"] and raw["val"]):
        return f"no image is in {'val' if raw['train'] else 'train'}"
    held = [raw["val"], raw["test"]] if raw["protocol"] == "clean" else [raw["test"]]
    used = [name for part in (raw["train"], *held) for name in part]
    if len(set(used)) < len(used):
        return f"image {next(name for name in used if used.count(name) > 1)!r} is in it twice"
    if raw.get("counts", found := {name: len(raw[name]) for name in PARTS}) != found:
        return f"field 'counts' is {raw['counts']} but the lists hold {found}"
    return ""
