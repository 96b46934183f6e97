"""Volumes with no option but a budget of time: the hippocampus, for a network and its convolutional twin, over several seeds.

python -m benchmarks.volumes hippocampus_u8.npz --work FOLDER --budget 20m --out RESULT.json --page PAGE.md

Every training is an ordinary run in FOLDER/MODEL-SEED, evaluated on its test volumes. What is finished stays, what was
interrupted goes on, and the table is made of what is there: the program may be called again, for one training at a time.
``--slices MODEL`` trains a 2D network on the slices of the same volumes as well (``volume_slices``), in FOLDER/MODEL-slices-SEED.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from typer import Argument, Option

from allukan.data.volumes import Image, write_labels
from allukan.data.volumes.geometry import Geometry
from allukan.errors import UserError
from allukan.files import read_json, read_table, write_json
from allukan.inference import Predictor, evaluate, open_run
from allukan.scores import crossed_difference
from allukan.training import TrainConfig, go_on
from benchmarks.program import Program, listed
from benchmarks.report import Result, Row
from benchmarks.settings import at_least
from benchmarks.volume_slices import finish_slices

CLASSES = ("Anterior", "Posterior")
Scores = dict[str, dict[str, float]]  # Dice by class and case


def write_set(source: Path, root: Path, count: int | None) -> Path:
    """The volumes of ``hippocampus_u8.npz`` as NIfTI in the layout of the Decathlon; what was written before stays."""
    if (root / "dataset.json").is_file():
        return root
    with np.load(source) as held:
        ids, shapes, images, labels = (held[name] for name in ("ids", "shapes", "images", "labels"))
    ends, entries = np.cumsum(shapes.prod(1)), []
    for name, shape, end in list(zip(ids, shapes, ends, strict=True))[:count]:
        files = {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
        for part, values in (("image", images), ("label", labels)):
            _write(root / files[part], values[end - shape.prod() : end].reshape(shape))
        entries.append(files)
    names = {"0": "background"} | {str(value): name for value, name in enumerate(CLASSES, 1)}
    write_json(root / "dataset.json", {"modality": {"0": "MRI"}, "labels": names, "training": entries, "test": []})
    return root


def _write(path: Path, values: NDArray[np.uint8]) -> None:
    """Axes (x, y, z) of 1 mm; bytes are whole numbers from 0, as labels are."""
    array = np.ascontiguousarray(values.transpose(2, 1, 0))
    write_labels(path, array, Image(array[None], Geometry.of_pixels(array.shape, (1.0, 1.0, 1.0))))


def finish(config: TrainConfig) -> None:
    """Train and evaluate, or go on with it, unless that is done."""
    run = Path(config.out)
    if not (run / "evaluation" / "summary.json").is_file():
        go_on(config)
        evaluate(open_run(run), predictor=Predictor(run / "model", config.accelerator))


def scores_of(run: Path) -> Scores:
    """Dice of every class and test case."""
    found: Scores = {name: {} for name in CLASSES}
    for row in read_table(run / "evaluation" / "cases.csv"):
        found[row["class"]][row["id"]] = float(row["dice"])
    return found


def described(run: Path, model: str, seed: int) -> Row:
    """A training in figures."""
    history, card = read_table(run / "history.csv"), read_json(run / "model" / "config.json")
    row: Row = {"model": model, "seed": seed, "patch": "×".join(map(str, card["size"])), "epochs": len(history)}
    row["train_seconds"] = round(sum(float(line["seconds"]) for line in history), 1)
    found = scores_of(run)
    row |= {name: round(float(np.mean(list(cases.values()))), 4) for name, cases in found.items()}
    row["mean Dice"] = round(float(np.mean([row[name] for name in CLASSES])), 4)
    return row | {"options": card["options"], "scores": found}


def table(rows: list[Row]) -> list[Row]:
    """A row a model: mean Dice over trainings and test cases with its interval, and the difference from the first model."""
    made, first = [], rows[0]["model"]
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        line: Row = {"model": model, "seeds": len(own)}
        for name in CLASSES:
            line[name] = _interval([row["scores"][name] for row in own])
        line["mean Dice"] = _interval([_mean(row) for row in own])
        pairs = [(row, other) for row in own for other in rows if (other["model"], other["seed"]) == (first, row["seed"])]
        if model != first and pairs:
            line[f"minus {first}"] = _interval([_less(_mean(row), _mean(other)) for row, other in pairs])
        made.append(line)
    return made


def _mean(row: Row) -> dict[str, float]:
    """Over the classes, of every case."""
    found = row["scores"]
    return {case: float(np.mean([found[name][case] for name in CLASSES])) for case in found[CLASSES[0]]}


def _less(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {case: one[case] - other[case] for case in one}


def _interval(values: list[dict[str, float]]) -> str:
    """Mean and 95 % interval over trainings and cases; of one training over cases alone."""
    cases = sorted(set().union(*values))
    found = crossed_difference([[of_seed.get(case, np.nan) for case in cases] for of_seed in values])
    low, high = found.interval
    return f"{found.mean:.4f} ({low:.4f} … {high:.4f})"


def volumes(
    source: Annotated[Path, Argument(help="hippocampus_u8.npz", show_default=False)],
    work: Annotated[Path, Option(help="Folder of the data set and of the runs.")],
    models: Annotated[Iterable[str], listed("Networks, the first of which the others are compared with.")] = (
        "allukan-base",
        "convtwin-base",
    ),
    seeds: Annotated[int, Option(help="Trainings of each network.")] = 3,
    slices: Annotated[Iterable[str], listed("Networks that are trained on the slices of the same volumes.")] = (),
    only: Annotated[str | None, Option(help="Train this one now, MODEL-SEED or MODEL-slices-SEED, and leave the others.")] = None,
    budget: Annotated[str, Option(help="Time of a training and its evaluation.")] = "20m",
    count: Annotated[int | None, Option(help="Volumes of the set  [all]")] = None,
    device: Annotated[str, Option(help="cpu, cuda or auto")] = "cpu",
) -> Result:
    """Dice on test volumes after trainings with no option but a budget of time."""
    at_least("seeds", seeds, 1)
    if not source.is_file():
        raise UserError(f"{source} is not there: give hippocampus_u8.npz.")
    data = write_set(source, work / "data", count)
    rows = []
    for model, kind in [*((model, "") for model in models), *((model, "-slices") for model in slices)]:
        for seed in range(seeds):
            run = work / f"{model}{kind}-{seed}"
            config = TrainConfig(str(data), str(run), model=model, seed=seed, budget=budget, accelerator=device, devices="1")
            if only in (None, run.name) and kind:
                finish_slices(data, replace(config, data=str(work / "slices")))
            elif only in (None, run.name):
                finish(config)
            if (run / "evaluation" / "cases.csv").is_file():
                rows.append(described(run, model + kind, seed))
    if not rows:
        raise UserError(f"no training in {work} is finished.")
    return Result(rows, tables=[table(rows), [_without(row) for row in rows]], about={"data": source.name, "budget": budget})


def _without(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("options", "scores")}


program = Program("volumes", volumes, block="volumes")


if __name__ == "__main__":
    program()
