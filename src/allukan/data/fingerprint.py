"""What a set of images is like: sizes, spacings, intensities of the foreground, shares of the classes. One pass, little memory.

The idea, and the name, are nnU-Net's (arXiv 1904.08128): a training is planned from such figures, without looking at images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from allukan.errors import UserError, shown

PERCENTILES = (0.5, 99.5)
CASE_SAMPLE = 10_000  # voxels of a case at most, so that no large one outweighs all others
SAMPLE = 1_000_000  # voxels of all cases at most: 4 MB a channel
_SEED = 0
Floats = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class CaseFacts:
    """What a fingerprint takes from one case.

    Attributes:
        shape: voxels along (D, H, W) or (H, W).
        spacing_mm: along the same axes; None where the file says none.
        class_voxels: of every class.
        intensities: ``(C, n)`` of n voxels drawn from the foreground; of the whole image where there is no foreground.
        voxels: that the n stand for.
    """

    shape: tuple[int, ...]
    spacing_mm: Floats | None
    class_voxels: tuple[int, ...]
    intensities: NDArray[Any]
    voxels: int


def case_facts(image: NDArray[Any], masks: NDArray[np.bool_], spacing_mm: Sequence[float] | None = None) -> CaseFacts:
    """Of an image ``(C, *S)`` with masks ``(K, *S)`` of bool; the same case gives the same sample.

    >>> image = np.arange(12.0).reshape(1, 3, 4)
    >>> facts = case_facts(image, image > 9)
    >>> facts.class_voxels, facts.intensities.tolist()
    ((2,), [[10.0, 11.0]])
    """
    counts = tuple(int(mask.sum()) for mask in masks)
    chosen = np.flatnonzero(masks.any(0)) if any(counts) else np.arange(masks[0].size)
    total = len(chosen)
    if total > CASE_SAMPLE:
        chosen = np.sort(np.random.default_rng(_SEED).choice(chosen, CASE_SAMPLE, replace=False))
    spacing = None if spacing_mm is None else tuple(map(float, spacing_mm))
    return CaseFacts(image.shape[1:], spacing, counts, image.reshape(len(image), -1)[:, chosen], total)


@dataclass(frozen=True)
class ChannelFacts:
    """Intensities of one channel in the foreground of all cases, as the file has them.

    Attributes:
        name: what it shows, as "CT", where the dataset says so.
        low: 0.5th percentile.
        high: 99.5th percentile.
        mean: of all.
        std: standard deviation.
    """

    name: str
    low: float
    high: float
    mean: float
    std: float


@dataclass(frozen=True)
class Fingerprint:
    """What a set of images is like; tuples about axes are in the order (D, H, W) or (H, W).

    Attributes:
        cases: how many.
        size: median, in voxels.
        smallest: size.
        largest: size.
        spacing_mm: median; None where no file says any, as PNG.
        finest_mm: 10th percentile of the spacings.
        extent_mm: median of size · spacing; in pixels where there is no spacing.
        voxels: of all cases together.
        channels: intensities in the foreground.
        classes: names.
        class_shares: of all voxels.
        class_cases: how many cases have any of it.
        sampled: whether intensities are those of a sample, or of every voxel of the foreground.
    """

    cases: int
    size: Floats
    smallest: tuple[int, ...]
    largest: tuple[int, ...]
    spacing_mm: Floats | None
    finest_mm: Floats | None
    extent_mm: Floats
    voxels: int
    channels: tuple[ChannelFacts, ...]
    classes: tuple[str, ...]
    class_shares: Floats
    class_cases: tuple[int, ...]
    sampled: bool

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.size)

    @property
    def anisotropy(self) -> float:
        """Longest over shortest side of the median voxel; 1 where there is no spacing."""
        return max(self.spacing_mm) / min(self.spacing_mm) if self.spacing_mm else 1.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON and YAML; ``Fingerprint.from_dict`` is the way back."""
        return _plain(asdict(self)) | {"anisotropy": self.anisotropy}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Fingerprint:
        """Raises ``UserError`` for what ``as_dict`` did not give."""
        names = {field.name for field in fields(cls)}
        if not isinstance(given, Mapping) or set(given) != names | {"anisotropy"}:
            raise UserError(f"a fingerprint must hold {', '.join(sorted(names))}, got {shown(given)}.")
        values = {name: _tuples(given[name]) for name in names}
        try:
            values["channels"] = tuple(ChannelFacts(**channel) for channel in given["channels"])
        except TypeError:
            raise UserError(
                f"channels of a fingerprint must hold name, low, high, mean, std: {shown(given['channels'])}."
            ) from None
        return cls(**values)


