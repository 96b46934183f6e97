"""What a training leaves open is planned, what is set stays, and a budget of time is kept."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from allukan.data import Splits, open_dataset, write_phantoms
from allukan.data.volumes import Geometry, Image
from allukan.errors import UserError
from allukan.files import read_table
from allukan.inference import Predictor
from allukan.training import TrainConfig, pace, train
from allukan.training import run as run_module
from allukan.training.planned import planned
from tests.volume_sets import blob, decathlon


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Volumes of a set that calls itself CT, of which one has values that no other has."""
    random, root = np.random.default_rng(0), tmp_path_factory.mktemp("scans")
    cases = {f"c{i}": blob(random, (12, 20, 16)) for i in range(5)}
    cases = {name: ((image * 10 - 1500).astype(np.int16), labels) for name, (image, labels) in cases.items()}
    cases["c4"] = cases["c4"][0] + 3000, cases["c4"][1]
    decathlon(root, cases)
    description = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(description | {"modality": {"0": "CT"}}))
    (root / "splits.json").write_text(json.dumps({"train": ["c0", "c1", "c2"], "val": ["c3"], "test": ["c4"]}))
    return root, cases


def config(data, out="run", **given):
    options = {"model": "convtwin-tiny", "accelerator": "cpu", "devices": "1"}
    return TrainConfig(str(data), str(out), **{**options, **given})


def splits_of(data, test=1):
    ids = open_dataset(data).ids
    return Splits("clean", 0, ids[: -1 - test], ids[-1 - test : -test], ids[-test:])


def filled(data, **given):
    dataset = open_dataset(data)
    return planned(config(data, **given), dataset, splits_of(data), (1,), "cpu")


@pytest.fixture(scope="module")
def run(scans, tmp_path_factory):
    """A training on CT for a budget of time, cut to two epochs, with its own words and what it took an epoch to last."""
    said, log, timed = [], logging.getLogger("allukan"), []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pace, "epochs_for", lambda *times: timed.append(times) or 2)
        patch.setattr(pace, "_MORE", float("inf"))
        patch.setattr(log, "handlers", [handler])
        patch.setattr(log, "level", logging.INFO)
        out = tmp_path_factory.mktemp("ct") / "run"
        return train(config(scans[0], out, budget="10m", splits=str(scans[0] / "splits.json"))), said, timed


def test_ct_is_clipped_to_percentiles_of_the_foreground_of_training_volumes_alone(run, scans):
    inside = np.concatenate([image[labels > 0] for image, labels in (scans[1][f"c{i}"] for i in range(3))]).astype(float)
    wanted = [*np.percentile(inside, (0.5, 99.5)), inside.mean(), inside.std()]
    card, options = json.loads((run[0] / "model/config.json").read_text()), yaml.safe_load((run[0] / "config.yaml").read_text())
    assert card["intensities"][0] == pytest.approx(wanted)
    assert options["intensities"] == card["intensities"]


def test_metal_that_is_brighter_than_all_changes_nothing_in_a_prediction(run, scans):
    predictor, array = Predictor(run[0] / "model", "cpu"), scans[1]["c0"][0].astype(np.float32)
    bright = array >= predictor.card.intensities[0][1]
    assert 0 < bright.sum() < array.size / 10
    geometry = Geometry.of_pixels(array.shape, (1, 1, 1))
    first, second = (predictor(Image(values[None], geometry)).probabilities for values in (array, array + 2000 * bright))
    assert np.array_equal(first, second)


def test_a_budget_becomes_epochs_and_is_explained(run):
    folder, said, ((left, epoch),) = run
    options = yaml.safe_load((folder / "config.yaml").read_text())
    assert (options["budget"], options["epochs"]) == ("10m", 2)
    last = read_table(folder / "history.csv")[-1]
    assert int(last["epoch"]) == 2
    assert float(last["lr"]) < 0.003  # half way down the cosine
    assert 300 < left < 600
    assert 0 < epoch < 60
    (text,) = (line for line in said if "a 3D network" in line)
    assert "clipped to" in text
    assert "2 epochs of about" in text


