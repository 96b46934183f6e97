"""What a training measures of its activations, and that measuring changes nothing else."""

import csv
import math
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from allukan.data import Splits, open_dataset, prepare, write_phantoms
from allukan.models import load_histograms, load_model, save_histograms
from allukan.nn.bend import median_bend, network_bends
from allukan.nn.histogram import collect_inputs
from allukan.training import TrainConfig, train
from allukan.training.bending import IMAGES, Bending
from allukan.training.callbacks import History


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bending") / "data"
    write_phantoms(folder, count=20, size=32, seed=0)
    return folder


def trained(data, out, **options):
    given = {"model": "allukan-tiny", "size": (32, 32), "epochs": 1, "batch_size": 4, "accelerator": "cpu", "devices": "1"}
    return train(TrainConfig(str(data), str(out), **{**given, **options}))


def column(run):
    return [row.get("bend") for row in csv.DictReader((run / "history.csv").read_text().splitlines())]


def first_images(run, data, card):
    """What the network is given of the first validation images."""
    dataset = open_dataset(data)
    images = prepare(dataset, dataset.select(Splits.load(run / "splits.json").val), card.size).images[:IMAGES]
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (card.mean, card.std))
    return (images / 255 - mean) / std


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"ema": 0.9}], ids=["plain", "ema"])
def test_history_and_model_folder_say_how_far_the_saved_weights_bend(data, tmp_path, options):
    run = trained(data, tmp_path / "run", **options)
    network, card = load_model(run / "model")
    met = collect_inputs(network, [first_images(run, data, card)])
    (bend,) = column(run)
    assert float(bend) == pytest.approx(median_bend(network, met), rel=1e-4)
    assert float(bend) > 0
    kept = load_histograms(run / "model", card.outline())
    assert kept.keys() == met.keys()
    assert all(kept[name].counts.sum() == met[name].counts.sum() for name in met)
    assert network_bends(network, kept) == pytest.approx(network_bends(network, met), rel=1e-4, abs=1e-6)


@pytest.mark.slow
def test_a_high_rate_for_splines_bends_them(data, tmp_path):
    bends = {rate: float(column(trained(data, tmp_path / str(rate), spline_lr=rate, epochs=2))[-1]) for rate in (1e-5, 3e-2)}
    assert bends[1e-5] < 0.001  # an activation starts as its base, which is bend 0
    assert bends[3e-2] > 0.03


@pytest.mark.slow
@pytest.mark.kernels
def test_the_default_training_bends_splines_and_the_one_of_before_did_not(data, tmp_path):
    bends = [float(column(trained(data, tmp_path / str(rate), spline_lr=rate, epochs=10))[-1]) for rate in (None, 3e-3)]
    assert bends[0] > 0.05
    assert bends[1] < 0.6 * bends[0]


def test_a_network_without_splines_has_no_such_column(data, tmp_path):
    run = trained(data, tmp_path / "run", model="convtwin-tiny")
    assert column(run) == [None]
    assert not (run / "model/activations.safetensors").exists()


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize("options", [{}, {"model": "ukan", "augment": ("affine",)}], ids=["batch norms", "U-KAN"])
def test_measuring_changes_nothing_of_a_training(data, tmp_path, monkeypatch, options):
    options = {"epochs": 2, "options": {} if options else {"topology": {"drop_path": 0.3}}, **options}
    measured = trained(data, tmp_path / "measured", **options)
    monkeypatch.setattr(Bending, "on_validation_epoch_end", lambda *_: None)
    plain = trained(data, tmp_path / "plain", **options)
    assert column(plain) == [None, None]
    assert all(float(bend) >= 0 for bend in column(measured))
    models = [load_file(run / "model/model.safetensors") for run in (measured, plain)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    last = [torch.load(run / "last.ckpt", weights_only=True) for run in (measured, plain)]
    assert all(torch.equal(last[0]["state_dict"][name], last[1]["state_dict"][name]) for name in last[0]["state_dict"])


def test_epochs_of_a_version_that_did_not_measure_have_no_bend(tmp_path):
    history = History(tmp_path / "history.csv")
    history.load_state_dict({"rows": [{"epoch": 1, "seconds": 1.0}]})
    history.rows.append({"epoch": 2, "bend": 0.5, "seconds": 1.0})
    history._write()
    assert (tmp_path / "history.csv").read_text() == "epoch,bend,seconds\n1,nan,1.0\n2,0.5,1.0\n"
    assert math.isnan(float(column(tmp_path)[0]))


def test_what_was_met_is_written_beside_a_model_and_refused_for_another(data, tmp_path):
    from allukan.errors import UserError
    from allukan.nn import KALinear, Spline

    layer = torch.nn.Sequential(KALinear(4, 3, spline=Spline(sharing="input")))
    with pytest.raises(UserError, match=r"activations\.safetensors is missing"):
        load_histograms(tmp_path, layer)
    met = collect_inputs(layer, [5 * torch.randn(100, 4)])
    save_histograms(tmp_path, met)
    kept = load_histograms(tmp_path, layer)["0"]
    assert torch.equal(kept.intervals(layer[0].spline), met["0"].intervals(layer[0].spline))
    assert torch.equal(kept.points()[:, [0, -1]], met["0"].points()[:, [0, -1]])
    with pytest.raises(UserError, match="of another model"):
        load_histograms(tmp_path, torch.nn.Sequential(KALinear(4, 3)))
    (tmp_path / "activations.safetensors").write_bytes(b"{}")
    with pytest.raises(UserError, match="cannot be read"):
        load_histograms(tmp_path, layer)


@pytest.mark.slow
def test_a_compiled_network_is_measured(data, tmp_path, monkeypatch):
    """With the graph that ``torch.compile`` takes, run by torch itself."""
    torch._dynamo.reset()
    compile = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compile(self, backend="aot_eager"))
    plain, compiled = (column(trained(data, tmp_path / str(how), compile=how, spline_lr=0.01)) for how in (False, True))
    assert float(compiled[0]) == pytest.approx(float(plain[0]), rel=0.05)


@pytest.mark.slow
def test_two_processes_measure_all_their_images_once(data, tmp_path):
    arguments = ["train", str(data), "--out", str(tmp_path / "run"), "--model", "allukan-tiny", "--size", "32", "--epochs", "1"]
    arguments += ["--batch-size", "4", "--accelerator", "cpu", "--devices", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "allukan", *arguments], capture_output=True, text=True, encoding="utf-8", check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    network, card = load_model(tmp_path / "run/model")
    met = collect_inputs(network, [first_images(tmp_path / "run", data, card)])
    kept = load_histograms(tmp_path / "run/model", network)
    assert all(torch.equal(kept[name].counts.sum(1), met[name].counts.sum(1)) for name in met)
    assert float(column(tmp_path / "run")[0]) == pytest.approx(median_bend(network, met), rel=1e-3)
