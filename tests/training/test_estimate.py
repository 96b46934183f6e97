"""What a training says of the time that it will take, with a clock of our own."""

import logging
from types import SimpleNamespace

import pytest

from allukan.training import pace


@pytest.fixture
def say(monkeypatch, caplog):
    """Two epochs of ``steps`` steps, each of so many seconds and the first of all a minute longer; returns what was said."""

    def run(steps, seconds, epochs=102, folds=1):
        now, trainer = [0.0], SimpleNamespace(max_epochs=epochs, num_training_batches=steps, is_global_zero=True)
        monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
        estimate = pace.Estimate(folds)
        caplog.clear()
        with caplog.at_level(logging.INFO, "allukan"):
            for trainer.current_epoch in range(2):
                estimate.on_train_epoch_start(trainer, None)
                for step in range(steps):
                    now[0] += seconds + 60 * (step + trainer.current_epoch == 0)
                    estimate.on_train_batch_end(trainer, None, None, None, step)
                estimate.on_train_epoch_end(trainer, None)
        return caplog.messages

    return run


def test_short_epochs_are_told_after_the_second(say):
    assert say(4, 0.5) == ["about 3.33 minutes to go: 100 epochs of 2 seconds."]
    assert say(4, 0.5, folds=5) == ["about 3.33 minutes to go: 100 epochs of 2 seconds; every fold takes as long."]
    assert say(4, 0.5, epochs=3) == []  # two seconds


def test_a_long_epoch_is_told_within_it_by_its_steps(say):
    assert say(100, 36, epochs=10) == ["about 10 hours to go: 10 epochs of 1 hours, validation aside."]
