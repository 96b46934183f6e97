"""The learning rate of every step: the cosine over the epochs, and the warm-up before it."""

import csv
import math

import pytest
import pytorch_lightning as pl
import torch

from allukan.data import write_phantoms
from allukan.training import TrainConfig, resume_config, train

EPOCHS = 3


class Rates(pl.Callback):
    """What the optimiser has when it takes a step."""

    def __init__(self):
        self.rates, self.steps = [], 0

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.rates.append([group["lr"] for group in optimizer.param_groups])
        self.steps = trainer.num_training_batches


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("warmup") / "data"
    write_phantoms(folder, count=20, size=32, seed=0)
    return folder


def run(data, out, **options):
    options = {"epochs": EPOCHS, "batch_size": 2, "lr": 0.1, "spline_lr": 0.3, **options}
    options = {"model": "allukan-tiny", "size": (32, 32), "accelerator": "cpu", "devices": "1", **options}
    found = Rates()
    train(TrainConfig(str(data), str(out), **options), callbacks=[found])
    return found


def cosine(epoch, epochs, lr):
    return 1e-5 + (lr - 1e-5) * (1 + math.cos(math.pi * epoch / epochs)) / 2


@pytest.mark.slow
def test_without_it_every_step_has_torchs_cosine_to_the_bit(data, tmp_path):
    found = run(data, tmp_path / "run")
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "lr": lr} for lr in found.rates[0]])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS, eta_min=1e-5)
    for epoch in range(EPOCHS):
        here = found.rates[epoch * found.steps : (epoch + 1) * found.steps]
        assert here == [schedule.get_last_lr()] * found.steps
        optimizer.step()
        schedule.step()
    assert {0.1, 0.3} == set(found.rates[0])


@pytest.mark.slow
def test_it_rises_step_by_step_to_the_cosine(data, tmp_path):
    found = run(data, tmp_path / "run", warmup=1.5)
    assert found.steps >= 4
    bases = [rate * 1.5 * found.steps for rate in found.rates[0]]  # the first step has one part of so many
    assert sorted({round(base, 9) for base in bases}) == [0.1, 0.3]
    for step, rates in enumerate(found.rates):
        share = min(1, (step + 1) / (1.5 * found.steps))
        assert rates == pytest.approx([share * cosine(step // found.steps, EPOCHS, base) for base in bases])
    rows = list(csv.DictReader((tmp_path / "run" / "history.csv").read_text().splitlines()))
    assert [float(row["lr"]) for row in rows] == pytest.approx([cosine(epoch, EPOCHS, bases[0]) for epoch in range(EPOCHS)])


@pytest.mark.slow
def test_a_longer_training_goes_on_on_the_cosine_of_its_length(data, tmp_path):
    bases = [rate * 1.9 * found.steps for found in [run(data, tmp_path / "run", epochs=2, warmup=1.9)] for rate in found.rates[0]]
    later = Rates()
    train(resume_config(tmp_path / "run", {"epochs": 3}), resume=True, callbacks=[later])
    assert later.rates == [pytest.approx([cosine(2, 3, base) for base in bases])] * later.steps
