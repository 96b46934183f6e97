"""The rows of the proxy: what is tried, each against a convolutional twin of its size with the same slices, steps and recipe.

A name is size/kind/rates, as "nano/input/10/30": the learning rate of everything but splines and that of splines in thousandths;
then what differs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.proxy.trial import Row

SIZES: dict[str, dict[str, Any]] = {
    "nano": {"topology": {"widths": (4, 8, 16, 24, 32)}},
    "nano-wide": {"topology": {"widths": (5, 9, 18, 26, 35)}},  # whose twin has the parameters of nano/input
    "micro": {"topology": {"widths": (8, 12, 24, 32, 48)}},
    "mini": {"topology": {"widths": (8, 16, 32, 48, 64)}},
    "tiny": {},
}
REFERENCE = {
    "nano": 10,
    "nano-wide": 10,
    "micro": 10,
    "mini": 10,
    "tiny": 3,
}  # rate of the compared twin; tiny is not tuned
SPLINES: dict[str, dict[str, Any]] = {"layer": {}, "input": {"sharing": "input"}, "groups": {"sharing": 4}}
PICTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "twin": ("convtwin-tiny", {}),
    "layer": ("allukan-tiny", {}),
    "input": ("allukan-tiny", {"spline": {"sharing": "input"}}),
    "ukan": ("ukan", {"size": "tiny"}),
    "unet": ("unet", {"channels": (12, 24, 48, 96, 192)}),  # MONAI's, as narrow as the others
    "plain-twin": ("convtwin-tiny", {"topology": {"residual": False}}),  # of the paper's network
    "paper": ("allukan-paper-tiny", {}),
    "edge": ("edgekan-tiny", {"spline": {"grid_size": 5}}),
}
TWINS = ("prelu", "prelu-channel", "swish", "swish-channel", "rational", "rational-channel")
CHANGES: dict[str, dict[str, Any]] = {  # of the row size/input at the reference's rate, splines at 10
    "smooth 0.001": {"tricks": {"smooth": 1e-3}},
    "smooth 0.01": {"tricks": {"smooth": 1e-2}},
    "straight 0.01": {"tricks": {"straight": 1e-2}},
    "together 0.001": {"tricks": {"together": 1e-3}},
    "diverse 0.3": {"tricks": {"diverse": 0.3}},
    "power 0.5": {"tricks": {"power": 0.5}},
    "release 0.3": {"tricks": {"release": 0.3}},
    "refine from 5": {"tricks": {"refine": 2}, "spline": {"grid_size": 5}},
    "5 intervals": {"spline": {"grid_size": 5}},
    "20 intervals": {"spline": {"grid_size": 20}},
    "windows": {"tricks": {"windows": True}},
    "dropkan 0.05": {"tricks": {"dropkan": 0.05}},
    "quantiles": {"tricks": {"quantiles": True}},
    "mirror of 2 groups": {"tricks": {"mirror": 1.0}, "spline": {"sharing": 2}},
    "chebyshev": {"spline": {"basis": "chebyshev"}},
    "rbf": {"spline": {"basis": "rbf"}},
    "free": {"spline": {"input_grad": "free"}},
}
RECIPES: dict[str, dict[str, Any]] = {  # of the twin and of input alike
    "image Dice": {"dice": "image"},
    "nnunet Dice": {"dice": "nnunet"},
    "present Dice": {"dice": "present"},
    "no average": {"ema": 0.0},
    "no augmentation": {"augment": ()},
    "adamw": {"decoupled": True, "weight_decay": 0.01},
    "no warm-up": {"warmup": 0},
    "batches of 32": {"batch": 32},
    "batches of 8": {"batch": 8},
    "full size": {"topology": {"full_depth": 1}},
    "deep": {"topology": {"deep_supervision": True}},
    "cutmix": {"augment": ("affine", "elastic", "intensity", "cutmix")},
    "copypaste": {"augment": ("affine", "elastic", "intensity", "copypaste")},
}


def _changed(row: Row, change: dict[str, Any]) -> Row:
    """With options of the network merged, others replaced."""
    own, options = dict(change), dict(row.options)
    for section in ("spline", "topology"):
        if section in own:
            options[section] = {**options.get(section, {}), **own.pop(section)}
    return replace(row, options=options, **own)


def _rows(size: str) -> dict[str, Row]:
    options, found, best = SIZES[size], dict[str, Row](), f"{size}/twin/{REFERENCE[size]}"
    for lr in (3, 10, 20, 40):
        found[f"{size}/twin/{lr}"] = Row("convtwin-tiny", options, lr=lr / 1000, against=best)
        for kind, spline in SPLINES.items():
            for rate in (3, 10, 30):
                row = Row(options={**options, "spline": spline}, lr=lr / 1000, spline_lr=rate / 1000, against=best)
                found[f"{size}/{kind}/{lr}/{rate}"] = row
    for rate in (3, 10):  # all that a layer with a spline an edge has
        found[f"{size}/edge/{rate}"] = Row("edgekan-tiny", options, lr=rate / 1000, spline_lr=rate / 1000, against=best)
    ours = f"{size}/input/{REFERENCE[size]}/10"
    for name in TWINS:
        found[f"{best}/{name}"] = replace(found[best], options={**options, "activation": name})
    for name, change in CHANGES.items():
        found[f"{ours}/{name}"] = replace(_changed(found[ours], change), against=ours)
    for name, change in RECIPES.items():
        for changed in (best, ours):
            found[f"{changed}/{name}"] = replace(_changed(found[changed], change), against=changed)
    return found


def _on_pictures() -> dict[str, Row]:
    """Networks of about one size for sets of pictures, 96 × 96, at three rates; splines, or edges, at 10/3 of it."""
    common = {"steps": 800, "batch": 8, "turns": True, "against": "pictures/twin/3"}
    found = {}
    for name, (model, options) in PICTURES.items():
        for lr in (1, 3, 10):
            found[f"pictures/{name}/{lr}"] = Row(model, options, lr=lr / 1000, spline_lr=lr / 300, **common)  # type: ignore[arg-type]
    return found


def _longer(rows: dict[str, Row], epochs: int) -> dict[str, Row]:
    """The curve: the same with more epochs."""
    ending = f"/{epochs} epochs"
    return {name + ending: replace(row, epochs=epochs, against=row.against + ending) for name, row in rows.items()}


_SHORT = {name: row for size in SIZES for name, row in _rows(size).items()}
ROWS = {**_SHORT, **_longer(_SHORT, 16), **_longer(_SHORT, 24), **_on_pictures()}
