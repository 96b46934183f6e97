"""The convolutional twin as somebody builds it who is short of memory, so that no figure rests on a wasteful twin."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from allukan.models.blocks import Fork
from allukan.models.layers import Activation

TWINS = {
    "conv-checkpoint": "norm, activation and convolution of every unit run again in the backward pass: the input alone is kept",
    "conv-recompute": "norm and activation run again, what an in-place activated norm does where the activation has an inverse",
}


class Checkpointed(nn.Module):
    """Keeps its input and runs again in the backward pass."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Any:
        """Whatever the module gives."""
        return checkpoint(self.module, x, use_reentrant=False)


def sparing(network: nn.Module, whole: bool) -> nn.Module:
    """The twin with every unit under a checkpoint, or with the norm and activation of every unit; changed in place."""
    for name, child in network.named_children():
        if isinstance(child, Fork) and len(list(child.before.children())):
            setattr(network, name, Checkpointed(child) if whole else _front(child))
        elif isinstance(child, nn.Sequential) and any(isinstance(part, Activation) for part in child.children()):
            setattr(network, name, Checkpointed(child) if whole else _split(child))
        else:
            sparing(child, whole)
    return network


def _front(fork: Fork) -> Fork:
    fork.before = Checkpointed(fork.before)
    return fork


def _split(unit: nn.Sequential) -> nn.Sequential:
    *front, last = unit.children()
    return nn.Sequential(Checkpointed(nn.Sequential(*front)), last)
