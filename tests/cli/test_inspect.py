import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from allukan.costs import parameter_count
from allukan.files import read_table
from allukan.inference import LikenessCheck, Predictor
from allukan.models import ModelCard, build_model, save_model


def test_stages_and_json(shell, tmp_path):
    done = shell("inspect", "convtwin-tiny", "--size", "64x96", "--json", tmp_path / "i.json")
    assert done.code == 0, done
    assert "1 × 3 × 64 × 96" in done.out
    assert "encoder.0 " in done.out
    assert "encoder.0.0" not in done.out
    found = json.loads((tmp_path / "i.json").read_text())
    assert found["total"]["parameters"] == parameter_count(build_model("convtwin-tiny", in_channels=3, out_channels=1))
    assert f"{found['total']['parameters']:,}" in done.out
    assert {"layers", "stages", "input", "model"} <= found.keys()


def test_options_reach_the_model(shell):
    options = ["--channels", 1, "--classes", 3, "--dims", 3, "--size", 64, "--set", "spline.sharing=4", "--set", "norm=group"]
    out = shell("inspect", "allukan-tiny", "--layers", *options).out
    assert "1 × 1 × 64 × 64 × 64" in out
    assert "KAConv3d 3×3×3" in out
    assert "GroupNorm" in out
    assert "3×64×64×64" in out


def test_a_trained_model_brings_its_own_options(shell, trained):
    out = shell("inspect", trained / "model", "--size", 64).out
    assert "allukan-tiny, 1 × 1 × 64 × 64" in out
    sentence = shell("inspect", trained / "model", "--channels", 1, "--set", "norm=group").sentence
    assert "--channels, --set" in sentence


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["allukan-tyny"], "did you mean 'allukan-tiny'"),
        (["convtwin-tiny", "--size", "big"], "--size 'big'"),
        (["convtwin-tiny", "--size", "64x64x64"], "256x192 for 2 dimensions"),
        (["convtwin-tiny", "--size", "16"], "16x16 pixels"),
        (["convtwin-tiny", "--dims", "4"], "--dims 4"),
        (["convtwin-tiny", "--channels", "0"], "--channels 0"),
        (["convtwin-tiny", "--set", "spline"], "NAME=VALUE"),
        (["convtwin-tiny", "--set", "spline.grid=8"], "grid"),
        (["convtwin-tiny", "--set", "norm=layer"], "norm 'layer'"),
        (["convtwin-tiny", "--size", "64", "--json", "nowhere/i.json"], "nowhere/i.json"),
    ],
)
def test_wrong_use(shell, options, word):
    assert word in shell("inspect", *options).sentence


def test_a_volume_with_strides_of_its_own(shell, tmp_path):
    options = [
        "--set",
        "topology.strides=[[1,2,2],2,2]",
        "--set",
        "topology.kernels=[[1,3,3],3,3,3]",
        "--json",
        tmp_path / "i.json",
    ]
    done = shell("inspect", "allukan-tiny", "--size", "40x56x40", "--dims", 3, *options)
    assert done.code == 0, done
    assert "KAFork3d 1×3×3" in shell("inspect", "allukan-tiny", "--size", "40x56x40", "--dims", 3, "--layers", *options).out
    found = {row["name"]: row["output"][2:] for row in json.loads((tmp_path / "i.json").read_text())["stages"]}
    assert (found["encoder.2"], found["decoder.0"], found["head"]) == ([20, 14, 10], [10, 7, 5], [40, 56, 40])
    wrong = shell("inspect", "allukan-tiny", "--size", "40x56x40", "--dims", 3, "--set", "topology.strides=[[2,2],2]")
    assert "strides must name 3 axes, got [2, 2]" in wrong.sentence
    wrong = shell("inspect", "allukan-tiny", "--size", "40x56x40", "--dims", 3, "--set", "topology.strides=[3,2]")
    assert "strides must be one to nine of 1 or 2" in wrong.sentence


def test_a_folder_that_is_no_model(shell, tmp_path):
    assert "no trained model" in shell("inspect", tmp_path).sentence


def test_activations_of_a_run(shell, trained, tmp_path):
    done = shell("inspect", trained / "model", "--activations", "--json", tmp_path / "a.json")
    assert done.code == 0, done
    assert "dead intervals" in done.out
    assert "over 2 validation images" in done.out
    found = json.loads((tmp_path / "a.json").read_text())
    history = list(csv.DictReader((trained / "history.csv").read_text().splitlines()))
    best = max(history, key=lambda row: float(row["val_iou"]))
    assert found["dice"] == pytest.approx(100 * float(best["val_dice"]), abs=0.01)
    assert found["bend"] == pytest.approx(float(best["bend"]), rel=1e-3)
    layers = {layer["name"]: layer for layer in found["layers"]}
    assert len(layers) == 43
    assert all(layer["ka_share"] is not None and 0 <= layer["outside"] < 1 for layer in layers.values())
    assert all(name in done.out for name in layers)


