"""How unlike an image is, against scipy's test of two samples on the inputs themselves."""

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import nn

from allukan.nn import KAConv2d, Spline, SplineActivation
from allukan.nn.likeness import Likeness, calibrate


def images(count, seed=0, shift=0.0, scale=1.0):
    return list(scale * torch.randn(count, 1, 2, 12, 12, generator=torch.Generator().manual_seed(seed)) + shift)


def test_distances_are_those_of_kolmogorov_and_smirnov_from_the_other_images():
    given = [image + 0.3 * i for i, image in enumerate(images(5))]
    found = calibrate(SplineActivation(Spline(grid_size=40)), given)
    for i, image in enumerate(given):
        others = np.concatenate([other.flatten() for j, other in enumerate(given) if j != i])
        want = ks_2samp(image.flatten(), others).statistic
        assert float(found.distances[i, 0]) == pytest.approx(want, abs=0.03)  # bins are 0.15 wide


def test_runs_of_channels_are_compared_each_with_its_own():
    layer = KAConv2d(2, 2, 1, spline=Spline(sharing="input"))
    given = [torch.cat([image[:, :1], image[:, 1:] + 2], dim=1) for image in images(12)]
    found = calibrate(layer, given)
    swapped = given[0].flip(1)  # all together the inputs are the same
    assert found.score(layer, swapped) > 10 > found.threshold()


def test_the_score_is_the_largest_of_the_layers_in_standard_deviations_of_the_other_images():
    distances = torch.tensor([[0.1, 0.5], [0.3, 0.5], [0.2, 0.9]])
    want = [-0.2 / np.sqrt(0.08), 0.15 / np.sqrt(0.005), 0.4 / 0.002]  # 0.002 is the least that counts as a spread
    assert Likeness({}, distances).scores().tolist() == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("count", [12, 40])
def test_at_most_one_in_twenty_images_of_the_same_kind_is_warned_of(count):
    """In the mean over sets, whatever their size; of 12 images the threshold is the largest of their scores: one in 13."""
    generator, shares = torch.Generator().manual_seed(0), []
    for _ in range(80):
        distances = torch.exp(0.4 * torch.randn(count + 50, 43, generator=generator))
        known, new = distances[:count], distances[count:]
        scores = ((new - known.mean(0)) / known.std(0)).amax(1)
        shares.append(float((scores > Likeness({}, known).threshold()).float().mean()))
    error = np.std(shares) / np.sqrt(len(shares))
    assert np.mean(shares) < max(0.05, 1 / (count + 1)) + 3 * error


def test_the_threshold_is_a_conformal_quantile():
    likeness = Likeness({}, torch.rand(99, 1, generator=torch.Generator().manual_seed(0)))
    ranked = likeness.scores().sort().values.tolist()
    assert likeness.threshold(0.05) == pytest.approx(ranked[94])  # the 95th of 99
    assert likeness.threshold(0.001) == pytest.approx(ranked[-1])


def test_images_of_another_kind_are_told_and_those_of_the_same_are_not():
    torch.manual_seed(0)
    network = nn.Sequential(KAConv2d(2, 4, 3), KAConv2d(4, 2, 3, norm="batch"))
    found = calibrate(network, images(40))
    same = [found.score(network, image) > found.threshold() for image in images(40, seed=1)]
    other = [found.score(network, image) > found.threshold() for image in images(10, seed=2, scale=2.0)]
    assert np.mean(same) < 0.2
    assert all(other)
    assert found.score(network, torch.full((1, 2, 12, 12), torch.nan)) > 10


def test_what_cannot_be_calibrated_is_refused():
    with pytest.raises(ValueError, match="two images or more"):
        calibrate(SplineActivation(), images(1))
    with pytest.raises(ValueError, match="no learned activations"):
        calibrate(nn.Conv2d(2, 1, 1), images(2))
