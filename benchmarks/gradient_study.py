"""How far Grad-Free gradients are from exact ones, layer by layer, before and during training, and what that does to the loss.

python -m benchmarks.gradient_study DATA --out RESULT.json --figure FIGURE.png --page PAGE.md     (without DATA: phantoms)
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from typer import Argument, Option

from allukan.data import open_dataset, prepare, write_phantoms
from allukan.models import AllUKAN, ka_layers
from allukan.nn import Spline
from allukan.ops import bspline
from allukan.ops.activations import base_derivative
from allukan.report import palette, plain
from allukan.training import SegmentationLoss
from allukan.training.augmentation import turn
from allukan.training.batches import BatchOrder
from allukan.training.parameters import parameter_groups
from benchmarks.gradients import checkpoint_layers
from benchmarks.pages import save
from benchmarks.program import EVERY_SETTING, Program
from benchmarks.report import Result, Row
from benchmarks.settings import Settings, at_least

BATCH, LR, SPLINE_LR = 8, 3e-3, 1e-2  # rates of `allukan train`
WAYS = ("exact", "free", "checkpointed")
TENSORS = {"weight": "λ", "coef": "c", "base_weight": "w", "input": "input"}
COLOURS = {"exact": palette.BLUE, "free": palette.VERMILION, "checkpointed": palette.GREEN}


class Task:
    """Images of one size as floats, the first ``train`` of them for training, the rest for validation."""

    def __init__(self, root: str, px: int, train: int, val: int) -> None:
        dataset = open_dataset(root)
        step = len(dataset.cases) / (train + val)
        cases = [dataset.cases[int(i * step)] for i in range(train + val)]  # spread over the set: ids are sorted by class
        order = torch.randperm(len(cases), generator=torch.Generator().manual_seed(0)).tolist()
        data = prepare(dataset, [cases[i] for i in order], (px, px))
        self.images = (data.images.float() - data.images.float().mean()) / data.images.float().std()
        self.masks, self.train, self.loss = data.masks, train, SegmentationLoss("binary")

    def network(self, seed: int) -> AllUKAN:
        """The initial network of this seed."""
        torch.manual_seed(seed)
        return AllUKAN(self.images.shape[1], 1, size="tiny")

    def validation(self, network: nn.Module) -> float:
        """Loss on the images that are not trained on."""
        network.eval()
        with torch.no_grad():
            loss = float(self.loss(network(self.images[self.train :]), self.masks[self.train :]))
        network.train()
        return loss


def set_way(network: AllUKAN, way: str) -> AllUKAN:
    """The same weights, differentiated another way."""
    if way == "checkpointed":
        checkpoint_layers(network)
    for layer in ka_layers(network).values():
        layer.spline = replace(layer.spline, input_grad="free" if way == "free" else "exact")
    return network


def gradients(network: AllUKAN, task: Task) -> dict[str, dict[str, Any]]:
    """Of one training batch, by layer in the order in which they run: of λ, c, w and of the layer's input."""
    layers: dict[str, Any] = dict(ka_layers(network))
    inputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., tuple[Tensor]]:
        def hook(layer: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor]:
            x = arguments[0] if arguments[0].requires_grad else arguments[0].requires_grad_()
            x.retain_grad()
            inputs[name] = x
            return (x,)

        return hook

    hooks = [layer.register_forward_pre_hook(keep(name)) for name, layer in layers.items()]
    network.train().zero_grad()
    task.loss(network(task.images[:BATCH].clone()), task.masks[:BATCH]).backward()
    for hook in hooks:
        hook.remove()
    return {
        name: {"input": inputs[name].grad} | {key: getattr(layers[name], key).grad for key in TENSORS if key != "input"}
        for name in inputs
    }


