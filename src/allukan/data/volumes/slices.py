"""Slices to one grid: their order, and whether they are all there."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from allukan.data.volumes.dicom_header import Frame
from allukan.data.volumes.geometry import Geometry
from allukan.errors import UserError

_log = logging.getLogger("allukan")
_UNEVEN = 0.15  # of the spacing, by which a slice may lie off its place: positions are often written with one decimal
_TURNED = 1e-3  # by which unit vectors of the slices of a series may differ
_DRIFT = 0.1  # of a pixel, by which a stack may lean before that is a tilt


def grid(frames: Sequence[Frame], thickness_mm: float, shape: Sequence[int], name: object) -> tuple[list[int], Geometry]:
    """The order of slices of ``shape`` (H, W) along their normal, and their grid; ``thickness_mm`` is that of a single one.

    The order is that of their places: numbers and names of files do not count. A gantry tilt stays what it is, a sheared grid,
    which is said in the log: no value is interpolated. Raises ``UserError`` for slices of different size or direction, two in one
    place, a missing one (named by its neighbours), uneven distances, and a slice beside the line of the others.
    """
    first = frames[0]
    for frame in frames[1:]:
        _check_fits(frame, first)
    normal = np.cross(first.columns, first.rows)
    heights = np.array([frame.position @ normal for frame in frames])
    order = np.argsort(heights, kind="stable").tolist()
    ordered, heights = [frames[i] for i in order], heights[order]
    if len(frames) > 1:
        _check_gaps(ordered, np.diff(heights))
        _check_line(ordered, normal)
        normal, thickness_mm = _step(ordered, normal)
    direction = np.stack([normal, first.rows, first.columns], axis=1)
    spacing = (thickness_mm, *first.spacing_mm)
    return order, Geometry.from_axes((len(frames), *shape), spacing, ordered[0].position, direction, name)


def _check_fits(frame: Frame, first: Frame) -> None:
    turned = max(np.abs(frame.rows - first.rows).max(), np.abs(frame.columns - first.columns).max())
    if turned > _TURNED:
        raise UserError(f"{_name(frame)} lies at an angle to {_name(first)} (a scout image?): keep slices of one direction.")
    if not np.allclose(frame.spacing_mm, first.spacing_mm, rtol=1e-3):
        sizes = f"{_name(frame)} has pixels of {frame.spacing_mm} mm and {_name(first)} of {first.spacing_mm}"
        raise UserError(f"{sizes}: they do not fit together.")


def _check_gaps(ordered: Sequence[Frame], gaps: NDArray[np.float64]) -> None:
    usual = float(np.median(gaps))
    same = np.flatnonzero(gaps < 0.01 * max(usual, 0.01))
    if len(same):
        a, b = ordered[same[0]], ordered[same[0] + 1]
        raise UserError(
            f"{_name(a)} and {_name(b)} lie in one place, as do {len(same)} pairs (a time series, several echoes, or copies): "
            "keep one volume a folder."
        )
    wide = np.flatnonzero(gaps > 1.5 * usual)
    if len(wide):
        a, b, gap = ordered[wide[0]], ordered[wide[0] + 1], float(gaps[wide[0]])
        missing = sum(round(float(gaps[i]) / usual) - 1 for i in wide)
        verb = "slice is" if missing == 1 else "slices are"
        raise UserError(f"{missing} {verb} missing: from {_name(a)} to {_name(b)} it is {gap:.4g} mm, elsewhere {usual:.4g} mm.")
    even = np.linspace(0, gaps.sum(), len(ordered))
    off = np.abs(np.concatenate([[0], gaps.cumsum()]) - even)
    if off.max() > _UNEVEN * usual:
        where = f"{_name(ordered[int(off.argmax())])} lies {off.max():.3g} mm off"
        raise UserError(f"{where}: slices are {gaps.min():.4g} to {gaps.max():.4g} mm apart, which is too uneven for one grid.")


def _check_line(ordered: Sequence[Frame], normal: NDArray[np.float64]) -> None:
    """Slices that were moved sideways, as between two breath-holds, would all be laid on the first one."""
    places = np.array([frame.position for frame in ordered])
    beside = places - np.linspace(places[0], places[-1], len(places))
    off = np.linalg.norm(beside - np.outer(beside @ normal, normal), axis=1)
    usual = float((places[-1] - places[0]) @ normal) / (len(places) - 1)
    if off.max() > _UNEVEN * max(usual, *ordered[0].spacing_mm):
        where = f"{_name(ordered[int(off.argmax())])} lies {off.max():.3g} mm beside the line of the other slices"
        raise UserError(f"{where} (a stack that was moved in between?): keep those of one place.")


def _step(ordered: Sequence[Frame], normal: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Direction and distance from slice to slice: along the normal, unless the stack leans."""
    whole = ordered[-1].position - ordered[0].position
    along = (whole @ normal) * normal
    lean = float(np.linalg.norm(whole - along))
    if lean <= _DRIFT * min(ordered[0].spacing_mm):
        return normal, float(whole @ normal) / (len(ordered) - 1)
    angle = np.degrees(np.arctan2(lean, np.linalg.norm(along)))
    _log.warning(
        f"{ordered[0].path.parent} is tilted by {angle:.1f}° (gantry tilt): its slices are kept as they are, on a sheared grid, "
        "which not every viewer shows."
    )
    length = float(np.linalg.norm(whole))
    return whole / length, length / (len(ordered) - 1)


def _name(frame: Frame) -> str:
    return f"{frame.path}" + (f" (frame {frame.number + 1})" if frame.number else "")
