"""Plans of nnU-Net v2 with Kolmogorov–Arnold networks: the file that ``nnUNetv2_train -p`` takes, made of one that is there.

Needs no nnU-Net. Everything but the network stays as it was planned, the identifiers of the preprocessed data too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allukan.errors import UserError, full_stop, shown, suggestion
from allukan.files import read_json, write_json
from allukan.models.topology import Topology

Plans = dict[str, Any]
_NETWORKS = "allukan.integrations.nnunet_networks."
_NORMS = {"InstanceNorm": "instance", "BatchNorm": "batch"}
_OF_UNETS = ("features_per_stage", "kernel_sizes", "strides", "conv_op", "norm_op")


@dataclass(frozen=True)
class Written:
    """The new plans file, its configurations, and those of the given plans that it lacks, each with the reason."""

    path: Path
    configurations: tuple[str, ...]
    left_out: dict[str, str]


def find_dataset(preprocessed: Path, dataset: str) -> Path:
    """The folder of a dataset, given as nnU-Net's number or name, in ``nnUNet_preprocessed``; ``UserError`` without one."""
    if not preprocessed.is_dir():
        raise UserError(f"nnUNet_preprocessed is {preprocessed}, which is no folder: set it as for nnU-Net.")
    names = sorted(path.name for path in preprocessed.glob("Dataset*_*") if path.is_dir())
    wanted = f"Dataset{int(dataset):03d}_" if dataset.isdecimal() else dataset
    found = [name for name in names if name == wanted or (dataset.isdecimal() and name.startswith(wanted))]
    if not found:
        told = suggestion(dataset, names) if names else "run nnUNetv2_plan_and_preprocess first."
        raise UserError(f"{preprocessed} has no dataset {shown(dataset)}: {told}")
    if len(found) > 1:
        raise UserError(f"{preprocessed} has more than one dataset {dataset}, {' and '.join(found)}: give the name.")
    return preprocessed / found[0]


def write_plans(
    folder: Path, source: str = "nnUNetPlans", network: str = "allukan", name: str | None = None, only: Sequence[str] = ()
) -> Written:
    """Write ``folder/NAME.json``, the plans ``folder/SOURCE.json`` with another network in every configuration, or in ``only``.

    ``network`` is "allukan", ALL U-KAN with the stages, widths, strides and kernels of the plan, or "convert", the planned U-Net
    itself with KA layers. Cascades, whose second network reads what the first one predicts, are left out.

    Raises ``UserError`` for plans that are missing, not nnU-Net's, or of networks other than its U-Nets, for a configuration that
    they do not have, for a cascade in ``only``, and where the new file exists.
    """
    if network not in _MAKERS:
        raise UserError(f"unknown network {network!r}: {suggestion(network, _MAKERS)}")
    usual, make = _MAKERS[network]
    if name is not None and Path(f"{name}.json").stem != name:
        raise UserError(f"name {shown(name)} is not usable: give a word, as in nnUNetAllUKANPlans.")
    path = folder / f"{name or usual}.json"
    plans = read_plans(folder, source)
    if cascade := next((wanted for wanted in only if _is_cascade(resolved(plans, wanted))), None):
        raise UserError(
            f"{cascade} is a cascade, whose second network reads the masks of the first: take 3d_fullres or 3d_lowres."
        )
    made, left_out = {}, {}
    for configuration in only or plans["configurations"]:
        planned = resolved(plans, configuration)
        if _is_cascade(planned):
            left_out[configuration] = "a cascade"
            continue
        made[configuration] = planned | {"architecture": make(_architecture(planned, configuration, source))}
    if not made:
        raise UserError(f"{folder / f'{source}.json'} has cascades alone, whose networks stay nnU-Net's own.")
    for configuration in made.values():
        configuration.pop("next_stage", None)  # of a cascade, which is not in these plans
    if path.exists():
        raise UserError(f"{path} exists: choose another --name, nothing is overwritten.")
    write_json(path, plans | {"plans_name": path.stem, "configurations": made}, indent=4)
    return Written(path, tuple(made), left_out)


def read_plans(folder: Path, name: str) -> Plans:
    """``folder/NAME.json``; raises ``UserError`` where it is missing or is no plans file."""
    path = folder / f"{name}.json"
    if not path.is_file():
        others = sorted(other.stem for other in folder.glob("*Plans.json"))
        told = suggestion(name, others) if others else "run nnUNetv2_plan_experiment first."
        raise UserError(f"{folder} has no plans {name!r}: {told}")
    plans = read_json(path)
    if not isinstance(plans, dict) or not isinstance(plans.get("configurations"), dict) or not plans["configurations"]:
        raise UserError(f"{path} is no plans file of nnU-Net v2: it has no configurations.")
    return plans