def compare(task: Task, weights: dict[str, Tensor], when: str) -> list[Row]:
    """Rows of cosine and norm ratio (free over exact), a layer; both ways from the same weights, batch norms included."""
    found = []
    for way in ("exact", "free"):
        network = task.network(0)
        network.load_state_dict(weights)
        found.append(gradients(set_way(network, way), task))
    bent = {name: slope(layer) for name, layer in ka_layers(network).items()}
    rows = []
    for depth, (name, exact) in enumerate(found[0].items()):
        row = {"when": when, "layer": name, "from_output": len(found[0]) - 1 - depth, "spline_slope": bent[name]}
        for key, true in exact.items():
            ours, true = found[1][name][key].flatten().double(), true.flatten().double()
            row[f"{key}_cosine"] = float(ours @ true / (ours.norm() * true.norm()))
            row[f"{key}_norm"] = float(ours.norm() / true.norm())
        rows.append(row)
    return rows


def slope(layer: Any) -> float:
    """RMS of the slope of the spline over that of w b, for inputs ~ N(0, 1): what Grad-Free leaves out of φ'."""
    s: Spline = layer.spline
    t = torch.linspace(-4, 4, 801)
    density = torch.exp(-0.5 * t * t)
    basis = bspline.basis_derivative(t, s.grid_size, s.spline_order, s.grid_range)
    spline = basis @ layer.coef.detach().T
    base = base_derivative(s.base)(t)[:, None] * layer.base_weight.detach()
    return float(((density[:, None] * spline**2).sum() / (density[:, None] * base**2).sum()).sqrt())


def train(task: Task, way: str, seed: int, epochs: int, checks: tuple[int, ...] = ()) -> tuple[Row, list[Row]]:
    """Loss curves of one training, and the comparison after the epochs in ``checks``; all ways of a seed start alike."""
    network = set_way(task.network(seed), way)
    optimizer = torch.optim.Adam(parameter_groups(network, LR, 1e-4, SPLINE_LR, 0.0))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, eta_min=1e-5)
    order, rows = BatchOrder(task.train, BATCH, seed, train=True), []
    curves: Row = {"name": way, "seed": seed, "train_loss": [], "val_loss": []}
    for epoch in range(1, epochs + 1):
        order.set_epoch(epoch)
        losses = []
        for chosen in order:
            assert chosen.turns is not None
            images, masks = turn(task.images[chosen.indices], task.masks[chosen.indices].float(), chosen.turns)
            loss = task.loss(network(images), masks)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        schedule.step()
        curves["train_loss"].append(fmean(losses))
        curves["val_loss"].append(task.validation(network))
        if epoch in checks:
            rows += compare(task, network.state_dict(), f"epoch {epoch}")
    return curves, rows


def bent(task: Task, strength: float) -> list[Row]:
    """Comparison at the initial weights with noise of this standard deviation on the coefficients."""
    network, numbers = task.network(0), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in ka_layers(network).values():
            layer.coef.add_(strength * torch.randn(layer.coef.shape, generator=numbers))
    return compare(task, network.state_dict(), f"c + {strength:g} N(0, 1)" if strength else "start")


def summary(rows: list[Row]) -> list[Row]:
    """One row a moment: medians over the layers, and over the thirds of the network nearest to and farthest from the output."""
    table = []
    for when in dict.fromkeys(row["when"] for row in rows):
        found = [row for row in rows if row["when"] == when]
        third = len(found) // 3
        line: Row = {"when": when, "spline slope": round(median(row["spline_slope"] for row in found), 3)}
        for key in ("weight", "coef", "input"):
            line[f"cosine of {TENSORS[key]}"] = round(median(row[f"{key}_cosine"] for row in found), 3)
        line["same sign of w"] = f"{sum(row['base_weight_cosine'] > 0 for row in found)} of {len(found)}"
        line["λ, last third"] = round(median(row["weight_cosine"] for row in found if row["from_output"] < third), 3)
        line["λ, first third"] = round(median(row["weight_cosine"] for row in found if row["from_output"] >= 2 * third), 3)
        line["λ, norm"] = round(median(row["weight_norm"] for row in found), 3)
        table.append(line)
    return table


