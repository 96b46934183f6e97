"""Whole trainings, small: resuming is exact, and every kind of target learns."""

import csv
import logging
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from allukan.data import Splits, write_image, write_phantoms
from allukan.errors import UserError
from allukan.inference import Predictor, evaluate, open_run
from allukan.options import DICE_LOSSES
from allukan.training import TrainConfig, load_config, resume_config, train
from allukan.training.augmentation import AUGMENTATIONS
from allukan.training.callbacks import History


def config(data, out, **options):
    return TrainConfig(
        str(data), str(out), **{"model": "allukan-tiny", "size": (32, 32), "accelerator": "cpu", "devices": "1", **options}
    )


class Interrupted(Exception):
    """Stands for a power cut."""


DROPPED = {"topology": {"drop_path": 0.3}}


@pytest.mark.slow
@pytest.mark.kernels
@pytest.mark.parametrize(
    "given", [{}, {"snapshots": 3}, {"ema": 0.9, "augment": ("affine", "speckle"), "warmup": 1.5, "options": DROPPED}]
)
def test_a_resumed_run_ends_as_if_never_interrupted(tmp_path, monkeypatch, given):
    write_phantoms(tmp_path / "data", count=20, size=32, seed=0)
    whole = train(config(tmp_path / "data", tmp_path / "whole", epochs=3, **given))
    write = History._write

    def cut(self):
        if len(self.rows) == 2:
            raise Interrupted
        write(self)

    monkeypatch.setattr(History, "_write", cut)
    with pytest.raises(Interrupted):
        train(config(tmp_path / "data", tmp_path / "cut", epochs=3, **given))
    monkeypatch.setattr(History, "_write", write)
    resumed = train(resume_config(tmp_path / "cut", {}), resume=True)
    states = [torch.load(run / "last.ckpt", weights_only=True)["state_dict"] for run in (whole, resumed)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    columns = [[line.rsplit(",", 1)[0] for line in (run / "history.csv").read_text().splitlines()] for run in (whole, resumed)]
    assert columns[0] == columns[1]  # all but the seconds
    models = [load_file(run / "model/model.safetensors") for run in (whole, resumed)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


@pytest.fixture(scope="module")
def plainly_trained(tmp_path_factory):
    """Data, and the weights that a training of two epochs without further options ends with and keeps."""
    folder = tmp_path_factory.mktemp("plain")
    write_phantoms(folder / "data", count=12, size=32, seed=0)
    return folder / "data", trained_weights(train(config(folder / "data", folder / "run", epochs=2, batch_size=4)))


def trained_weights(run):
    return load_file(run / "model/model.safetensors"), torch.load(run / "last.ckpt", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        {"spline_lr": 0.02},
        {"spline_decay": 0.1},
        {"spline_smoothness": 1.0},
        {"ema": 0.9},
        {"snapshots": 2},
        {"warmup": 1.5},
        {"optimizer": "adamw"},
        *({"dice": name} for name in DICE_LOSSES if name != "image"),
        {"options": DROPPED},
        {"options": {"topology": {"deep_supervision": True}}},
        *({"augment": (name,)} for name in AUGMENTATIONS),
    ],
)
def test_every_option_changes_what_is_trained(plainly_trained, tmp_path, given):
    data, (_, plain) = plainly_trained
    _, changed = trained_weights(train(config(data, tmp_path / "run", epochs=2, batch_size=4, **given)))
    name = "network.head.coef"
    assert not torch.equal(changed["state_dict"][name], plain["state_dict"][name])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("healthy", "given", "dice"),
    [
        (0, {}, "image"),
        (6, {}, "batch"),
        (6, {"dice": "present"}, "present"),
        (6, {"protocol": "ukan"}, "image"),
    ],
)
def test_dice_is_of_batches_where_images_often_lack_a_class(tmp_path, caplog, healthy, given, dice):
    caplog.set_level("INFO", "allukan")
    write_phantoms(tmp_path / "data", count=12, size=32, seed=0)
    for path in sorted((tmp_path / "data/masks/0").iterdir())[:healthy]:
        write_image(path, np.zeros((32, 32), np.uint8))
    wanted = config(tmp_path / "data", tmp_path / "run", epochs=1, **{"batch_size": 4, **given})
    run = train(wanted)
    assert load_config(run / "config.yaml", {"out": str(run)}).dice == dice
    assert ("Loss: Dice of whole batches" in caplog.text) == (dice == "batch")
    train(replace(wanted, epochs=2), resume=True)  # what was taken once holds
    assert load_config(run / "config.yaml", {"out": str(run)}).dice == dice


