"""What is kept of the likeness of images beside a model."""

import pytest
import torch

from allukan.errors import UserError
from allukan.models import load_likeness, save_likeness
from allukan.nn import KAConv2d, KALinear, Spline
from allukan.nn.likeness import calibrate


def test_it_comes_back_as_it_was(tmp_path):
    network = KAConv2d(2, 4, 3, spline=Spline(sharing="input"))
    assert load_likeness(tmp_path, network) is None
    likeness = calibrate(network, list(torch.randn(4, 1, 2, 8, 8)))
    save_likeness(tmp_path, likeness)
    found, image = load_likeness(tmp_path, network), torch.randn(1, 2, 8, 8)
    assert found.threshold() == likeness.threshold()
    assert found.score(network, image) == likeness.score(network, image)


@pytest.mark.parametrize("other", [KAConv2d(3, 4, 3, spline=Spline(sharing="input")), torch.nn.Sequential(KALinear(2, 2))])
def test_that_of_another_model_is_refused(tmp_path, other):
    network = KAConv2d(2, 4, 3, spline=Spline(sharing="input"))
    save_likeness(tmp_path, calibrate(network, list(torch.randn(4, 1, 2, 8, 8))))
    with pytest.raises(UserError, match="another model"):
        load_likeness(tmp_path, other)


def test_a_broken_file_is_refused(tmp_path):
    (tmp_path / "likeness.safetensors").write_bytes(b"{}")
    with pytest.raises(UserError, match="cannot be read"):
        load_likeness(tmp_path, KALinear(2, 2))
