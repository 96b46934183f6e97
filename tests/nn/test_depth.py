"""A hundred KA layers on top of each other, without residual connections, in bf16."""

import math

import pytest
import torch
from torch import nn

from allukan.models.layer_first import LayerFirst
from allukan.nn import Spline

DEPTH = 100


def stack(spatial_dims, channels, width):
    """[KA layer, batch norm] × 100, as the models make them, and a linear map back to the channels."""
    make, layers = LayerFirst(spatial_dims or 1, "ka", Spline(), "batch"), []
    for inputs in (channels, *[width] * (DEPTH - 1)):
        layer = make.conv(inputs, width, 3) if spatial_dims else make.linear(inputs, width)
        layers += [layer, *make.after(width)]
    return nn.Sequential(*layers, nn.Conv2d(width, channels, 1) if spatial_dims else nn.Linear(width, channels))


@pytest.mark.slow
@pytest.mark.parametrize(("spatial_dims", "width", "shape"), [(0, 32, (64, 2)), (2, 8, (4, 1, 10, 10))])
def test_a_hundred_layers_stay_finite_in_bf16_and_the_loss_falls(spatial_dims, width, shape):
    """Every layer receives a finite gradient, not zero, in every step. How little such a stack learns: docs/evidence/depth.md."""
    torch.manual_seed(0)
    network = stack(spatial_dims, shape[1], width)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    x = torch.randn(shape)
    target = torch.sin(2 * x)
    losses = []
    for _ in range(60):
        with torch.autocast("cpu", torch.bfloat16):
            out = network(x)
        loss = nn.functional.mse_loss(out.float(), target) / target.var()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
        assert all(p.grad.any() for name, p in network.named_parameters() if name.endswith("weight")), "a layer learns nothing"
        optimizer.step()
        losses.append(loss.item())
    assert all(map(math.isfinite, losses))
    assert sum(losses[-5:]) / 5 < 0.85 * losses[0]
