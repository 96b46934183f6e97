"""Of which epochs the mean of the weights is, and which learning rate the history tells."""

from types import SimpleNamespace

import pytest
import torch

from allukan.models import ModelCard
from allukan.training import TrainConfig
from allukan.training.callbacks import Averaged, History, LastEpochs
from allukan.training.module import SegmentationModule


def parts(count, lengths):
    """How much of the mean comes from every epoch, of a training whose length in each of them is given; saved after each."""
    found, state = {}, None
    for epoch, length in enumerate(lengths):
        averaged = Averaged(LastEpochs(count))
        if state is not None:
            averaged.load_state_dict(state)
        share = averaged.share(SimpleNamespace(current_epoch=epoch, max_epochs=length, is_last_batch=True))
        found = {one: part * (1 - share) for one, part in found.items() if share < 1} | {epoch: share}
        state = averaged.state_dict()
    return found


def mean_of(*epochs):
    return pytest.approx(dict.fromkeys(epochs, 1 / len(epochs)))


def test_the_mean_is_of_the_last_epochs_of_the_length_that_a_training_has_now():
    assert parts(3, [5] * 5) == mean_of(2, 3, 4)
    assert parts(3, [5] * 4) == mean_of(2, 3)
    assert parts(3, [3] * 3) == mean_of(0, 1, 2)
    assert parts(3, [5] * 5 + [7]) == mean_of(5)  # finished, and made longer
    assert parts(3, [5] * 5 + [7] * 2) == mean_of(5, 6)
    assert parts(3, [5] * 5 + [9] * 4) == mean_of(6, 7, 8)
    assert parts(3, [9] * 4 + [6] * 2) == mean_of(3, 4, 5)
    assert parts(4, [9] * 7 + [8]) == mean_of(5, 6, 7)


def test_the_learning_rate_of_the_history_is_not_that_of_splines(tmp_path):
    """Of edgekan the first parameter belongs to a spline."""
    card = ModelCard("edgekan-tiny", 1, ("0",), "binary", (32, 32), (0.0,), (1.0,))
    config = TrainConfig("data", "run", model="edgekan-tiny", lr=0.01, spline_lr=0.1)
    module = SegmentationModule(card.outline(), card, config)
    optimizer = torch.optim.SGD(module.parameter_groups())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2)
    optimizer.step()
    schedule.step()
    history = History(tmp_path / "history.csv")
    history.on_train_epoch_start(SimpleNamespace(optimizers=[optimizer]), module)
    assert history._lr == pytest.approx(0.005)
