import pytest
import torch
from torch import nn

from allukan.costs import parameter_count, saved_bytes


def test_silu_and_convolution_save_their_inputs():
    x = torch.randn(2, 64, 64, 64, requires_grad=True)
    layers = nn.Sequential(nn.SiLU(), nn.Conv2d(64, 64, 3, padding=1))
    assert saved_bytes(lambda: layers(x), layers) == 4 * 2**20
    assert saved_bytes(lambda: layers(x), layers.parameters()) == 4 * 2**20
    assert saved_bytes(lambda: layers(x)) == 4 * 2**20 + layers[1].weight.nbytes


def test_views_of_one_storage_count_once_and_whole():
    x = torch.randn(8, 100, requires_grad=True)
    base = x * 1.0
    assert saved_bytes(lambda: [base[i].square() for i in range(8)]) == base.nbytes
    assert saved_bytes(lambda: base[0].square()) == base.nbytes


def test_storages_freed_on_the_way_are_not_mistaken_for_later_ones():
    x = torch.randn(1000, requires_grad=True)

    def chain():
        for _ in range(5):  # every graph is dropped at once, so its memory is free for the next
            x.exp()

    assert saved_bytes(chain) == 5 * x.nbytes


def test_networks_on_the_meta_device_can_be_measured():
    layers = nn.Sequential(nn.SiLU(), nn.Conv2d(64, 64, 3, padding=1)).to("meta")
    x = torch.randn(2, 64, 64, 64, device="meta", requires_grad=True)
    assert saved_bytes(lambda: layers(x), layers) == 4 * 2**20


def test_shared_and_frozen_parameters():
    layer = nn.Linear(3, 2)
    assert parameter_count(nn.Sequential(layer, layer)) == 8
    assert parameter_count(layer.requires_grad_(False)) == 0


def test_saved_bytes_of_known_layers():
    x = torch.randn(2, 64, 64, 64, requires_grad=True)
    twin = torch.nn.Sequential(torch.nn.SiLU(), torch.nn.Conv2d(64, 64, 3, padding=1))
    assert saved_bytes(lambda: twin(x), twin) == 2 * x.nbytes
    assert saved_bytes(lambda: x.view(-1).square().view_as(x) + x.exp()) == 2 * x.nbytes  # x once, exp(x)
    with torch.no_grad():
        assert saved_bytes(lambda: twin(x), twin) == 0
    assert saved_bytes(lambda: x * 2) == pytest.approx(0)