@pytest.mark.slow
def test_snapshots_are_averaged_over_the_last_epochs(plainly_trained, tmp_path):
    """The trained weights are those without it; what is kept at the end is the mean of what the last three epochs end with."""
    data, _ = plainly_trained
    ends = [plain_end(data, tmp_path / str(epochs), epochs) for epochs in (1, 2, 3, 4)]
    _, last = trained_weights(train(config(data, tmp_path / "run", epochs=4, batch_size=4, snapshots=3, **FLAT)))
    for name, value in last["current_model_state"].items():
        assert torch.equal(value, ends[3][name]), name
        if value.is_floating_point():
            torch.testing.assert_close(last["state_dict"][name], sum(end[name] for end in ends[1:]) / 3)


FLAT = {"lr": 1e-5, "spline_lr": 1e-5}  # at which the cosine is flat: a shorter training is the start of a longer one


def plain_end(data, out, epochs):
    return trained_weights(train(config(data, out, epochs=epochs, batch_size=4, **FLAT)))[1]["state_dict"]


def test_the_average_is_what_is_validated_and_kept(plainly_trained, tmp_path):
    data, _ = plainly_trained
    run = train(config(data, tmp_path / "run", epochs=1, batch_size=2, ema=0.9))
    kept, last = trained_weights(run)
    for name, value in kept.items():
        assert torch.equal(value, last["state_dict"][f"network.{name}"]), name
    trained = last["current_model_state"]
    assert not torch.equal(trained["network.head.weight"], kept["head.weight"])
    rows = (run / "history.csv").read_text().splitlines()
    reported = float(rows[1].split(",")[rows[0].split(",").index("val_iou")])
    scores = evaluate(open_run(run), subset="val", predictor=Predictor(run / "model", "cpu"))
    assert next(iter(scores["classes"].values()))["iou"]["mean"] == pytest.approx(reported, abs=1e-3)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"model": "convtwin-tiny", "spline_lr": 0.02}, "no splines: leave spline_lr out"),
        ({"model": "unet", "spline_decay": 0.02}, "no splines: leave spline_decay out"),
        ({"spline_smoothness": 0.1, "options": {"spline": {"basis": "fourier"}}}, "leave spline_smoothness out"),
    ],
)
def test_options_that_would_do_nothing_are_refused(plainly_trained, tmp_path, given, word):
    with pytest.raises(UserError, match=word):
        train(config(plainly_trained[0], tmp_path / "run", **given))
    assert not (tmp_path / "run").exists()


def shapes(root, layout):
    """Bright squares and dark stripes on grey: two classes anyone can learn."""
    rng = np.random.default_rng(0)
    for i in range(24):
        image = rng.normal(120, 5, (32, 32))
        labels = np.zeros((32, 32), np.uint8)
        y, x = rng.integers(2, 20, 2)
        labels[y : y + 9, x : x + 9] = 1
        labels[:, (x + 14) % 28 : (x + 14) % 28 + 4] = 2
        image[labels == 1], image[labels == 2] = 220, 20
        (root / "images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / "images" / f"{i:02d}.png")
        masks = (
            {"": labels}
            if layout == "label-maps"
            else {"square": (labels == 1) * np.uint8(255), "stripe": (labels == 2) * np.uint8(255)}
        )
        for name, mask in masks.items():
            (root / "masks" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(root / "masks" / name / f"{i:02d}.png")
    return root


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "target"), [("label-maps", "multiclass"), ("folders", "multilabel")])
def test_several_classes_are_learned(tmp_path, layout, target):
    data = shapes(tmp_path / "data", layout)
    run = train(config(data, tmp_path / "run", epochs=15, batch_size=4, lr=1e-2))
    predictor = Predictor(run / "model", "cpu")
    assert predictor.card.target == target
    summary = evaluate(open_run(run), predictor=predictor)
    assert len(summary["classes"]) == 2
    assert min(figures["dice"]["mean"] for figures in summary["classes"].values()) > 0.6
    prediction = predictor(np.zeros((41, 37), np.uint8))
    assert prediction.masks.shape == (2, 41, 37)
    assert prediction.probabilities.shape == (3 if target == "multiclass" else 2, 41, 37)
    if target == "multiclass":
        assert prediction.masks.sum(0).max() <= 1
        np.testing.assert_allclose(prediction.probabilities.sum(0), 1, atol=1e-5)


def cosine(epoch, epochs, lr, floor=1e-5):
    return floor + (lr - floor) * (1 + math.cos(math.pi * epoch / epochs)) / 2


