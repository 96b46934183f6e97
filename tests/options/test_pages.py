"""``docs/train.md`` lists every option with the default that is in force."""

import re
from dataclasses import fields
from pathlib import Path

from allukan.models import Topology
from allukan.models.allukan import PRESETS
from allukan.nn import Spline
from allukan.options import TrainConfig, default_of

NETWORK = {"options.norm": "batch", "options.activation": "base", "options.convert": "false"}
PAGE = Path(__file__).parents[2] / "docs" / "train.md"


def listed():
    """Every option in the tables of the page, and the default beside it."""
    found, reading = {}, False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        reading = line.startswith("| option ") or (reading and line.startswith("|"))
        if not reading or not line.startswith("| `"):
            continue
        cells = [cell.strip() for cell in line.split("|")]
        names = re.findall(r"`([^`]+)`", cells[1])
        above = names[0].rpartition(".")[0]
        names = [name if "." in name or not above else f"{above}.{name}" for name in names]
        found |= dict(zip(names, cells[2].split(", ") if len(names) > 1 else [cells[2]], strict=True))
    return found


def in_force():
    """The same as the classes have it; of splines and topologies as the default network has it."""
    found = {name: default_of(TrainConfig, name) for name in (f.name for f in fields(TrainConfig))}
    for name in ("data", "out", "options"):  # which have no default of their own
        del found[name]
    spline, topology, order = PRESETS["default"]
    values = {f"options.spline.{f.name}": getattr(spline, f.name) for f in fields(Spline)}
    values |= {f"options.topology.{f.name}": getattr(topology, f.name) for f in fields(Topology)}
    values |= {f"options.topology.{name}": default_of(Topology, name) for name in ("widths", "strides", "kernels", "full_depth")}
    return found | {name: written(value) for name, value in values.items()} | NETWORK | {"options.order": order}


def written(value):
    if isinstance(value, tuple):
        return str([int(number) for number in value])
    return (
        {True: "true", False: "false"}[value]
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def test_the_tables_list_every_option_with_its_default():
    assert listed() == in_force()
