"""From a fingerprint, memory and time to a plan, without looking at an image or guessing what a network takes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import Any

from allukan.data.fingerprint import ChannelFacts, Fingerprint
from allukan.errors import UserError
from allukan.options import CT, IMAGE
from allukan.options.amounts import memory_text
from allukan.training.planning.memory import Footprint
from allukan.training.planning.patches import patches, pictures
from allukan.training.planning.result import Normalisation, Plan
from allukan.training.planning.spacing import size_at, target_spacing
from allukan.training.planning.stages import USUAL, Candidate, stages_for

FEWEST_SLICES = 8  # from which a volume is one, and not a few pictures
LEAST_BATCH = 2
USUAL_BATCH = 8  # of which the learning rates are
USUAL_VOXELS = USUAL_BATCH * 256**2  # of smaller patches there may be more
SHARE = 0.05  # of all voxels at most a step: a batch is to be a draw, not the set
LEAST_STEPS = 1000  # that a training needs to come to anything
_LONG = 1.5  # times the shortest side of a voxel, from which slices lie across the longest


@dataclass(frozen=True)
class Limits:
    """What a training may take.

    Attributes:
        memory_bytes: a step.
        seconds: in all; None for no budget.
        flops_per_second: of this machine; with ``seconds`` a step is kept so small that ``LEAST_STEPS`` of them fit.
    """

    memory_bytes: int
    seconds: float | None = None
    flops_per_second: float | None = None

    @property
    def step_flops(self) -> float:
        """FLOPs a step."""
        known = self.seconds is not None and self.flops_per_second is not None
        return self.seconds * self.flops_per_second / LEAST_STEPS if known else inf  # type: ignore[operator]


@dataclass(frozen=True)
class Given:
    """What somebody has set, and a plan keeps; empty and None where it is open.

    Attributes:
        patch: in voxels, an axis of the network.
        spacing_mm: along the axes of the images.
        batch_size: patches a step.
        intensities: of every channel "ct", "image", or lowest, highest, mean and deviation; of pictures of bytes none.
    """

    patch: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] | None = None
    batch_size: int | None = None
    intensities: tuple[Any, ...] = ()


OPEN = Given()


def plan(
    found: Fingerprint,
    limits: Limits,
    dims: int | None = None,
    model: str = "allukan-base",
    options: Mapping[str, Any] | None = None,
    out_channels: int | None = None,
    given: Given = OPEN,
) -> Plan:
    """The largest patch of which two fit into the memory and the time, then the largest batch.

    Args:
        found: of the training images.
        limits: memory and time.
        dims: of the network; None for 3 where volumes have ``FEWEST_SLICES`` and the smallest patch fits, else 2.
        model: a name of ``MODELS``.
        options: of the model; where they have strides, kernels or widths, none are planned.
        out_channels: logits; one a class and one for the background unless given.
        given: what is kept, even where it takes more than is there by our count: then a note says so.

    Raises:
        UserError: for 3 dimensions of pictures, for intensities of another number of channels, and where not even the smallest
            patch fits into the memory.
    """
    spacing, least = given.spacing_mm or target_spacing(found), given.batch_size or LEAST_BATCH
    normalisation = _planned(found, given.intensities)
    size, logits = size_at(found, spacing), out_channels or len(found.classes) + 1
    wanted, note = _dims(found, size, spacing, dims)
    for spatial_dims in dict.fromkeys((wanted, dims or 2)):
        footprint = Footprint(model, len(found.channels), logits, spatial_dims, dict(options or {}))
        axis = _slice_axis(spacing) if spatial_dims < found.spatial_dims else None
        candidates = _candidates(found, size, spacing, axis, given.patch)
        chosen = (candidates[0], "given", "") if given.patch else _chosen(candidates, footprint, limits, least)
        if chosen:
            break
        note = f"not even the smallest 3D patch fits into {memory_text(limits.memory_bytes)}: a 2D network on slices is planned."
    else:
        raise _too_large(footprint, candidates[-1], limits, least)
    candidate, limit, more = chosen
    batch, of_batch = (given.batch_size, "given") if given.batch_size else _batch(found, candidate, footprint, limits)
    if footprint.bytes(candidate, batch) > limits.memory_bytes:
        more = "that is more than is given, because of what was set: expect it to fail, or to be slow."
    return Plan(
        model=model,
        options=footprint.options_with(candidate.stages),
        spatial_dims=spatial_dims,
        slice_axis=axis,
        spacing_mm=spacing,
        image_size=size,
        patch=candidate.patch,
        stages=candidate.stages,
        batch_size=batch,
        normalisation=normalisation,
        classes=found.classes,
        memory_bytes=footprint.bytes(candidate, batch),
        memory_given=limits.memory_bytes,
        limit=of_batch if limit in ("images", "given") else limit,
        seconds=limits.seconds,
        notes=tuple(text for text in (note, more) if text),
    )


def _dims(found: Fingerprint, size: Sequence[int], spacing: Sequence[float] | None, dims: int | None) -> tuple[int, str]:
    """Dimensions of the network to try first, and why they are fewer than those of the images."""
    if found.spatial_dims == 2:
        if dims == 3:
            raise UserError("3 dimensions need volumes, and these images have two: leave dims out.")
        return 2, ""
    slices = size[_slice_axis(spacing)]
    if dims is None and slices < FEWEST_SLICES:
        return 2, f"volumes of {slices} slices are fewer than {FEWEST_SLICES}: a 2D network on slices is planned."
    return dims or 3, ""


def _slice_axis(spacing: Sequence[float] | None) -> int:
    """Across the longest side of a voxel where one is clearly longer, else the first axis."""
    long = spacing is not None and max(spacing) >= _LONG * min(spacing)
    return max(range(len(spacing)), key=spacing.__getitem__) if spacing is not None and long else 0


def _candidates(
    found: Fingerprint, size: Sequence[int], spacing: Sequence[float] | None, axis: int | None, patch: tuple[int, ...]
) -> list[Candidate]:
    """From the largest down; the one that is given."""
    if found.spatial_dims == 2 and spacing is None:
        return [Candidate(patch, USUAL)] if patch else list(pictures(size))
    kept = [a for a in range(len(size)) if a != axis]
    voxel = None if spacing is None else [spacing[a] for a in kept]
    return [Candidate(patch, stages_for(patch, voxel))] if patch else list(patches([size[a] for a in kept], voxel))


def _chosen(candidates: list[Candidate], footprint: Footprint, limits: Limits, least: int) -> tuple[Candidate, str, str] | None:
    """The largest of which a least batch fits, what forbids a larger one, and a note; None where none fits into the memory."""
    by_memory = bisect_left(candidates, True, key=lambda c: footprint.bytes(c, least) <= limits.memory_bytes)
    if by_memory == len(candidates):
        return None
    by_time = 0
    if limits.step_flops < inf:
        by_time = bisect_left(candidates, True, key=lambda c: footprint.flops(c, least) <= limits.step_flops)
    if by_time == len(candidates):
        return candidates[-1], "time", f"the time is too short for {LEAST_STEPS} steps of even the smallest patch."
    place = max(by_memory, by_time)
    limit = "images" if place == 0 else "memory" if place == by_memory else "time"
    return candidates[place], limit, ""


def _batch(found: Fingerprint, chosen: Candidate, footprint: Footprint, limits: Limits) -> tuple[int, str]:
    """The largest batch that memory, time and the number of images allow, and which of them does."""
    voxels = prod(chosen.patch)
    one, two = (footprint.bytes(chosen, batch) for batch in (1, 2))
    most = {
        "images": min(SHARE * found.voxels / voxels, max(USUAL_BATCH, USUAL_VOXELS / voxels)),
        "memory": 2 + (limits.memory_bytes - two) / (two - one),
        "time": limits.step_flops / footprint.flops(chosen, 1),
    }
    limit = min(most, key=most.__getitem__)
    return max(LEAST_BATCH, int(most[limit])), limit


def _too_large(footprint: Footprint, smallest: Candidate, limits: Limits, least: int) -> UserError:
    need, size = memory_text(footprint.bytes(smallest, least)), "×".join(map(str, smallest.patch))
    return UserError(
        f"{footprint.model} takes {need} for {least} patches of {size} and {memory_text(limits.memory_bytes)} are given: "
        "give more memory, or a smaller model."
    )


def _planned(found: Fingerprint, intensities: Sequence[Any]) -> tuple[Normalisation, ...]:
    if found.spatial_dims == 2 and not intensities:  # pictures of bytes
        return (Normalisation("dataset"),) * len(found.channels)
    return normalisations(found, intensities or usual_intensities(found))


def usual_intensities(found: Fingerprint) -> tuple[str, ...]:
    """Of every channel "ct" or "image", as the data say."""
    return tuple(CT if _is_ct(channel) else IMAGE for channel in found.channels)


def normalisations(found: Fingerprint, intensities: Sequence[Any]) -> tuple[Normalisation, ...]:
    """Of every channel, as ``Given`` has ``intensities``; ``UserError`` where they are of another number."""
    if len(intensities) != len(found.channels):
        raise UserError(
            f"intensities are of {len(intensities)} channels, and images have {len(found.channels)}: give one for each."
        )
    return tuple(_normalisation(how, channel) for how, channel in zip(intensities, found.channels, strict=True))


def _is_ct(channel: ChannelFacts) -> bool:
    return channel.name.strip().casefold() == "ct"


def _normalisation(how: Any, channel: ChannelFacts) -> Normalisation:
    """CT has a scale of its own."""
    if how == IMAGE:
        return Normalisation("image")
    measured = (channel.low, channel.high, channel.mean, max(channel.std, 1e-6))
    return Normalisation("clip", *(measured if how == CT else how))