def fingerprint(cases: Iterable[CaseFacts], classes: Sequence[str], channel_names: Sequence[str] = ()) -> Fingerprint:
    """One pass over ``cases``, of which shapes and spacings are kept, and at most ``SAMPLE`` intensities a channel.

    Percentiles, mean and standard deviation are of the voxels sampled: every one of the foreground while a case has at most
    ``CASE_SAMPLE`` and all together ``SAMPLE``. Raises ``UserError`` without cases, and for cases that differ in their number of
    axes, channels or classes, or of which only some have a spacing.

    >>> image = np.arange(12.0).reshape(1, 3, 4)
    >>> found = fingerprint([case_facts(image, image > 7)] * 2, ["lesion"])
    >>> found.size, found.class_shares, found.channels[0].mean
    ((3.0, 4.0), (0.3333333333333333,), 9.5)
    """
    first, rows, pool, truncated = None, [], _Pool(), False
    for facts in cases:
        first = first or facts
        _check_alike(facts, first, classes)
        rows.append((facts.shape, facts.spacing_mm, facts.class_voxels))
        pool.add(facts.intensities)
        truncated = truncated or facts.intensities.shape[1] < facts.voxels
    if first is None:
        raise UserError("no images to take a fingerprint of: the selection is empty.")
    shapes, counts = (np.array(column) for column in zip(*((shape, count) for shape, _, count in rows), strict=True))
    spacings = None if first.spacing_mm is None else np.array([spacing for _, spacing, _ in rows])
    voxels = int(shapes.prod(1, dtype=np.int64).sum())
    return Fingerprint(
        cases=len(rows),
        size=_floats(np.median(shapes, 0)),
        smallest=tuple(shapes.min(0).tolist()),
        largest=tuple(shapes.max(0).tolist()),
        spacing_mm=None if spacings is None else _floats(np.median(spacings, 0)),
        finest_mm=None if spacings is None else _floats(np.percentile(spacings, 10, 0)),
        extent_mm=_floats(np.median(shapes * (1 if spacings is None else spacings), 0)),
        voxels=voxels,
        channels=_channels(pool.all(), channel_names),
        classes=tuple(classes),
        class_shares=_floats(counts.sum(0) / voxels),
        class_cases=tuple((counts > 0).sum(0).tolist()),
        sampled=truncated or pool.step > 1,
    )


class _Pool:
    """Intensities ``(C, n)`` of many cases, at most ``SAMPLE``: beyond that every second one goes, and of later cases too."""

    def __init__(self) -> None:
        self.parts: list[NDArray[Any]] = []
        self.step = 1
        self.count = 0

    def add(self, values: NDArray[Any]) -> None:
        self.parts.append(np.ascontiguousarray(values[:, :: self.step]))
        self.count += self.parts[-1].shape[1]
        while self.count > SAMPLE:
            self.parts, self.step = [self.all()[:, ::2]], 2 * self.step
            self.count = self.parts[0].shape[1]

    def all(self) -> NDArray[Any]:
        return np.concatenate(self.parts, 1)


def _channels(values: NDArray[Any], names: Sequence[str]) -> tuple[ChannelFacts, ...]:
    names = tuple(names) or ("",) * len(values)
    if len(names) != len(values):
        raise UserError(f"{len(names)} names ({', '.join(names)}) for the {len(values)} channels of the images.")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise UserError("the foreground of an image holds intensities that are not finite: mend it, or leave it out.")
    bounds = np.percentile(values, PERCENTILES, axis=1).T
    figures = zip(names, bounds.tolist(), values.mean(1).tolist(), values.std(1).tolist(), strict=True)
    return tuple(ChannelFacts(name, low, high, mean, std) for name, (low, high), mean, std in figures)


def _check_alike(facts: CaseFacts, first: CaseFacts, classes: Sequence[str]) -> None:
    """Raise ``UserError`` for what a set of images cannot hold together."""
    for what, here, there in (
        ("axes", len(facts.shape), len(first.shape)),
        ("channels", len(facts.intensities), len(first.intensities)),
        ("classes", len(facts.class_voxels), len(classes)),
    ):
        if here != there:
            raise UserError(f"an image of size {_size(facts)} has {here} {what} where others have {there}: they are no set.")
    if (facts.spacing_mm is None) != (first.spacing_mm is None):
        with_, without = (facts, first) if facts.spacing_mm else (first, facts)
        raise UserError(
            f"an image of size {_size(with_)} has a spacing in mm and one of size {_size(without)} has none: give all one."
        )


def _size(facts: CaseFacts) -> str:
    return "×".join(map(str, facts.shape))


def _floats(values: ArrayLike) -> Floats:
    return tuple(float(value) for value in np.asarray(values))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
