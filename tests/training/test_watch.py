"""A training whose numbers are no longer numbers ends with one sentence, and what was kept before is there still."""

import hashlib
import logging
import math
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from safetensors.torch import load_file

from allukan.data import IGNORED, Prepared, Splits, write_phantoms
from allukan.errors import UserError
from allukan.inference import Predictor
from allukan.models import load_card
from allukan.training import TrainConfig, resume_config, run, train, watch
from allukan.training.checks import check_foreground
from allukan.training.losses import SegmentationLoss
from allukan.training.module import SegmentationModule
from allukan.training.watch import Watch, largest


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watch") / "data"
    write_phantoms(folder, count=20, size=32, seed=0)
    return folder


def config(data, out, **options):
    usual = {"model": "convtwin-tiny", "size": (32, 32), "epochs": 3, "batch_size": 4, "accelerator": "cpu", "devices": "1"}
    return TrainConfig(str(data), str(out), **{**usual, **options})


class Spoil(pl.Callback):
    """Does ``what`` to the module before one step, and notes the masks of its batch."""

    def __init__(self, epoch, step, what):
        self.at, self.what, self.masks = (epoch, step), what, None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.at:
            self.masks = batch.masks
            self.what(pl_module)


def nan_loss(module):
    """Once; what follows is NaN by itself."""
    handle = module.loss.register_forward_hook(lambda loss, given, out: (handle.remove(), out * math.nan)[1])


def nan_gradient(module):
    handle = next(module.network.head.parameters()).register_hook(lambda grad: (handle.remove(), grad * math.nan)[1])


def files(run):
    """Of what must not change."""
    kept = ("last.ckpt", "model/model.safetensors", "model/config.json")
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in kept if (run / name).is_file()}


def images_of(data, masks):
    """Ids whose mask, turned somehow, is one of the batch: here by their number of pixels, which differs."""
    sizes = {int((np.asarray(Image.open(path)) > 0).sum()): path.stem for path in (data / "masks/0").iterdir()}
    return [sizes[int(mask.sum())] for mask in masks]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "words", "given"),
    [
        (nan_loss, "the loss is nan in epoch 2, step 2 of 3", {}),
        (nan_loss, "the loss is nan in epoch 2, step 2 of 3", {"ema": 0.9, "spline_smoothness": 0.1, "model": "allukan-tiny"}),
        (nan_gradient, "the weights are not finite after epoch 2, step 2 of 3", {}),
    ],
)
def test_the_step_is_named_and_the_epoch_before_is_kept(data, tmp_path, spoil, words, given):
    good = train(config(data, tmp_path / "good", epochs=3, **given), callbacks=[Stop(1)])
    bad = Spoil(1, 1, spoil)
    with pytest.raises(UserError) as error:
        train(config(data, tmp_path / "run", **given), callbacks=[bad])
    sentence, run = str(error.value), tmp_path / "run"
    assert words in sentence
    rates = r"0\.00225" if "model" not in given else r"(0\.00225 and 0\.0075\d*|0\.0075\d* and 0\.00225)"
    assert re.search(rf"; learning rates? {rates}\): ", sentence)  # of the second of three epochs
    assert f"{run} keeps epoch 1; train anew with a lower --lr, from {run}/model with --init" in sentence
    ids = images_of(data, bad.masks)
    assert set(ids) <= set(Splits.load(run / "splits.json").train)
    assert f"(images {', '.join(ids[:3])} and {len(ids) - 3} more; " in sentence
    weights, expected = (load_file(folder / "model/model.safetensors") for folder in (run, good))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)  # the best is that of epoch 1
    before = files(run)
    assert len(before) == 3
    assert torch.load(run / "last.ckpt", weights_only=True)["epoch"] == 0
    with pytest.raises(UserError, match="the loss is nan"):  # resumed, it goes on from the good epoch, and changes nothing
        train(resume_config(run, {}), resume=True, callbacks=[Spoil(1, 1, nan_loss)])
    assert files(run) == before
    finished = train(resume_config(run, {}), resume=True)
    assert len((finished / "history.csv").read_text().splitlines()) == 4


class Stop(pl.Callback):
    """Ends a training after some epochs."""

    def __init__(self, epochs):
        self.epochs = epochs

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


