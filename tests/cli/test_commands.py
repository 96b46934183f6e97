import csv
import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from PIL import Image

FAST = ["--model", "allukan-tiny", "--size", "32", "--epochs", "1", "--accelerator", "cpu", "--devices", "1"]


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['allukan', '--help']\ntry:\n import allukan.cli.main as m; m.main()\nexcept SystemExit: pass\n"
    )
    code += (
        "heavy = {'torch', 'monai', 'numpy', 'matplotlib', 'pytorch_lightning', 'scipy', 'sklearn', 'PIL'} & set(sys.modules)\n"
    )
    code += "assert not heavy, heavy"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout
    assert time.perf_counter() - start < 10  # only a hang fails here; the speed itself is measured in benchmarks


def test_version_and_no_arguments(shell):
    assert "allukan 0." in shell("--version").out
    assert "Usage" in shell().out


def test_training_leaves_everything_that_it_promises(trained):
    files = {"config.yaml", "splits.json", "history.csv", "last.ckpt", "model", "tensorboard"}
    assert files <= {p.name for p in trained.iterdir()}
    assert {p.name for p in (trained / "model").iterdir()} == {"activations.safetensors", "config.json", "model.safetensors"}
    with (trained / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"train_loss", "val_loss", "val_dice", "val_iou", "val_iou_pooled", "bend", "lr", "seconds"} <= rows[0].keys()
    assert yaml.safe_load((trained / "config.yaml").read_text())["weight_decay"] == 1e-4
    assert list((trained / "tensorboard").glob("events*"))


def test_train_from_the_shell_with_yaml(shell, phantoms, tmp_path):
    (tmp_path / "c.yaml").write_text("model: convtwin-tiny\nsize: 32\nepochs: 3\naccelerator: cpu\n")
    done = shell("train", phantoms, "--out", tmp_path / "run", "--config", tmp_path / "c.yaml", "--epochs", 1, "--devices", 1)
    assert done.code == 0, done
    assert "allukan evaluate" in done.out
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["model"] == "convtwin-tiny"


def test_spline_options_reach_the_model(shell, phantoms, tmp_path):
    options = ["--sharing", "2", "--input-grad", "free", "--set", "options.spline.grid_size=7", "--set", "options.norm=group"]
    assert shell("train", phantoms, "--out", tmp_path / "run", *FAST, *options).code == 0
    from allukan import load_model

    model, card = load_model(tmp_path / "run/model")
    assert card.options == {"norm": "group", "spline": {"sharing": 2, "input_grad": "free", "grid_size": 7}}
    assert model.encoder[0].units[1].coef.shape == (2, 10)