def losses(curves: list[Row]) -> list[Row]:
    """One row a training: its first and last losses."""
    return [
        {"gradients": c["name"], "seed": c["seed"]}
        | {
            f"{part} loss, epoch {n}": round(c[f"{part}_loss"][n - 1], 4)
            for part in ("train", "val")
            for n in (1, len(c["val_loss"]))
        }
        for c in curves
    ]


def draw(path: Path, found: Sequence[Row], where: Row) -> None:
    """Cosines of λ and of the input by layer, and the losses."""
    curves = [row for row in found if "train_loss" in row]
    rows = [row for row in found if "train_loss" not in row]
    figure = Figure(figsize=(12, 4), layout="constrained", dpi=100)
    axes = figure.subplots(1, 3)
    moments = list(dict.fromkeys(row["when"] for row in rows))
    for place, key in ((axes[0], "weight"), (axes[1], "input")):
        for i, when in enumerate(moments):
            seen = [row for row in rows if row["when"] == when]
            style = {"linestyle": "--" if when.startswith("c +") else "-", "color": f"C{i}", "label": when}
            place.plot([row["from_output"] for row in seen], [row[f"{key}_cosine"] for row in seen], linewidth=1.2, **style)
        place.set(xlabel="layers between this one and the output", title=f"cosine free–exact, gradient of {TENSORS[key]}")
    axes[0].legend(fontsize=8)
    for curve in curves:
        style = {"color": COLOURS[curve["name"]], "linestyle": ":" if curve["name"] == "checkpointed" else "-"}
        label = curve["name"] if curve["seed"] == 0 else None
        axes[2].plot(range(1, len(curve["train_loss"]) + 1), curve["train_loss"], label=label, linewidth=1.4, **style)
        axes[2].plot(range(1, len(curve["val_loss"]) + 1), curve["val_loss"], linewidth=0.7, alpha=0.7, **style)
    axes[2].set(xlabel="epoch", title="loss: training (bold) and validation (thin)")
    axes[2].legend(fontsize=8)
    for place in axes:
        plain(place)
    save(figure, path)


def gradients_study(
    settings: Settings,
    data: Annotated[str | None, Argument(help="A dataset folder  [synthetic ultrasound is made]", show_default=False)] = None,
    px: Annotated[int, Option(help="Sides of the images.")] = 64,
    images: Annotated[int, Option("--train", help="Images to train on.")] = 96,
    val: Annotated[int, Option(help="Images to validate on.")] = 48,
    epochs: Annotated[int, Option(help="Of each training.")] = 10,
    seeds: Annotated[int, Option(help="Trainings of each way.")] = 2,
) -> Result:
    """How far Grad-Free gradients are from exact ones, layer by layer, before and during training."""
    for option, value in (("px", px), ("train", images), ("val", val), ("epochs", epochs), ("seeds", seeds)):
        at_least(option, value, BATCH if option == "train" else 1)
    with settings.running(), tempfile.TemporaryDirectory() as folder:
        root = data or str(write_phantoms(Path(folder) / "phantoms", images + val, px).root)
        task = Task(root, px, images, val)
        rows, curves = bent(task, 0.0), list[Row]()
        for seed in range(seeds):
            for way in WAYS if seed == 0 else WAYS[:2]:
                checks = (1, epochs // 2, epochs) if (way, seed) == ("exact", 0) else ()
                curve, more = train(task, way, seed, epochs, checks)
                curves, rows = [*curves, curve], [*rows, *more]
        for strength in (0.1, 0.3, 1.0):
            rows += bent(task, strength)
    assert curves[0]["train_loss"] == curves[2]["train_loss"], "checkpointing is not the exact gradient"
    about = {"data": Path(data).name if data else "phantoms"}
    return Result([*curves, *rows], tables=[summary(rows), losses(curves)], about=about)


program = Program(
    "gradient study", gradients_study, {"device": "cpu", "threads": 1}, EVERY_SETTING - {"threads"}, "gradients", draw
)


if __name__ == "__main__":
    program()