def test_a_learning_rate_out_of_this_world_keeps_nothing(data, tmp_path):
    with pytest.raises(UserError, match=r"no epoch was finished; train anew with a lower --lr\.$"):
        train(config(data, tmp_path / "run", model="allukan-tiny", lr=1e9))
    assert not (tmp_path / "run/model").exists()
    assert not (tmp_path / "run/last.ckpt").exists()


def test_a_long_epoch_is_looked_at_on_the_way(data, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "_STEPS", 2)
    steps = []
    monkeypatch.setattr(SegmentationModule, "on_train_batch_start", lambda self, batch, index: steps.append(index))
    with pytest.raises(UserError, match=r"epoch 1, step 1 of 7 "):
        train(config(data, tmp_path / "run", batch_size=2), callbacks=[Spoil(0, 0, nan_loss)])
    assert steps == [0, 1]


def test_other_precisions_are_told_to_try_float32(data, tmp_path):
    with pytest.raises(UserError, match=r"train anew with a lower --lr or --precision 32-true\.$"):
        train(config(data, tmp_path / "run", precision="bf16-mixed"), callbacks=[Spoil(0, 1, nan_loss)])


def watched(module, losses):
    """A watch that has seen steps of a module with these losses; looks are off."""
    trainer = SimpleNamespace(optimizers=[SimpleNamespace(param_groups=[{"lr": 0.1}])], is_last_batch=False)
    module.device = torch.device("cpu")
    watch = Watch()
    watch.on_train_epoch_start(trainer, module)
    for index, loss in enumerate(losses):
        watch.on_train_batch_end(trainer, module, {"loss": torch.tensor(loss)}, None, index)
    return watch


@pytest.mark.parametrize(("losses", "good"), [([1.0, 2.0], 2), ([1.0, math.nan, 3.0], 1), ([math.inf, math.nan], 0)])
def test_the_first_bad_step_is_what_is_noted(losses, good):
    watch = watched(torch.nn.Linear(1, 1), losses)
    assert int(watch._steps) == good
    assert bool(watch._fine) == (good == len(losses))
    assert float(watch._seen[0]) == pytest.approx(losses[min(good, len(losses) - 1)], nan_ok=True)


def test_a_step_that_a_scaler_leaves_out_is_no_fault():
    """Scaled by 2^16 the gradient overflows, the scaler leaves the step out and halves: the loss and the weights are fine."""
    module = torch.nn.Linear(1, 1, bias=False)
    optimizer, scaler = torch.optim.SGD(module.parameters(), lr=0.1), torch.amp.GradScaler("cpu")
    before = module.weight.detach().clone()
    loss = (module(torch.ones(1)) * 1e34).sum()
    scaler.scale(loss).backward()
    assert not module.weight.grad.isfinite().all()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(module.weight, before)
    assert bool(watched(module, [float(loss.detach())])._fine)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_statistics_count_as_weights_do(bad):
    norm = torch.nn.BatchNorm1d(3)
    assert float(largest(norm)) == 1
    norm.running_mean[1] = -3e38
    assert float(largest(norm)) == pytest.approx(3e38)  # large, and a number
    norm.running_var[2] = bad
    assert not largest(norm).isfinite()


def not_finite_in(epochs, monkeypatch):
    """Validation whose loss is NaN in some epochs, while its masks are as they are."""
    forward = SegmentationLoss.forward

    def spoiled(self, logits, masks):
        loss = forward(self, logits, masks)
        return loss if torch.is_grad_enabled() or not spoiled.now() else loss * math.nan

    spoiled.count = 0

    def now():
        spoiled.count += 1
        return spoiled.count - 1 in epochs

    spoiled.now = now
    monkeypatch.setattr(SegmentationLoss, "forward", spoiled)


def test_an_epoch_with_nan_in_validation_is_never_the_best(data, tmp_path, monkeypatch, caplog):
    plain = train(config(data, tmp_path / "plain", epochs=1))
    not_finite_in({1, 2}, monkeypatch)  # one batch an epoch
    with caplog.at_level(logging.WARNING, "allukan"):
        run = train(config(data, tmp_path / "run", epochs=3), callbacks=[Better()])
    assert [record.message for record in caplog.records if "not finite" in record.message] == [
        f"epoch {epoch}: validation is not finite, so this epoch is not kept." for epoch in (2, 3)
    ]
    assert load_card(run / "model") == load_card(plain / "model")
    assert torch.load(run / "last.ckpt", weights_only=True)["callbacks"]["KeepBest"]["epoch"] == 0


