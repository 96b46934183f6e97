"""The proxy: its slices and scores, what tricks change, and cells that are trained once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from allukan.data import write_phantoms
from allukan.errors import UserError
from allukan.files import read_json, write_json
from allukan.models import build_model
from allukan.nn import KALayer
from allukan.scores import crossed_difference
from benchmarks.proxy import cells, table
from benchmarks.proxy.frontier import draw, frontier
from benchmarks.proxy.pictures import load_folds, pictures
from benchmarks.proxy.rows import ROWS
from benchmarks.proxy.slices import HIPPOCAMPUS, Slices, load_slices, parts, subject_dice
from benchmarks.proxy.together import run_together
from benchmarks.proxy.trial import Row, run
from benchmarks.proxy.tricks import TRICKS, Mirror, Training
from benchmarks.settings import Settings

SMALL: dict[str, Any] = {"topology": {"widths": (2, 4, 4, 4, 4), "token_depth": 1}}
INPUT = {**SMALL, "spline": {"sharing": "input"}}
VALUES = {"smooth": 1.0, "straight": 1.0, "together": 1.0, "diverse": 0.5, "mirror": 1.0, "power": 0.5, "release": 0.5}
VALUES |= {"refine": 2, "windows": True, "dropkan": 0.5, "quantiles": True}


@pytest.fixture(scope="module")
def data() -> dict[str, Slices]:
    """Blobs of two classes, four slices of each of ten subjects."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 100, (40, 1, 48, 48), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(40, 2, 48, 48, dtype=torch.uint8)
    masks[:, 0, 8:20, 8:20] = 1
    masks[::2, 1, 25:40, 20:40] = 1
    return parts(Slices(images + 60 * masks.sum(1, keepdim=True), masks, torch.arange(40) // 4))


def test_no_subject_is_in_two_parts(data: dict[str, Slices]) -> None:
    subjects = [set(part.subjects.tolist()) for part in data.values()]
    assert [len(found) for found in subjects] == [6, 2, 2]
    assert set.union(*subjects) == set(range(10))


def test_dice_pools_the_slices_of_a_subject() -> None:
    generator = np.random.default_rng(0)
    truth, prediction = generator.random((2, 6, 2, 5, 7)) < 0.4
    truth[:2, 1] = prediction[:2, 1] = False  # of the first subject
    found = subject_dice(torch.from_numpy(prediction), torch.from_numpy(truth).byte(), torch.tensor([3, 3, 5, 5, 5, 9]))
    for row, own in enumerate(([0, 1], [2, 3, 4], [5])):
        for k in range(2):
            a, b = truth[own, k], prediction[own, k]
            assert float(found[row, k]) == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()) if a.any() or b.any() else 1)


def _short(**changes: Any) -> Row:
    return Row(**{"options": INPUT, "epochs": 1, "batch": 8, "augment": (), "warmup": 0, **changes})


@pytest.mark.slow
def test_a_training_learns_and_is_the_same_again(data: dict[str, Slices]) -> None:
    row = _short(epochs=20, lr=0.03)
    first, again = run(row, data, 1), run(replace(row, epochs=20), data, 1)
    assert first["curve"][-1] < 0.6 * first["curve"][0]
    assert first["scores"] == again["scores"]
    assert np.shape(first["scores"]["val"]) == (2, 2)
    assert run(row, data, 2)["curve"] != first["curve"]


@pytest.mark.slow
@pytest.mark.parametrize("name", TRICKS)
def test_every_trick_changes_the_training(data: dict[str, Slices], name: str) -> None:
    plain, tricked = (run(_short(epochs=4, tricks=tricks), data, 0)["network"] for tricks in ({}, {name: VALUES[name]}))
    weights = [net.head.weight for net in (plain, tricked)]
    assert all(weight.isfinite().all() for weight in weights)
    assert not torch.equal(*weights)


