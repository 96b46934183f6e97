"""One trial of a study: a training and its evaluations in one folder, and what became of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from allukan.errors import UserError
from allukan.files import read_json, read_table, read_text, write_json, write_text
from allukan.inference import Predictor, evaluate, open_run
from allukan.options import DEFAULT_BATCH, DEFAULT_EPOCHS, DEFAULT_SIZE
from allukan.provenance import environment
from allukan.training import MACHINE_OPTIONS, TrainConfig, go_on, load_config, merge

DROP_PATH, SPLINE_LR = "drop_path", "spline_lr"
TUNE = "tune"  # stands in the place of the protocol, in the folders of the tuning


@dataclass(frozen=True)
class Trial:
    """One run of a study.

    Attributes:
        folder: ``OUT/DATA/PROTOCOL/MODEL/SEED``, a run folder, of a fold ``SEED-fold-0``; of the tuning
            ``OUT/DATA/tune/MODEL/POINT``.
        data: name of the data set.
        protocol: of the training, or "tune".
        model: its name in the study.
        options: of ``TrainConfig``.
        tests: further data sets that the trained model is evaluated on: ``path`` and ``groups`` by name.
        tuned: further options come from the tuning.
        point: the options that this trial tries, in the tuning.
    """

    folder: Path
    data: str
    protocol: str
    model: str
    options: Mapping[str, Any]
    tests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tuned: bool = False
    point: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """``DATA/PROTOCOL/MODEL/SEED``."""
        return "/".join(self.folder.parts[-4:])

    @property
    def log(self) -> Path:
        """What its process said; beside the folder, which must be new for the training."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def lock(self) -> Path:
        """There while a process works on the trial."""
        return self.folder.with_name(f"{self.folder.name}.lock")

    @property
    def state(self) -> str:
        """ "done", "failed", "started" or "to do"."""
        summaries = [self.folder / f"evaluation-{test}" / "summary.json" for test in self.tests]
        if all(path.is_file() for path in (self.folder / "finished.json", *summaries)):
            return "done"
        if (self.folder / "failed.txt").is_file():
            return "failed"
        return "started" if (self.folder / "splits.json").is_file() else "to do"

    @property
    def failure(self) -> str:
        """The first line of what went wrong."""
        return read_text(self.folder / "failed.txt").partition("\n")[0]

    def fail(self, text: str) -> None:
        """Record that the trial went wrong."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / "failed.txt", f"{text}\n")

    def config(self, chosen: Mapping[str, Any]) -> TrainConfig:
        """What the training does. ``UserError`` for options that are not usable."""
        return load_config(None, merge(self.options, placed(chosen)))

    def check_started(self, config: TrainConfig) -> None:
        """``UserError`` when the folder holds a run that was started with other options."""
        if not (self.folder / "splits.json").is_file():
            return
        taken = load_config(self.folder / "config.yaml", {"out": config.out})
        saved = asdict(taken)
        for option, value in asdict(_completed(config, taken)).items():
            if option not in MACHINE_OPTIONS and saved[option] != value:
                raise UserError(
                    f"{self.folder} was started with {option} {saved[option]!r} and the study says {value!r}: "
                    "choose another --out, or remove that folder."
                )


def _completed(config: TrainConfig, taken: TrainConfig) -> TrainConfig:
    """With what was planned as the run has taken it; what it leaves open and nothing plans is as usual, not as it was taken."""
    usual: dict[str, Any] = {} if config.budget else {"epochs": DEFAULT_EPOCHS}
    if len(taken.size) == 2:  # of pictures
        usual["options"] = {}
        if not (config.budget or config.memory):
            usual |= {"size": DEFAULT_SIZE, "batch_size": DEFAULT_BATCH}
    return replace(config.completed(taken), **{name: getattr(config, name) or value for name, value in usual.items()})


def placed(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point of the tuning as options of a training: ``drop_path`` is one of the network's topology.

    >>> placed({"lr": 0.1, "drop_path": 0.2})
    {'lr': 0.1, 'options': {'topology': {'drop_path': 0.2}}}
    """
    options = dict(point)
    if DROP_PATH in options:
        options["options"] = {"topology": {DROP_PATH: options.pop(DROP_PATH)}}
    return options


def read_finished(trial: Trial) -> dict[str, Any]:
    """What ``finish`` recorded."""
    found: dict[str, Any] = read_json(trial.folder / "finished.json")
    return found


def finish(trial: Trial, config: TrainConfig) -> None:
    """Train, or go on where the trial was interrupted, evaluate, and record it in ``finished.json`` with the environment.

    A trial of the tuning is never evaluated on test images: its score is the best mean IoU on validation.
    """
    where = environment()
    _drop_broken(trial.folder / "last.ckpt")
    go_on(config)
    run = open_run(trial.folder)
    history = read_table(trial.folder / "history.csv")
    record: dict[str, Any] = {**where, "train_seconds": round(sum(float(row["seconds"]) for row in history), 1)}
    if trial.point is not None:
        finite = [row for row in history if math.isfinite(float(row["val_loss"]) + float(row["val_iou"]))]  # as the training
        record["val_iou"] = max(float(row["val_iou"]) for row in finite)
    else:
        device = {"gpu": "cuda"}.get(config.accelerator, config.accelerator)
        predictor = Predictor(trial.folder / "model", device, trust=True)  # it was trained here
        evaluate(run, predictor=predictor)
        for name, test in trial.tests.items():
            out = trial.folder / f"evaluation-{name}"
            evaluate(run, test["path"], predictor=predictor, out=out, groups=test.get("groups"))
    write_json(trial.folder / "finished.json", record)


def _drop_broken(checkpoint: Path) -> None:
    """A checkpoint that was cut while it was copied from another file system: the training begins again."""
    try:
        if checkpoint.is_file():
            torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        logging.getLogger("allukan").warning(f"{checkpoint} is broken ({type(error).__name__}): the training begins again")
        checkpoint.unlink()
