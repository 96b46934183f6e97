"""Calibration against MONAI's and scikit-learn's, Dice by threshold against masks that are really made."""

import numpy as np
import pytest
import torch
from monai.metrics import CalibrationErrorMetric
from sklearn.calibration import calibration_curve

from allukan.scores import Calibration, case_metrics


@pytest.fixture(scope="module")
def cases():
    """Five of two classes: probabilities and truth ``(2, 16, 20)``."""
    random = np.random.default_rng(0)
    said = random.beta(0.4, 0.8, (5, 2, 16, 20)).astype(np.float32)
    return said, random.uniform(size=said.shape) < said**1.5


def counted(said, truth):
    return Calibration.join(Calibration.of(p.reshape(2, -1), t.reshape(2, -1)) for p, t in zip(said, truth, strict=True))


def test_ece_is_that_of_monai_over_all_pixels(cases):
    said, truth = (torch.from_numpy(np.moveaxis(part, 1, 0).reshape(1, 2, -1).astype(np.float32)) for part in cases)
    metric = CalibrationErrorMetric(num_bins=20, metric_reduction="none")
    metric(said, truth)
    assert counted(*cases).ece() == pytest.approx(metric.aggregate().numpy()[0], abs=1e-4)


def test_the_curve_is_that_of_scikit_learn(cases):
    said, share, pixels = counted(*cases).reliability(10)
    assert pixels.sum() == cases[0].size
    for k in range(2):
        expected = calibration_curve(cases[1][:, k].ravel(), cases[0][:, k].ravel(), n_bins=10)
        assert share[k] == pytest.approx(expected[0], abs=2e-3)
        assert said[k] == pytest.approx(expected[1], abs=2e-3)


def test_dice_by_threshold_is_that_of_masks_above_it(cases):
    found = counted(*cases).dice()
    assert found.shape == (2, 100)
    for step in (5, 50, 93):
        rows = [case_metrics(p > step / 100, t) for p, t in zip(*cases, strict=True)]
        expected = np.mean([[row["dice"] for row in case] for case in rows], axis=0)
        assert found[:, step] == pytest.approx(expected, abs=1e-3)


def test_ends_and_empty_masks():
    edges = np.array([[0.0, 0.01, 0.5, 1.0]])
    found = Calibration.of(edges, np.zeros((1, 4), bool))
    assert np.flatnonzero(found.pixels[0, 0]).tolist() == [0, 49, 99]
    assert found.dice()[0, 99] == 0.0
    nothing = Calibration.of(np.zeros((1, 4)), np.zeros((1, 4), bool))
    assert nothing.dice()[0, 1:].tolist() == [1.0] * 99
    assert nothing.ece().tolist() == [0.0]