@pytest.mark.slow
def test_every_recipe_changes_the_training(data: dict[str, Slices]) -> None:
    rows = [
        f"nano/twin/10/{name}"
        for name in ("no warm-up", "batches of 8", "deep", "full size", "cutmix", "copypaste", "adamw", "no average")
    ]
    assert all(ROWS[name].against == "nano/twin/10" for name in rows)
    found = [run(replace(ROWS[name], epochs=2), data, 0)["network"] for name in ("nano/twin/10", *rows)]
    weights = [float(next(network.encoder.parameters()).detach().double().square().sum()) for network in found]
    assert np.isfinite(weights).all()
    assert len(set(weights)) == len(weights)


def test_splines_that_are_released_late_stay_where_they_were(data: dict[str, Slices]) -> None:
    network = run(_short(tricks={"release": 1.0}), data, 0)["network"]
    assert all(not layer.coef.any() for layer in network.modules() if isinstance(layer, KALayer) and layer.norm is not None)


def test_grids_that_become_finer_keep_the_function() -> None:
    network, other = (build_model("allukan-tiny", in_channels=1, out_channels=3, **INPUT).eval() for _ in range(2))
    training = Training(network, other, torch.optim.Adam(network.parameters()), steps=2, step=1)
    x = torch.rand(2, 1, 48, 48)
    before = network(x)
    TRICKS["refine"](2).act(training)
    assert torch.allclose(network(x), before, atol=1e-5)
    coefs = {id(layer.coef) for layer in training.splines()}
    assert coefs <= {id(p) for group in training.optimizer.param_groups for p in group["params"]}