@pytest.mark.slow
def test_a_longer_training_goes_on_with_the_cosine_of_its_new_length(plainly_trained, tmp_path, caplog):
    data, _ = plainly_trained
    given = {"batch_size": 4, "spline_lr": 0.02}
    run = train(config(data, tmp_path / "run", epochs=2, **given))
    train(resume_config(run, {"epochs": 5}), resume=True)
    rows = list(csv.DictReader((run / "history.csv").read_text().splitlines()))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5]
    last = torch.load(run / "last.ckpt", weights_only=True)
    base = last["lr_schedulers"][0]["base_lrs"]
    expected = [cosine(0, 2, base[0]), cosine(1, 2, base[0]), *(cosine(epoch, 5, base[0]) for epoch in (2, 3, 4))]
    assert [float(row["lr"]) for row in rows] == pytest.approx(expected, rel=1e-9)
    assert set(base) == {3e-3, 0.02}
    assert last["lr_schedulers"][0]["_last_lr"] == pytest.approx([1e-5] * len(base), rel=1e-6)  # all end where a new one ends
    assert resume_config(run, {}).epochs == 5
    before = (run / "last.ckpt").read_bytes()
    caplog.clear()
    with caplog.at_level("INFO", "allukan"):
        assert train(resume_config(run, {}), resume=True) == run
    assert caplog.messages == [f"nothing is left to do: {run} has had its 5 epochs; add --epochs with more to train longer."]
    assert (run / "last.ckpt").read_bytes() == before


