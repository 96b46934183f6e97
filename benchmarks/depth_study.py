"""KA layers 5 to 100 deep, plainly stacked and as residual units: what they learn, and what reaches the first layer.

python benchmarks/depth_study.py --out RESULT.json --figure FIGURE.png --page PAGE.md

Two tasks that ask for depth: points in the plane under an iterated map (stacks of linear layers), and images under an iterated
local filter (stacks of 3×3 convolutions). The loss is the mean squared error over the variance of the target: 1 is the mean.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from allukan.bench import Settings, check_out, environment, fill_block, markdown, provenance, write_json
from allukan.bench.pages import check_figure, check_page, save
from allukan.costs import parameter_count, saved_bytes
from allukan.models.blocks import Residual
from allukan.models.layer_first import LayerFirst
from allukan.models.norm_first import NormFirst
from allukan.nn import KALayer, Spline

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
    blocks: list[nn.Module] = [make.unit(channels, width, image=True) if dims else make.linear(channels, width)]
    for first in range(1, depth, 2):
        count = min(2, depth - first)
        units = [make.unit(width, width) if dims else make.linear_unit(width, width) for _ in range(count)]
        blocks.append(Residual(nn.Sequential(*units), nn.Identity(), nn.Identity()))
    return nn.Sequential(*blocks, make.head(width, channels) if dims else make.linear_unit(width, channels))


def study(task: str, name: str, norm: str, depth: int, steps: int, iterations: int, lr: float) -> dict:
    """One training in bf16 autocast: losses, norms of the gradients of the layers' weights, bytes and time of a step."""
    torch.manual_seed(0)
    network, sample = stack(task, name, norm, depth), TASKS[task][3]
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    weights = [m.weight for m in network[:-1].modules() if isinstance(m, KALayer | nn.Linear | nn.Conv2d)]

    def forward() -> Tensor:
        x, y = sample(iterations)
        with torch.autocast("cpu", torch.bfloat16):
            out = network(x)
        return F.mse_loss(out.float(), y) / y.var()

    losses, times, norms = [], [], []
    kept = saved_bytes(forward, network)
    for step in range(steps):
        start = time.perf_counter()
        loss = forward()
        optimizer.zero_grad()
        loss.backward()
        if step in (0, steps - 1):
            norms.append([w.grad.float().norm().item() for w in weights])
        optimizer.step()
        times.append(time.perf_counter() - start)
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


def draw(path: Path, rows: list[dict]) -> None:
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
    axes[1, 2].legend(fontsize=7, loc="lower right")
    for place in axes.flat:
        place.grid(alpha=0.25)
        place.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", nargs="+", type=int, default=[5, 20, 50, 100])
    for name, value in (("steps", 60), ("iterations", 1), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--lr", type=float, default=1e-3)
    for name in ("out", "figure", "page"):
        parser.add_argument(f"--{name}", type=Path)
    a = parser.parse_args()
    check_out(a.out)
    check_figure(a.figure)
    check_page(a.page, "depth")
    rows = []
    with Settings("cpu", threads=a.threads).running():
        for task in TASKS:
            for depth in a.depths:
                for name in LAYERS:
                    for norm in NORMS[name]:
                        rows.append(study(task, name, norm, depth, a.steps, a.iterations, a.lr))
        where = environment("cpu")
    text = [markdown(rows), provenance(where)]
    print("\n\n".join(text))
    if a.out:
        write_json(a.out, "depth study", rows, where)
    if a.figure:
        draw(a.figure, rows)
    if a.page:
        fill_block(a.page, "depth", "\n\n".join(text))


if __name__ == "__main__":
    main()