def test_a_mirrored_activation_is_the_base_of_minus_t() -> None:
    network = build_model("allukan-tiny", in_channels=1, out_channels=3, **SMALL, spline={"sharing": 2})
    Mirror(1.0).build(network)
    t, (first, second) = network.encoder[1].units[0].activation_curves()
    assert torch.allclose(second, torch.nn.functional.silu(-t), atol=1e-5)
    assert torch.allclose(first, torch.nn.functional.silu(t), atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
@pytest.mark.parametrize("tricks", [{}, {"release": 0.5}, {"refine": 2}, {"straight": 1.0}], ids=str)
def test_recorded_steps_are_steps(data: dict[str, Slices], tricks: dict[str, Any]) -> None:
    rows = [_short(epochs=4, augment=("affine", "elastic", "intensity"), tricks=tricks), _short(epochs=2)]
    found = run_together([(rows[0], data, 0), (rows[1], data, 1), (rows[0], data, 2)])
    assert len({one["curve"][-1] for one in found}) == 3
    for (row, seed), one in zip([(rows[0], 0), (rows[1], 1)], found, strict=False):
        assert one["curve"] == pytest.approx(run(row, data, seed, "cuda")["curve"], rel=1e-2)


def test_many_at_once_are_for_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--together 2 is for a GPU"):
        cells.cells(tmp_path, "nano/twin/10", "0", Path(__file__), together=2)


def test_folds_of_pictures_test_every_image_once(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "set", 12, size=40)
    pictures(tmp_path / "set", tmp_path / "set.npz", size=32)
    folds = load_folds(tmp_path / "set.npz")
    assert sorted(torch.cat([fold["test"].subjects for fold in folds]).tolist()) == list(range(12))
    for fold in folds:
        assert sum(len(part.images) for part in fold.values()) == 12
    found = run(_short(steps=5, batch=2, turns=True), folds[0], 0)
    assert found["steps"] == 5
    assert len(found["scores"]["test"]) == len(folds[0]["test"].images)
    cells.cells(tmp_path / "cells", "", "", tmp_path / "set.npz")
    with pytest.raises(UserError, match=r"set.npz exists already"):
        pictures(tmp_path / "set", tmp_path / "set.npz")


def test_pictures_of_two_folds_are_two_trainings_with_images_of_their_own(tmp_path: Path) -> None:
    """As many columns as pictures: 2 of fold 0, which seeds 0 and 5 test, and 3 of fold 1. Oracle: the table, made by hand."""
    rows = {
        "layer": {0: [0.9, 0.7], 1: [0.8, 0.6, 0.5], 5: [0.7, 0.9]},
        "twin": {0: [0.6, 0.6], 1: [0.8, 0.5, 0.2], 5: [0.9, 0.8]},
    }
    for name, seeds in rows.items():
        for seed, dice in seeds.items():
            record = {
                "row": f"pictures/{name}/3",
                "seed": seed,
                "parameters": 1,
                "curve": [0.5],
                "scores": {"test": [[d] for d in dice]},
            }
            write_json(tmp_path / f"pictures-{name}-3@{seed}.json", record)
    [found] = [line for line in table.table(tmp_path, "test").rows if line["row"] == "pictures/layer/3"]
    nan = np.nan
    oracle = crossed_difference(
        100 * np.array([[0.3, 0.1, nan, nan, nan], [nan, nan, 0.0, 0.1, 0.3], [-0.2, 0.1, nan, nan, nan]])
    )
    assert found["difference"] == round(oracle.mean, 2)
    assert found["interval"] == [round(end, 2) for end in oracle.interval]


def test_rows_have_references_of_their_size() -> None:
    for name, row in ROWS.items():
        assert ROWS[row.against].epochs == row.epochs, name
        assert row.against.partition("/")[0] == name.partition("/")[0], name


@pytest.mark.parametrize("name", [name for name in ROWS if name.startswith("nano/") and not name.endswith("epochs")])
def test_rows_can_be_built(name: str) -> None:
    row = ROWS[name]
    with torch.device("meta"):
        network = build_model(row.model, in_channels=1, out_channels=3, **row.options)
    assert row.tricks.keys() <= TRICKS.keys()
    assert any(parameter.requires_grad for parameter in network.parameters())


def test_cells_are_trained_once_and_make_a_table(data, tmp_path, monkeypatch):
    rows = {"ka": _short(against="twin"), "twin": _short(model="convtwin-tiny", options=SMALL, against="twin")}
    monkeypatch.setattr(cells, "ROWS", rows)
    monkeypatch.setattr(table, "ROWS", rows)
    monkeypatch.setattr(cells, "_splits", lambda path: [data])
    here = Path(__file__)
    for _ in range(2):
        cells.cells(tmp_path, "twin,ka", "0,1", here)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ka@0.json", "ka@1.json", "twin@0.json", "twin@1.json"]
    found = {line["row"]: line for line in table.table(tmp_path).rows}
    cell = [[read_json(tmp_path / f"{row}@{seed}.json")["scores"]["val"] for seed in (0, 1)] for row in ("ka", "twin")]
    assert found["ka"]["difference"] == pytest.approx(100 * (np.mean(cell[0]) - np.mean(cell[1])), abs=0.006)
    assert "difference" not in found["twin"]
    (tmp_path / "ka@1.json").unlink()
    assert {row["row"]: row for row in table.table(tmp_path).rows}["ka"]["standard error"] is None
    assert found["ka"]["KA share, points"] is not None


@pytest.mark.slow
def test_the_frontier_has_what_dice_costs(tmp_path: Path) -> None:
    for row, dice in (("nano/twin/10", (0.8, 0.82, 0.84)), ("nano/input/10/10", (0.9, 0.9, 0.9)), ("tiny/twin/3", (0.7, 0.7))):
        for seed, value in enumerate(dice):
            record = {"row": row, "seed": seed, "scores": {"test": [[value, value]]}}
            write_json(tmp_path / f"{row.replace('/', '-')}@{seed}.json", record)
    rows = frontier(Settings("cpu", repeats=1, seconds=0.01), tmp_path).rows
    assert [(row["row"], row["Dice, %"]) for row in rows] == [("nano/twin/10", 82.0), ("nano/input/10/10", 90.0)]
    assert rows[0]["standard error"] == round(2 / 3**0.5, 2)
    assert rows[1]["saved_bytes"] < 0.5 * rows[0]["saved_bytes"]
    draw(tmp_path / "figure.svg", rows, {})
    assert (tmp_path / "figure.svg").stat().st_size > 10_000


@pytest.mark.skipif(not HIPPOCAMPUS.is_file(), reason="needs ../shared/data/hippocampus")
def test_the_slices_are_those_of_the_set() -> None:
    found = load_slices()
    assert len(found.images) == len(found.masks) == 5117
    assert len(found.subjects.unique()) == 260
    assert bool(found.masks.flatten(1).any(1).all())