def test_checkpoints_that_cannot_be_continued_change_nothing(plainly_trained, tmp_path):
    data, _ = plainly_trained
    run = train(config(data, tmp_path / "run", epochs=1, batch_size=4))
    whole, options = (run / "last.ckpt").read_bytes(), (run / "config.yaml").read_text()
    last = torch.load(run / "last.ckpt", weights_only=True)
    older = {name: value for name, value in last.items() if name != "lr_schedulers"}
    spoiled = {**last, "state_dict": {**last["state_dict"], "network.head.weight": last["state_dict"]["network.head.weight"] / 0}}
    for content, word in (
        (whole[: len(whole) // 2], "not a readable checkpoint"),
        (b"", "not a readable checkpoint"),
        (older, "another version of allukan, it lacks lr_schedulers: start the run anew"),
        (spoiled, r"network\.head\.weight holds values that are not finite"),
    ):
        if isinstance(content, bytes):
            (run / "last.ckpt").write_bytes(content)
        else:
            torch.save(content, run / "last.ckpt")
        with pytest.raises(UserError, match=word):
            train(resume_config(run, {"epochs": 9}), resume=True)
        assert (run / "config.yaml").read_text() == options


@pytest.mark.parametrize(("count", "batch"), [(9, 8), (3, 8), (8, 4)])
def test_an_odd_number_of_images_trains_in_whole_batches(tmp_path, monkeypatch, count, batch):
    """Nine images in batches of eight leave one over, which is left out; three make one batch."""
    write_phantoms(tmp_path / "data", count=14, size=32, seed=0)
    names = sorted(path.stem for path in (tmp_path / "data/images").iterdir())
    splits = Splits("clean", 0, tuple(names[:count]), tuple(names[count : count + 1]), tuple(names[count + 1 :]))
    monkeypatch.setattr("allukan.training.run._splits", lambda *_: (splits, ()))
    run = train(config(tmp_path / "data", tmp_path / "run", epochs=2, batch_size=batch, model="convtwin-tiny"))
    rows = list(csv.DictReader((run / "history.csv").read_text().splitlines()))
    assert all(math.isfinite(float(value)) for row in rows for value in row.values())


@pytest.mark.slow
def test_what_a_norm_or_the_devices_cannot_do_is_said_before(plainly_trained, tmp_path):
    data, _ = plainly_trained
    for given, word in (
        ({"batch_size": 1}, "batch norm has a single value a channel at size 32x32 with one image a step and device"),
        ({"options": {"norm": "instance"}}, "instance norm has a single value a channel at size 32x32"),
        ({"devices": "99"}, r"99 devices cannot share \d+ training images: give --devices \d+ at most"),
        ({"devices": "8", "batch_size": 2}, "one image a step and device"),  # the images make batches of one
    ):
        with pytest.raises(UserError, match=word):
            train(config(data, tmp_path / "run", **given))
        assert not (tmp_path / "run").exists()
    train(config(data, tmp_path / "run", epochs=1, batch_size=1, options={"norm": "group"}))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ for a CPU, which is not there")
def test_a_compiled_training_learns_the_same(tmp_path):
    torch._dynamo.reset()  # or sizes that other tests compiled make these dynamic, which takes minutes
    write_phantoms(tmp_path / "data", count=12, size=32, seed=0)
    small = {"topology": {"widths": [4, 8], "strides": [2, 2], "depth": 1, "token_depth": 1}}
    options = {
        "model": "convtwin-tiny",
        "options": small,
        "epochs": 1,
        "batch_size": 8,
    }  # one step, as Adam takes signs, rounding too
    runs = [train(config(tmp_path / "data", tmp_path / str(how), compile=how, **options)) for how in (False, True)]
    states = [torch.load(run / "last.ckpt", weights_only=True)["state_dict"] for run in runs]
    assert states[0].keys() == states[1].keys()
    plain, compiled = (dict(zip(*csv.reader((run / "history.csv").read_text().splitlines()), strict=True)) for run in runs)
    assert float(compiled["train_loss"]) == pytest.approx(float(plain["train_loss"]), rel=1e-4)
    assert float(compiled["val_loss"]) == pytest.approx(float(plain["val_loss"]), rel=0.05)


@pytest.mark.slow
def test_a_ka_network_compiles_within_the_loop(tmp_path, monkeypatch):
    """The graph that ``torch.compile`` takes, run by torch itself: no compiler is needed, and the training is the same."""
    torch._dynamo.reset()
    write_phantoms(tmp_path / "data", count=12, size=32, seed=0)
    compile = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compile(self, backend="aot_eager"))
    runs = [train(config(tmp_path / "data", tmp_path / str(how), compile=how, epochs=1, batch_size=4)) for how in (False, True)]
    models = [load_file(run / "model/model.safetensors") for run in runs]
    assert all(torch.allclose(models[0][name], models[1][name], rtol=1e-2, atol=1e-2) for name in models[0])


@pytest.mark.slow
def test_two_processes_train_together(tmp_path):
    """DDP on two CPU processes through the command line, as a user starts it."""
    import subprocess
    import sys

    write_phantoms(tmp_path / "data", count=24, size=32, seed=0)
    arguments = ["train", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--model", "allukan-tiny", "--size", "32"]
    arguments += ["--epochs", "1", "--batch-size", "4", "--accelerator", "cpu", "--devices", "2"]
    done = subprocess.run([sys.executable, "-m", "allukan", *arguments], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/model/model.safetensors").is_file()


@pytest.mark.slow
def test_two_processes_share_one_validation_image(tmp_path):
    """The score is that of the one image, as evaluating the kept model gives it; a run that diverges ends on both."""
    import subprocess
    import sys

    write_phantoms(tmp_path / "data", count=10, size=32, seed=0)
    names = sorted(path.stem for path in (tmp_path / "data/images").iterdir())
    splits = f"Splits('clean', 0, {tuple(names[:6])!r}, {tuple(names[6:7])!r}, {tuple(names[7:])!r})"
    code = f"from allukan.data import Splits; from allukan.training import run; run._splits = lambda *_: ({splits}, ())\n"
    code += "if __name__ == '__main__':\n    from allukan.cli.main import main; main()"
    (tmp_path / "one.py").write_text(code)
    usual = ["--model", "convtwin-tiny", "--size", "32", "--epochs", "1", "--batch-size", "3", "--accelerator", "cpu"]

    def start(out, *given):
        command = [
            sys.executable,
            tmp_path / "one.py",
            "train",
            tmp_path / "data",
            "--out",
            out,
            *usual,
            "--devices",
            "2",
            *given,
        ]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=300)

    done = start(tmp_path / "run")
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader((tmp_path / "run/history.csv").read_text().splitlines())
    scores = evaluate(open_run(tmp_path / "run"), subset="val", predictor=Predictor(tmp_path / "run/model", "cpu"))
    assert scores["overall"]["cases"] == 1
    assert float(row["val_iou"]) == pytest.approx(scores["overall"]["iou"]["mean"], abs=1e-6)
    assert math.isfinite(float(row["val_loss"]))
    wild = start(tmp_path / "wild", "--lr", "1e30", "--epochs", "3")
    assert wild.returncode == 2, wild.stderr
    assert "not finite" in wild.stderr or "the loss is nan" in wild.stderr
    assert "Traceback" not in wild.stderr


@pytest.mark.slow
def test_real_ultrasound_is_learned_in_a_few_epochs(tmp_path):
    from pathlib import Path

    data = Path(__file__).parents[3] / "shared" / "data" / "busi_256"
    if not data.is_dir():
        pytest.skip(f"{data} is not there")
    run = train(config(data, tmp_path / "run", size=(64, 64), epochs=6))
    rows = (run / "history.csv").read_text().splitlines()
    assert float(rows[-1].split(",")[rows[0].split(",").index("val_dice")]) > 0.55


def test_lightnings_loggers_are_left_as_they_were(plainly_trained, tmp_path):
    data, _ = plainly_trained
    log = logging.getLogger("pytorch_lightning")
    before = log.level
    log.setLevel(logging.DEBUG)
    try:
        train(config(data, tmp_path / "run", epochs=1))
        assert log.level == logging.DEBUG
    finally:
        log.setLevel(before)