def test_epochs_are_what_the_time_holds(monkeypatch):
    found = iter([2.0, 1.0])  # seconds a step, and a validation batch of two images
    monkeypatch.setattr(pace, "_seconds_a_batch", lambda *_: next(found))
    module = SimpleNamespace(to=lambda _: module, train=lambda: module, eval=lambda: None, release=lambda: None)
    module.parameter_groups = list
    module.config = SimpleNamespace(optimizer="adam")
    monkeypatch.setitem(pace.OPTIMIZERS, "adam", lambda groups: None)
    loaders = (range(10), type("Loader", (), {"__len__": lambda _: 2, "dataset": SimpleNamespace(ids="abcd")})())
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=pace.torch.device("cpu")), precision_plugin=None)
    measured = pace.measure_pace(trainer, module, loaders, tests=20)
    assert measured == (10 * 2.0 + (4 + 4) * 0.5, (2 * 20 + 4) * 0.5)  # likeness takes the validation images once more
    assert measured.epochs(1000.0) == int(0.97 * (1000 - 20) / 24)
    with pytest.raises(UserError, match="one epoch takes about 24 seconds and 0 seconds are left"):
        measured.epochs(5.0)


@pytest.mark.parametrize("planned", [10, 1])
def test_epochs_become_fewer_or_more_by_how_long_they_take(scans, tmp_path, monkeypatch, planned):
    """The clock says that each takes 100 s; the time is over after the second."""
    now = iter(range(0, 100_000, 100))
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: float(next(now))))
    monkeypatch.setattr(pace, "epochs_for", lambda *times: planned)
    monkeypatch.setattr(run_module, "time", SimpleNamespace(monotonic=lambda: 0.0))
    run = train(config(scans[0], tmp_path / "run", budget="290s", splits=str(scans[0] / "splits.json")))
    rows = read_table(run / "history.csv")
    assert len(rows) == yaml.safe_load((run / "config.yaml").read_text())["epochs"] == 2
    wanted = [1e-5 + (0.003 - 1e-5) * (1 + np.cos(np.pi * epoch / 2)) / 2 for epoch in range(2)]
    assert [float(row["lr"]) for row in rows] == pytest.approx(wanted)
    assert torch.load(run / "last.ckpt", weights_only=True)["epoch"] == 1


def test_folds_share_the_time(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(run_module, "go_on", lambda config, callbacks: given.append((config.fold, config.budget, config.epochs)))
    train(config("nowhere", tmp_path / "timed", folds=4, budget="10m"))
    train(config("nowhere", tmp_path / "usual", folds=2))
    assert given == [*((fold, "150.0s", None) for fold in range(4)), (0, None, 400), (1, None, 400)]


def test_what_is_set_wins_over_the_plan(scans):
    data = scans[0]
    strides = {"topology": {"strides": [2, 2]}}
    given = {"size": "16x24x16", "spacing_mm": "1.5,1,1.2", "batch_size": 3, "epochs": 7, "intensities": "image"}
    made, text = filled(data, **given, options=strides)
    assert (made.size, made.spacing_mm, made.batch_size, made.epochs) == ((16, 24, 16), (1.5, 1.0, 1.2), 3, 7)
    assert (made.intensities, made.options) == (("image",), strides)
    assert "patch or batch were set" in text
    free, _ = filled(data)
    assert (free.size, free.spacing_mm, free.batch_size, free.epochs) == ((16, 20, 12), (1.0, 1.0, 1.0), 2, 400)
    assert free.options["topology"]["strides"] == [[2, 2, 2], [2, 2, 1]]
    assert len(free.intensities[0]) == 4


def test_a_step_that_is_set_and_takes_more_than_is_there_is_said(scans):
    _, text = filled(scans[0], size="64x64x64", batch_size=8, memory="200MB")
    assert "Note: that is more than is given" in text
    with pytest.raises(UserError, match=r"the volumes alone take about .* MiB and 1\.0 MiB are given"):
        filled(scans[0], memory="1MiB", spacing_mm="0.3,0.3,0.3")


def test_pictures_are_planned_on_request_alone(tmp_path):
    write_phantoms(tmp_path, 12, 48, 0)
    as_ever, said = filled(tmp_path)
    assert (as_ever.size, as_ever.batch_size, as_ever.epochs, said) == ((256, 256), 8, 400, "")
    made, said = filled(tmp_path, memory="4GiB")
    assert (made.size, made.batch_size, made.epochs, made.intensities) == ((64, 64), 2, 400, ())
    assert "a 2D network, convtwin-tiny, on images of 64×64" in said
    assert filled(tmp_path, memory="4GiB", size=32, batch_size=5)[0].batch_size == 5
