"""Which state of a model scores are of: a training that goes on leaves the scores of before behind."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from allukan.errors import UserError

_WEIGHTS = "model/model.safetensors"


def weights_digest(run: Path) -> str:
    """Of the weights of a run or of all its folds; empty where there are none, as beside results that were copied alone."""
    single = run / _WEIGHTS
    files = [single] if single.is_file() else sorted(run.glob(f"fold-*/{_WEIGHTS}"))
    return sha256(b"".join(sha256(path.read_bytes()).digest() for path in files)).hexdigest()[:16] if files else ""


def check_current(summary: Mapping[str, Any], evaluation: Path, run: Path) -> None:
    """``UserError`` where the scores are of weights that the run no longer has; older scores do not say."""
    said, now = summary.get("weights"), weights_digest(run)
    if said and now and said != now:
        raise UserError(
            f"{evaluation} has scores of an earlier state of {run}, which was trained on: run allukan evaluate again."
        )
