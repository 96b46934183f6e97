"""KA layers 5 to 100 deep, plainly stacked and as residual units: what they learn, and what reaches the first layer.

python -m benchmarks.depth_study --out RESULT.json --figure FIGURE.png --page PAGE.md

Two tasks that ask for depth: points in the plane under an iterated map (stacks of linear layers), and images under an iterated
local filter (stacks of 3×3 convolutions). The loss is the mean squared error over the variance of the target: 1 is the mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Annotated

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn
from typer import Option

from allukan.costs import parameter_count, saved_bytes
from allukan.models.blocks import Residual
from allukan.models.layer_first import LayerFirst
from allukan.models.norm_first import NormFirst
from allukan.nn import KALayer, Spline
from allukan.report import plain
from benchmarks.pages import save
from benchmarks.program import EVERY_SETTING, Program
from benchmarks.report import Result, Row
from benchmarks.settings import Settings, at_least
from benchmarks.timing import now

LAYERS = {
    "KA exact": ("ka", Spline()),
    "KA free": ("ka", Spline(input_grad="free")),
    "KAN edge": ("edge", Spline()),
    "SiLU": ("conv", Spline()),
}
NORMS = {  # "batch" and "none": plain stacks of [layer, batch norm] and [layer]; "units": x + unit(unit(x)), normalise → φ → mix
    "KA exact": ("batch", "none", "units"),
    "KA free": ("batch", "units"),
    "KAN edge": ("batch",),
    "SiLU": ("batch", "none", "units"),
}
LABELS = {"batch": "batch norm", "none": "no norm", "units": "residual units"}
DEPTHS = [5, 20, 50, 100]
CPU = torch.device("cpu")
TURN = torch.tensor([[0.8, -0.6], [0.6, 0.8]])


def points(iterations: int) -> tuple[Tensor, Tensor]:
    """x ~ N(0, 1) and f(f(… x)) with f(x) = sin(2 R x), R a rotation; ``(B, 2)`` each."""
    x = torch.randn(64, 2)
    y = x
    for _ in range(iterations):
        y = torch.sin(2 * y @ TURN)
    return x, y


def pictures(iterations: int) -> tuple[Tensor, Tensor]:
    """Noise and f(f(… x)) with f(x) = tanh(2 (x - mean of 3×3)); ``(B, 1, 10, 10)`` each."""
    x = torch.randn(4, 1, 10, 10)
    y = x
    for _ in range(iterations):
        y = torch.tanh(2 * (y - F.avg_pool2d(y, 3, 1, 1, count_include_pad=False)))
    return x, y


TASKS: dict[str, tuple[int, int, int, Callable[[int], tuple[Tensor, Tensor]]]] = {
    "linear": (0, 2, 16, points),  # spatial dimensions, channels, width, samples
    "3×3 convolution": (2, 1, 8, pictures),
}


def stack(task: str, name: str, norm: str, depth: int) -> nn.Sequential:
    """``depth`` layers, as the models make them, and a linear map to the target."""
    if norm == "units":
        return residual_stack(task, name, depth)
    dims, channels, width, _ = TASKS[task]
    make = LayerFirst(dims or 1, *LAYERS[name], "batch")
    layers: list[nn.Module] = []
    for inputs in (channels, *[width] * (depth - 1)):
        layers.append(make.conv(inputs, width, 3) if dims else make.linear(inputs, width))
        after = make.after(width)
        layers += after if norm == "batch" else after[1:]
    return nn.Sequential(*layers, nn.Conv2d(width, channels, 1) if dims else nn.Linear(width, channels))


def residual_stack(task: str, name: str, depth: int) -> nn.Sequential:
    """A first layer without norm, ``depth`` - 1 units in blocks x + unit(unit(x)), and a unit to the target.

    As the models make them: convolutions with batch norm, linear layers with layer norm.
    """
    dims, channels, width, _ = TASKS[task]
    make = NormFirst(dims or 1, *LAYERS[name], "batch")
    blocks: list[nn.Module] = [make.unit(channels, width, image=True) if dims else make.linear(channels, width, image=True)]
    for first in range(1, depth, 2):
        count = min(2, depth - first)
        units = [make.unit(width, width) if dims else make.linear_unit(width, width) for _ in range(count)]
        blocks.append(Residual(nn.Sequential(*units), nn.Identity(), nn.Identity()))
    return nn.Sequential(*blocks, make.head(width, channels) if dims else make.linear_unit(width, channels))


def study(task: str, name: str, norm: str, depth: int, steps: int, iterations: int, lr: float) -> Row:
    """One training in bf16 autocast: losses, norms of the gradients of the layers' weights, bytes and time of a step."""
    torch.manual_seed(0)
    network, sample = stack(task, name, norm, depth), TASKS[task][3]
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    parts = [m for m in network[:-1].modules() if isinstance(m, KALayer | nn.Linear | nn.Conv2d)]
    weights = [part.weight for part in parts]

    def forward() -> Tensor:
        x, y = sample(iterations)
        with torch.autocast("cpu", torch.bfloat16):
            out = network(x)
        return F.mse_loss(out.float(), y) / y.var()

    losses: list[float] = []
    times: list[float] = []
    norms: list[list[float]] = []
    kept = saved_bytes(forward, network)
    for step in range(steps):
        start = now(CPU)
        loss = forward()
        optimizer.zero_grad()
        loss.backward()
        if step in (0, steps - 1):
            norms.append([w.grad.float().norm().item() for w in weights if w.grad is not None])
        optimizer.step()
        times.append(now(CPU) - start)
        losses.append(loss.item())
    finite = all(map(math.isfinite, [*losses, *norms[0], *norms[1]]))
    return {
        "task": task,
        "layer": name,
        "norm": norm,
        "depth": depth,
        "parameters": parameter_count(network),
        "first_loss": fmean(losses[:3]),
        "last_loss": fmean(losses[-10:]),
        "finite": finite,
        "first_to_last": norms[0][0] / norms[0][-1] if norms[0][-1] else None,
        "saved_bytes": kept,
        "step_seconds": median(times),
        "losses": losses,
        "norms_at_start": norms[0],
        "norms_after": norms[1],
    }