def resolved(plans: Plans, name: str) -> dict[str, Any]:
    """A configuration with what it inherits; ``UserError`` for one that is not there, or that inherits what is not, or itself.

    >>> resolved({"configurations": {"a": {"x": 1, "y": 1}, "b": {"inherits_from": "a", "y": 2}}}, "b")
    {'x': 1, 'y': 2}
    """
    known = plans["configurations"]
    if name not in known:
        raise UserError(f"{plans.get('plans_name', 'the plans')} has no configuration {name!r}: {suggestion(name, known)}")
    names, lines = [name], [known[name]]
    while parent := lines[-1].get("inherits_from"):
        if parent in names or parent not in known:
            why = "inherits from it" if parent in names else "the plans do not have"
            raise UserError(f"configuration {name!r} inherits from {parent!r}, which {why}.")
        names.append(parent)
        lines.append(known[parent])
    merged = {key: value for line in reversed(lines) for key, value in line.items()}
    merged.pop("inherits_from", None)
    return merged


def _is_cascade(configuration: Mapping[str, Any]) -> bool:
    return configuration.get("previous_stage") is not None


def _architecture(configuration: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    """What the configuration says about its network; ``UserError`` unless it is one of nnU-Net's U-Nets."""
    architecture = configuration.get("architecture")
    if not isinstance(architecture, dict):
        raise UserError(f"configuration {name} of {source} names no architecture, as plans of before nnU-Net 2.5 do: plan again.")
    given = architecture.get("arch_kwargs")
    if not isinstance(given, dict) or any(option not in given for option in _OF_UNETS):
        kind = str(architecture.get("network_class_name"))
        raise UserError(
            f"configuration {name} of {source} is of {kind}, no U-Net as nnU-Net plans it: choose others with --from."
        )
    _check_lists(given, name, source)
    return architecture


def _check_lists(given: Mapping[str, Any], name: str, source: str) -> None:
    """nnU-Net's networks also take one number for all axes or stages, as people write it; its planner does not."""
    wrong = next((option for option in ("strides", "features_per_stage") if not isinstance(given[option], list)), None)
    if wrong or not all(isinstance(along, list) for along in given["strides"]):
        option = wrong or "strides"
        raise UserError(
            f"configuration {name} of {source} has {option} {shown(given[option])}: give a list of one for every stage, of "
            "strides one for every axis, as nnU-Net plans them."
        )


def _allukan(planned: Mapping[str, Any]) -> dict[str, Any]:
    given = planned["arch_kwargs"]
    norm = next((ours for theirs, ours in _NORMS.items() if theirs in str(given["norm_op"])), None)
    if norm is None:
        raise UserError(f"plans with norm_op {shown(given['norm_op'])} are not usable: InstanceNorm and BatchNorm are known.")
    shape = {
        "strides": given["strides"],
        "kernel_sizes": given["kernel_sizes"],
        "features_per_stage": given["features_per_stage"],
    }
    try:
        Topology(**topology_of(**shape))
    except ValueError as error:
        raise UserError(f"ALL U-KAN cannot have the stages of these plans: {full_stop(error)}") from None
    return {"network_class_name": f"{_NETWORKS}PlannedAllUKAN", "arch_kwargs": shape | {"norm": norm}, "_kw_requires_import": []}


def topology_of(strides: Sequence[Any], kernel_sizes: Sequence[Any], features_per_stage: Sequence[int]) -> dict[str, Any]:
    """nnU-Net's stages as options of our U-shape, whose stage i is as wide as nnU-Net's and divides the size at its end.

    Raises ``ValueError`` where the first stage of the plan divides the size, or nothing follows it.

    >>> topology_of([[1, 1], [2, 2], [2, 1]], [[3, 3]] * 3, [32, 64, 128])
    {'strides': [[2, 2], [2, 1]], 'kernels': [[3, 3], [3, 3], [3, 3]], 'widths': [32, 64]}
    """
    first, *others = strides
    if not others or any(factor != 1 for factor in first):
        raise ValueError(f"the first stage must have stride 1 and others follow it, got {shown(strides)}")
    return {"strides": others, "kernels": list(kernel_sizes), "widths": list(features_per_stage[:-1])}


def _converted(planned: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "network_class_name": f"{_NETWORKS}ConvertedUNet",
        "arch_kwargs": {"unet": planned["network_class_name"], **planned["arch_kwargs"]},
        "_kw_requires_import": ["unet", *planned["_kw_requires_import"]],
    }


_MAKERS: dict[str, tuple[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "allukan": ("nnUNetAllUKANPlans", _allukan),
    "convert": ("nnUNetConvertedPlans", _converted),
}