def test_evaluate_writes_cases_and_summary(shell, trained, tmp_path):
    done = shell("evaluate", trained, "--out", tmp_path / "e", "--device", "cpu")
    assert done.code == 0, done
    with (tmp_path / "e/cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["id"] for row in rows) == sorted(json.loads((trained / "splits.json").read_text())["test"])
    assert {"iou", "dice", "hd95", "surface_dice", "status", "class"} <= rows[0].keys()
    summary = json.loads((tmp_path / "e/summary.json").read_text())
    assert (summary["subset"], summary["distance_unit"]) == ("test", "pixel")


def test_evaluate_on_other_data_in_millimetres(shell, trained, phantoms, tmp_path):
    done = shell("evaluate", trained, "--data", phantoms, "--spacing-mm", "0.5,0.5", "--out", tmp_path, "--device", "cpu")
    assert done.code == 0, done
    assert len((tmp_path / "cases.csv").read_text().splitlines()) == 25
    assert json.loads((tmp_path / "summary.json").read_text())["distance_unit"] == "mm"


def test_the_ukan_protocol_reports_its_pooled_figures(shell, phantoms, tmp_path):
    run = tmp_path / "run"
    assert shell("train", phantoms, "--out", run, *FAST, "--protocol", "ukan").code == 0
    splits = json.loads((run / "splits.json").read_text())
    assert splits["val"] == splits["test"]
    assert shell("evaluate", run, "--device", "cpu").code == 0
    figures = json.loads((run / "evaluation/summary.json").read_text())["ukan"]
    with (run / "history.csv").open() as file:
        assert figures["iou_pooled"] == pytest.approx(float(next(csv.DictReader(file))["val_iou_pooled"]), abs=1e-4)


@pytest.mark.parametrize("mode", ["resize", "sliding"])
def test_predict_keeps_the_geometry_and_reports_what_it_cannot_read(shell, trained, phantoms, tmp_path, mode):
    inputs = tmp_path / "in"
    (inputs / "deep").mkdir(parents=True)
    first = sorted((phantoms / "images").iterdir())[0]
    Image.open(first).resize((71, 53)).save(inputs / "deep" / "odd.png")
    Image.open(first).convert("RGBA").save(inputs / "alpha.png")
    (inputs / "text.png").write_text("not an image")
    out = tmp_path / "out"
    options = ["--probabilities", "--tta", "--mode", mode, "--device", "cpu"]
    done = shell("predict", trained / "model", inputs, "--out", out, *options)
    assert done.code == 2
    assert "text.png" in done.err
    assert "2 of 3" in done.out
    mask = np.asarray(Image.open(out / "masks/deep/odd.png"))
    assert mask.shape == (53, 71)
    assert set(np.unique(mask)) <= {0, 255}
    probabilities = np.load(out / "probabilities/deep/odd.npz")["probabilities"]
    clear = np.abs(probabilities[0].astype(float) - 0.5) > 1e-3  # beyond the rounding of float16
    assert np.array_equal((probabilities[0] > 0.5)[clear], (mask > 0)[clear])
    assert np.asarray(Image.open(out / "overlays/alpha.png")).shape == (48, 48, 3)


def test_predict_groups_the_channels_of_an_image(shell, tmp_path):
    from allukan import Predictor
    from allukan.models import ModelCard, build_model, save_model

    card = ModelCard("convtwin-tiny", 2, ("a",), "binary", (32, 32), (0.5, 0.5), (0.2, 0.2))  # as version 0.1 saved it
    model = save_model(tmp_path / "model", build_model("convtwin-tiny", in_channels=2, out_channels=1), card)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 2), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    for name, image in zip("AB", images, strict=True):
        for channel in range(2):
            Image.fromarray(image[..., channel]).save(tmp_path / f"in/{name}_{channel:04d}.png")
    (tmp_path / "in/B_0001.png").unlink()
    done = shell("predict", model, tmp_path / "in", "--out", tmp_path / "out", "--device", "cpu")
    assert "lacks *_0001: the model expects 2 files an image, *_0000 and *_0001." in done.sentence
    assert "1 of 2 images" in done.out
    assert [path.name for path in (tmp_path / "out/masks").iterdir()] == ["A.png"]
    expected = Predictor(model, "cpu")(images[0]).masks[0]
    assert 0 < expected.mean() < 1
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out/masks/A.png")) > 0, expected)


@pytest.mark.slow
def test_demo_from_start_to_report(shell, tmp_path):
    done = shell("demo", "--out", tmp_path / "d", "--epochs", 1, "--count", 40, "--size", 32)
    assert done.code == 0, done
    assert (tmp_path / "d/report.html").is_file()
    assert "is not empty" in shell("demo", "--out", tmp_path / "d").sentence


def test_classes_of_other_data_are_mapped_from_the_shell(shell, trained, phantoms, tmp_path):
    shutil.copytree(phantoms, tmp_path / "other")
    (tmp_path / "other/masks/0").rename(tmp_path / "other/masks/cyst")
    call = ["evaluate", trained, "--data", tmp_path / "other", "--out", tmp_path / "out"]
    done = shell(*call, "--map", "cyst=0")
    assert done.code == 0
    assert json.loads((tmp_path / "out/summary.json").read_text(encoding="utf-8"))["mapping"] == {"cyst": "0"}
    assert "images were in the training" in done.out
    assert "nothing can be scored" in shell(*call, "--map", "cyst=none").sentence
    assert "has no class 'x', only cyst" in shell(*call, "--map", "x=0").sentence
    assert "write CLASS_OF_THE_DATA=CLASS_OF_THE_MODEL" in shell(*call, "--map", "cyst").sentence
    assert "--groups belongs to --data" in shell("evaluate", trained, "--groups", "re:x").sentence


def test_labels_are_ignored_and_merged_from_the_shell(shell, phantoms, tmp_path):
    call = ["train", phantoms, "--model", "convtwin-tiny", "--size", 32, "--epochs", 1, "--accelerator", "cpu", "--devices", 1]
    assert shell(*call, "--out", tmp_path / "run", "--foreground", "--ignore", 128).code == 0
    options = (tmp_path / "run/config.yaml").read_text(encoding="utf-8")
    assert "foreground: true" in options
    assert "ignore: 128" in options
    assert '"foreground"' in (tmp_path / "run/model/config.json").read_text(encoding="utf-8")
    assert "option ignore must be the value of the label" in shell(*call, "--out", tmp_path / "no", "--ignore", "some").sentence
