"""Steps that a CUDA graph repeats are the steps; without a GPU nothing is recorded."""

import logging

import pytest
import torch
from torch import nn

from allukan.models import build_model
from allukan.training.recording import Recorded

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="CUDA graphs need a GPU")


def trained(recorded: bool, model: str = "allukan-tiny") -> tuple[list[float], nn.Module]:
    """Losses of twelve steps, with dropout, batch norm and batches of two sizes, and the network."""
    torch.manual_seed(0)
    network = nn.Sequential(build_model(model, in_channels=3, out_channels=1), nn.Dropout(0.3)).to(DEVICE).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
    call = Recorded(network, network.__call__) if recorded else network
    data, losses = torch.randn(12, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1)).to(DEVICE), []
    for step, images in enumerate(data):
        torch.manual_seed(step)
        loss = call(images[: 2 if step == 7 else 4]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, network


@pytest.mark.parametrize("model", ["allukan-tiny", "convtwin-tiny"])
def test_recorded_steps_train_alike(model: str) -> None:
    (plain, first), (recorded, second) = (trained(how, model) for how in (False, True))
    assert recorded == pytest.approx(plain, rel=2e-2)
    assert recorded[:3] == pytest.approx(plain[:3], rel=1e-4)
    for mine, theirs in zip(first.buffers(), second.buffers(), strict=True):
        assert torch.allclose(mine.float(), theirs.float(), rtol=0.1, atol=0.1)  # recording left the statistics alone


@needs_gpu
def test_recording_is_used() -> None:
    call = Recorded(network := nn.Linear(3, 2).cuda().train(), network.__call__)
    results = [call(torch.randn(5, 3, device="cuda")) for _ in range(3)]
    assert results[1].data_ptr() == results[2].data_ptr() != results[0].data_ptr()


class Reading(nn.Linear):
    """Looks at a value on the host."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A product, or nothing."""
        return super().forward(x) if float(x.sum()) > -1e9 else x


@needs_gpu
def test_a_network_that_reads_values_goes_on_without(caplog) -> None:
    call = Recorded(network := Reading(3, 2).cuda().train(), network.__call__)
    with caplog.at_level(logging.WARNING, "allukan"):
        for _ in range(3):
            call(torch.randn(5, 3, device="cuda")).sum().backward()
    assert len([line for line in caplog.messages if "not recorded as CUDA graphs" in line]) == 1
