"""What memory can be bought with what: Grad-Free splines, checkpointing, recomputation.

python -m benchmarks.gradients --help
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from allukan.costs import saved_bytes
from allukan.models import AllUKAN, ka_layers
from allukan.training import SegmentationLoss
from benchmarks.contenders import choose
from benchmarks.measure import Contender
from benchmarks.networks import Task, fits, network_contender, on_paper, too_large
from benchmarks.program import Program
from benchmarks.report import Result, Row
from benchmarks.settings import Settings


@dataclass(frozen=True)
class Way:
    """A way to differentiate one of the networks: exact or Grad-Free, with or without checkpoints."""

    variant: str
    free: bool = False
    checkpointed: bool = False


WAYS = {
    "conv": Way("conv"),
    "ka exact": Way("ka"),
    "ka Grad-Free": Way("ka", free=True),
    "ka, φ kept": Way("ka-keep"),
    "ka checkpointed": Way("ka", checkpointed=True),
    "stacked exact": Way("stacked"),
    "stacked Grad-Free": Way("stacked", free=True),
    "stacked checkpointed": Way("stacked", checkpointed=True),
}


def gradients(settings: Settings, task: Task) -> Result:
    """Exact, Grad-Free and checkpointed gradients side by side: memory, time, and error against float64."""
    return Result(bench_gradients(settings, task))


def bench_gradients(settings: Settings, task: Task | None = None, *, ways: Iterable[str] | None = None) -> list[Row]:
    """Saved bytes, time of a step and error of the parameter gradients of every way; the ways of one network share its weights.

    The error is relative root mean square, and cosine, of all parameter gradients against the exact ones in float64: rounding for
    an exact way, bias for Grad-Free. A checkpoint is set around every KA layer; ``at_once_bytes`` are the saved bytes and those
    of the largest layer, which its recomputation holds again. The splines are moved away from their initial state, where they are
    constants. Raises ``UserError`` when the images are too large for this.
    """
    task = task or Task(px=64)
    with settings.running():
        networks = {name: _network(WAYS[name], task) for name in choose(ways, WAYS, "way")}
        largest = max(on_paper(_network(replace(WAYS[name], checkpointed=False), task), task)["saved_bytes"] for name in networks)
        if not fits(2 * largest, settings):  # once more in float64
            raise too_large(task, settings)
        errors = _errors(networks, task, settings)
        contenders = {name: network_contender(network, task, settings) for name, network in networks.items()}
        times = settings.time({name: c.step for name, c in contenders.items()}, next(iter(contenders)))
        rows = []
        for name, contender in contenders.items():
            kept = saved_bytes(contender.forward, contender.module)
            rows.append(
                {
                    "name": name,
                    "saved_bytes": kept,
                    "at_once_bytes": kept + (_largest_layer(contender) if WAYS[name].checkpointed else 0),
                    "step_seconds": times[name].seconds,
                    "step_ratio": times[name].ratio,
                    "step_quartiles": times[name].quartiles,
                    **errors[name],
                    "repeats": times[name].repeats,
                }
            )
    return rows


def _network(way: Way, task: Task) -> AllUKAN:
    """The network of a way, its splines bent as training bends them; the same weights for the same variant."""
    network = task.network(f"{way.variant}-free" if way.free else way.variant)
    assert isinstance(network, AllUKAN)
    numbers = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in ka_layers(network).values():
            layer.coef.add_(0.3 * torch.randn(layer.coef.shape, generator=numbers))
    if way.checkpointed:
        checkpoint_layers(network)
    return network


def checkpoint_layers(network: nn.Module) -> None:
    """Let every KA layer of the network keep its input only, and run again in the backward pass."""
    for layer in ka_layers(network).values():
        layer.forward = _checkpointed(layer.forward)  # type: ignore[method-assign]


def _checkpointed(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def checkpointed(x: Tensor) -> Tensor:
        return checkpoint(forward, x, use_reentrant=False)

    return checkpointed


def _largest_layer(contender: Contender) -> int:
    """The most bytes that one KA layer keeps, measured in place."""
    assert isinstance(contender.module, AllUKAN)
    sizes = [0]

    def measure(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        sizes.append(saved_bytes(lambda: type(layer).forward(layer, inputs[0].detach().requires_grad_()), layer))

    hooks = [layer.register_forward_pre_hook(measure) for layer in ka_layers(contender.module).values()]
    contender.forward()
    for hook in hooks:
        hook.remove()
    return max(sizes)


def _errors(networks: dict[str, AllUKAN], task: Task, settings: Settings) -> dict[str, Row]:
    """Relative RMS error and cosine of the gradients of every way against the exact ones of its variant in float64."""
    exact: dict[str, Tensor] = {}
    errors: dict[str, Row] = {}
    for name, network in networks.items():
        variant = WAYS[name].variant
        if variant not in exact:
            exact[variant] = _gradients(_network(Way(variant), task).double(), task, settings)
        ours, true = _gradients(network, task, settings), exact[variant]
        cosine = float(ours @ true / (ours.norm() * true.norm()))
        errors[name] = {"gradient_error": float((ours - true).norm() / true.norm()), "gradient_cosine": round(cosine, 6)}
    return errors


def _gradients(network: nn.Module, task: Task, settings: Settings) -> Tensor:
    """All parameter gradients of one step as one vector in float64."""
    network = network.to(settings.place).train()
    dtype = next(network.parameters()).dtype
    numbers = torch.Generator().manual_seed(2)
    images = torch.randn(task.shape, generator=numbers).to(settings.place, dtype)
    masks = (torch.rand(task.batch, 1, *task.shape[2:], generator=numbers) < 0.5).to(settings.place)
    double = dtype == torch.float64
    with torch.autocast(settings.place.type, enabled=False) if double else settings.autocast():
        loss = SegmentationLoss("binary")(network(images), masks)
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    return torch.cat([gradient.flatten().double() for gradient in gradients])


program = Program("gradients", gradients, {"px": 64, "repeats": 5, "seconds": 5.0}, without=frozenset({"compile"}))

if __name__ == "__main__":
    program()