def test_activations_of_a_model_without_its_run(shell, trained, tmp_path):
    shutil.copytree(trained / "model", tmp_path / "model")
    done = shell("inspect", tmp_path / "model", "--activations", "--json", tmp_path / "a.json")
    assert done.code == 0, done
    assert "no KA share" in done.out
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["ka_share"] is found["dice"] is found["layers"][0]["ka_share"] is None
    best = max(csv.DictReader((trained / "history.csv").read_text().splitlines()), key=lambda row: float(row["val_iou"]))
    assert found["bend"] == pytest.approx(float(best["bend"]), rel=1e-3)
    (tmp_path / "model/activations.safetensors").unlink()  # as version 0.1 saved it
    assert "older versions" in shell("inspect", tmp_path / "model", "--activations").sentence


def test_wrong_use_of_activations(shell, trained, tmp_path):
    assert "leave --size" in shell("inspect", trained / "model", "--activations", "--size", 64).sentence
    assert "a trained model" in shell("inspect", "allukan-tiny", "--activations").sentence
    card = ModelCard("convtwin-tiny", 1, ("lesion",), "binary", (32, 32), (0.0,), (1.0,))
    save_model(tmp_path / "twin", card.build(), card)
    assert "no learned activations" in shell("inspect", tmp_path / "twin", "--activations").sentence


@pytest.mark.slow
def test_atlas_of_a_run(shell, trained, tmp_path):
    done = shell("inspect", trained / "model", "--atlas", "--out", tmp_path / "deep/a.html", "--json", tmp_path / "a.json")
    assert done.code == 0, done
    assert "dead intervals" not in done.out  # the table is that of --activations
    page = (tmp_path / "deep/a.html").read_text()
    found = json.loads((tmp_path / "a.json").read_text())
    assert page.count('class="card ') == len(found["layers"]) == 43
    assert all(f'data-layer="{layer["name"]}"' in page for layer in found["layers"])
    assert "After epoch" in page
    assert "2 validation images are too few to tell others from them" in done.out
    assert not (trained / "model/likeness.safetensors").exists()


@pytest.mark.slow
def test_a_training_and_the_atlas_keep_by_what_predict_tells_other_images(shell, phantoms, tmp_path):
    names = sorted(path.stem for path in (phantoms / "images").iterdir())
    split = {"train": names[:13], "val": names[13:22], "test": names[22:]}  # of 9 images it is calibrated
    (tmp_path / "split.json").write_text(json.dumps(split), encoding="utf-8")
    run, fast = tmp_path / "run", ["--model", "allukan-tiny", "--size", 32, "--epochs", 1, "--accelerator", "cpu"]
    assert shell("train", phantoms, "--out", run, *fast, "--splits", tmp_path / "split.json").code == 0
    of_training = LikenessCheck.of(Predictor(run / "model", "cpu"), run / "model")
    done = shell("inspect", run / "model", "--atlas", "--out", tmp_path / "a.html")
    assert "of 9 images" in done.out
    image = np.zeros((48, 48), np.uint8)
    check = LikenessCheck.of(Predictor(run / "model", "cpu"), run / "model")
    assert check(image) > check.threshold
    assert of_training.threshold == pytest.approx(check.threshold, rel=1e-4)
    Image.fromarray(image).save(tmp_path / "black.png")
    done = shell("predict", run, tmp_path / "black.png", "--out", tmp_path / "out")
    assert "1 of 1 images are unlike those of the training: look at black (likeness.csv)" in done.out + done.err
    (row,) = read_table(tmp_path / "out/likeness.csv")
    assert (float(row["score"]), float(row["threshold"]), row["unlike"]) == (check(image), check.threshold, "True")


@pytest.mark.slow
def test_atlas_of_a_model_without_its_run(shell, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / "model", tmp_path / "model")
    done = shell("inspect", "model", "--atlas", "--activations")
    assert done.code == 0, done
    assert "dead intervals" in done.out
    page = (tmp_path / "atlas.html").read_text()
    assert "appears here when the command finds the run folder" in page
    assert "After epoch" not in page
    assert not (tmp_path / "model/likeness.safetensors").exists()


@pytest.mark.slow
def test_wrong_use_of_the_atlas(shell, trained, tmp_path):
    assert "leave --size" in shell("inspect", trained / "model", "--atlas", "--size", 64).sentence
    assert "add --atlas" in shell("inspect", trained / "model", "--activations", "--out", "a.html").sentence
    assert "is a folder" in shell("inspect", trained / "model", "--atlas", "--out", tmp_path).sentence
    shutil.copytree(trained / "model", tmp_path / "run/model")
    (tmp_path / "run/coefficients.safetensors").write_bytes(b"{}")
    assert "coefficients.safetensors cannot be read" in shell("inspect", tmp_path / "run/model", "--atlas").sentence
    (tmp_path / "run/model/activations.safetensors").unlink()
    assert "older versions" in shell("inspect", tmp_path / "run/model", "--atlas").sentence
    card = ModelCard("convtwin-tiny", 1, ("lesion",), "binary", (32, 32), (0.0,), (1.0,))
    save_model(tmp_path / "twin", card.build(), card)
    assert "no learned activations" in shell("inspect", tmp_path / "twin", "--atlas").sentence
