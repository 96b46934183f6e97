"""A plan in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from allukan.options.amounts import memory_text, time_text
from allukan.training.planning.result import Normalisation, Plan

_LIMITS = {
    "images": "more is not needed for these images",
    "memory": "more does not fit",
    "time": "more leaves too few steps",
    "given": "patch or batch were set",
}
_NORMALISATIONS = {
    "image": "z-score of every image",
    "dataset": "z-score over all training images",
}


def explain(plan: Plan) -> str:
    """One paragraph: what is trained on what, why not more, and what becomes of the intensities."""
    unit = "pixels" if plan.spatial_dims == 2 and plan.slice_axis is None else "voxels"
    spacing = f" of {_by(round(s, 3) for s in plan.spacing_mm)} mm" if plan.spacing_mm else ""
    what = "slices" if plan.slice_axis is not None else "patches" if plan.spacing_mm or plan.spatial_dims == 3 else "images"
    axes = "" if plan.slice_axis is None else f" across axis {'DHW'[plan.slice_axis]}"
    parts = [
        f"Images of about {_by(plan.image_size)} {unit}{spacing}: a {plan.spatial_dims}D network, {plan.model}, on {what} of "
        f"{_by(plan.patch)}{axes}, {plan.batch_size} a step.",
        f"A step takes about {memory_text(plan.memory_bytes)} of the {memory_text(plan.memory_given)} given, by a count of what "
        f"the network saves; {_LIMITS[plan.limit]}.",
        _stages(plan),
        f"Intensities: {channels_text(plan.normalisation)}.",
        f"Classes: {', '.join(plan.classes)}.",
    ]
    if plan.seconds is not None:
        parts.append(f"The training is to take {time_text(plan.seconds)}.")
    return " ".join([*parts, *(f"Note: {note}" for note in plan.notes)])


def _stages(plan: Plan) -> str:
    if "topology" not in plan.options:
        return "Its stages are the usual ones of the network."
    total = plan.stages.total
    flat = sum(1 in kernel for kernel in plan.stages.kernels)
    text = f"It has {len(plan.stages.strides)} stages, which divide its axes by {_by(total)} in all"
    return text + (f"; its {flat} finest resolutions do not mix the axis of long voxels." if flat else ".")


def channels_text(found: Sequence[Normalisation]) -> str:
    """What becomes of the intensities, in words."""
    texts = dict.fromkeys(_one(channel) for channel in found)
    if len(texts) == 1:
        return next(iter(texts))
    return ", ".join(f"channel {number} {_one(channel)}" for number, channel in enumerate(found))


def _one(channel: Normalisation) -> str:
    if channel.kind == "clip":
        bounds = f"{channel.low:.6g} … {channel.high:.6g}"
        return f"clipped to {bounds}, then minus {channel.mean:.6g} and over {channel.std:.6g} (CT)"
    return _NORMALISATIONS[channel.kind]


def _by(values: object) -> str:
    return "×".join(f"{value:g}" for value in values)  # type: ignore[attr-defined]