def draw(path: Path, rows: Sequence[Row], where: Row) -> None:
    """Gradient norm against the layer for the deepest stacks, and the last loss against the depth."""
    deepest = max(row["depth"] for row in rows)
    figure = Figure(figsize=(12, 6.5), layout="constrained", dpi=100)
    axes = figure.subplots(2, 3)
    for line, task in zip(axes, TASKS, strict=True):
        found = [row for row in rows if row["task"] == task]
        for i, name in enumerate(LAYERS):
            for norm in NORMS[name]:
                style = {"batch": "-", "none": "--", "units": ":"}[norm]
                ours = [row for row in found if (row["layer"], row["norm"]) == (name, norm)]
                for place, key in zip(line, ("norms_at_start", "norms_after"), strict=False):
                    for row in ours:
                        if row["depth"] == deepest:
                            place.plot([n or math.nan for n in row[key]], style, color=f"C{i}", linewidth=1.2)
                label = f"{name}, {LABELS[norm]}"
                line[2].plot([r["depth"] for r in ours], [r["last_loss"] for r in ours], "o" + style, color=f"C{i}", label=label)
        line[0].set(yscale="log", xlabel="layer", ylabel=task, title=f"gradient norm of λ at the start, {deepest} layers")
        line[1].set(yscale="log", xlabel="layer", title="and after the training")
        line[2].set(xscale="log", xlabel="layers", title="last loss (1: no better than the mean)", ylim=(0, 2))
    axes[1, 2].legend(fontsize=7, loc="upper right")
    for place in axes.flat:
        plain(place)
    save(figure, path)


def depth(
    settings: Settings,
    depths: Annotated[list[int], Option(help="Layers of a stack; repeat it.")] = DEPTHS,
    steps: Annotated[int, Option(help="Of each training.")] = 60,
    iterations: Annotated[int, Option(help="Of the map that is learned.")] = 1,
    lr: Annotated[float, Option(help="Learning rate.")] = 1e-3,
) -> Result:
    """KA layers stacked plainly and as residual units: what they learn, and what reaches the first layer."""
    at_least("steps", steps, 2)
    with settings.running():
        kinds = [(task, depth, name, norm) for task in TASKS for depth in depths for name in LAYERS for norm in NORMS[name]]
        return Result([study(task, name, norm, depth, steps, iterations, lr) for task, depth, name, norm in kinds])


program = Program("depth study", depth, {"device": "cpu", "threads": 1}, EVERY_SETTING - {"threads"}, "depth", draw)


if __name__ == "__main__":
    program()
