"""The configuration of a run that is to be continued."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from allukan.errors import UserError
from allukan.training.config import MACHINE_OPTIONS, TrainConfig, load_config, merge


def resume_config(run: str | Path, given: Mapping[str, Any]) -> TrainConfig:
    """``RUN/config.yaml``; of the options ``given`` only those of the machine may differ from it.

    Raises ``UserError`` when the run does not exist or when an option would change what is being trained.
    """
    path = Path(run) / "config.yaml"
    if not path.is_file():
        raise UserError(f"{run} is not a run that can be resumed: {path} is missing.")
    saved = load_config(path, {"out": str(run)})
    wanted = TrainConfig(**merge(asdict(saved), given))
    before, after = asdict(saved), asdict(wanted)
    for name, value in after.items():
        if name not in MACHINE_OPTIONS and value != before[name]:
            raise UserError(f"option {name} is {before[name]!r} in {path} and {value!r} now: a resumed run keeps its options.")
    return wanted