class Better(pl.Callback):
    """Scores that grow every epoch."""

    def on_validation_end(self, trainer, pl_module):
        trainer.callback_metrics["val_iou"].fill_(trainer.current_epoch + 0.5)


def test_a_training_that_never_validates_to_a_number_is_no_success(data, tmp_path, monkeypatch):
    not_finite_in(range(9), monkeypatch)
    with pytest.raises(UserError, match=r"validation was not finite in any epoch, so .*model was never written: train anew"):
        train(config(data, tmp_path / "run", epochs=2))
    assert not (tmp_path / "run/model").exists()
    with pytest.raises(UserError, match="has had its 2 epochs and left no model"):
        train(resume_config(tmp_path / "run", {}), resume=True)


def emptied(data, ids, folder):
    """A copy of the data in which some masks are empty."""
    shutil.copytree(data, folder)
    for name in ids:
        path = folder / "masks/0" / f"{name}.png"
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    return folder


def test_without_foreground_in_validation_the_last_epoch_is_kept(data, tmp_path, caplog, monkeypatch):
    first = train(config(data, tmp_path / "first", epochs=1))
    splits = Splits.load(first / "splits.json")
    monkeypatch.setattr(run, "_splits", lambda *_: (splits, []))  # empty masks are dealt out evenly else
    empty = emptied(data, splits.val, tmp_path / "data")
    caplog.clear()
    with caplog.at_level(logging.INFO, "allukan"):
        folder = train(config(empty, tmp_path / "run", epochs=3), callbacks=[Worse()])
    said = [record.message for record in caplog.records]
    assert "no validation mask has any foreground: Dice and IoU say nothing, and the last epoch is kept as the best." in said
    assert sum("no foreground in validation" in line for line in said) == 3
    assert not any("val Dice" in line for line in said)
    last = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
    kept = load_file(folder / "model/model.safetensors")
    assert all(torch.equal(value, last[f"network.{name}"]) for name, value in kept.items())


class Worse(pl.Callback):
    """Scores that fall from 1, as those of masks that are no longer empty."""

    def on_validation_end(self, trainer, pl_module):
        trainer.callback_metrics["val_iou"].fill_(1 - 0.1 * trainer.current_epoch)


def test_a_training_without_any_foreground_is_refused(data, tmp_path, monkeypatch):
    first = train(config(data, tmp_path / "first", epochs=1))
    splits = Splits.load(first / "splits.json")
    monkeypatch.setattr(run, "_splits", lambda *_: (splits, []))
    empty = emptied(data, splits.train, tmp_path / "data")
    with pytest.raises(UserError, match="no training mask has any foreground: nothing can be learned"):
        train(config(empty, tmp_path / "run", epochs=1))
    assert not (tmp_path / "run").exists()


def test_a_class_without_a_pixel_is_told(caplog):
    masks = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    masks[0, 0, 0] = 1
    masks[0, 1, 1] = IGNORED  # is no foreground
    some = Prepared(("a", "b"), torch.zeros(2, 1, 4, 4, dtype=torch.uint8), masks, ((4, 4), (4, 4)))
    other = replace(some, masks=masks.roll(2, 1))
    with caplog.at_level(logging.WARNING, "allukan"):
        check_foreground(("x", "y", "z"), some, other)
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "class 'y' has no pixel in any training mask",
        "class 'z' has no pixel in any training mask",
        "class 'x' has no pixel in any validation mask",
        "class 'y' has no pixel in any validation mask",
    ]


def test_numbers_that_overflow_in_the_network_are_no_mask(data, tmp_path):
    run = train(config(data, tmp_path / "run", epochs=1))
    predictor = Predictor(run / "model", "cpu")
    image = np.zeros((32, 32), np.uint8)
    assert predictor(image).masks.shape == (1, 32, 32)
    with torch.no_grad():
        for parameter in predictor._network.parameters():
            parameter.fill_(3e38)  # finite, but no sum of them is
    with pytest.raises(UserError, match="numbers that are not finite"):
        predictor(image)
