"""Scores of one case, with explicit rules for empty masks, and U-KAN's pooled figure."""

from __future__ import annotations

import math
import warnings
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from numpy.typing import NDArray

from allukan.errors import UserError
from allukan.scores.empty import EMPTY_MASKS, EMPTY_TRUTH_PERCENT, OK, EmptyMasks, status_of

Mask = NDArray[np.bool_]
METRICS = ("iou", "dice", "hd95", "surface_dice")
AREAS = ("truth_pixels", "predicted_pixels", "common_pixels")  # of a case and class, from which Dice is pooled over images

VOLUMES = ("truth_ml", "predicted_ml", "volume_difference_ml", "volume_difference_percent")


def check_complete(scores: Container[str], file: Path, run: Path) -> None:
    """Raise ``UserError`` for a file of scores without a metric of today, as an older version wrote it."""
    if lacking := [metric for metric in METRICS if metric not in scores]:
        raise UserError(f"{file} holds no {', '.join(lacking)}: run allukan evaluate {run} again.")


def case_metrics(
    prediction: Mask,
    truth: Mask,
    spacing_mm: Sequence[float] | None = None,
    tolerance_mm: float | Sequence[float] = 2.0,
    empty: EmptyMasks = EMPTY_MASKS,
) -> list[dict[str, Any]]:
    """IoU, Dice, HD95 and surface Dice of every class of one case; of volumes in mm their volumes as well.

    Args:
        prediction: bool ``(K, *S)``, two or three spatial axes.
        truth: bool ``(K, *S)``.
        spacing_mm: size of a pixel along every spatial axis; HD95 and the tolerance are in the same unit, without it in pixels.
        tolerance_mm: distance up to which two surfaces agree (surface Dice), or one for every class.
        empty: scores where a mask is empty, a rule for every metric.

    Returns:
        A dict a class with ``iou``, ``dice``, ``hd95``, ``surface_dice``, ``status``, and the pixels of the truth, of the
        prediction and of both (``truth_pixels``, ``predicted_pixels``, ``common_pixels``). "ok": both masks hold something.
        "both_empty": a correct empty answer, scores 1 and HD95 0. "missed" (only the truth holds something) and "false_alarm"
        (only the prediction): scores 0, and HD95 is the diagonal of the image, so that a failure never improves a mean; all this
        is ``EMPTY_MASKS``. With three spacings also ``volume_metrics``.

    Raises:
        ValueError: for two different shapes, masks that are not bool, or a spacing or tolerances that do not fit.

    >>> square = np.zeros((1, 8, 8), bool); square[0, 2:6, 2:6] = True
    >>> case_metrics(square, square)[0]["iou"], case_metrics(~square & False, square)[0]["status"]
    (1.0, 'missed')
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} must have the same shape (K, *S)")
    if prediction.dtype != bool or truth.dtype != bool:
        raise ValueError(f"masks must be bool, not {prediction.dtype} (prediction) and {truth.dtype} (truth)")
    if lacking := [name for name in METRICS if name not in empty.rules]:
        raise ValueError(f"empty has no rule for {', '.join(lacking)}: give EmptyMasks({{**EMPTY_MASKS.rules, ...}})")
    axes, classes = prediction.ndim - 1, len(prediction)
    if spacing_mm is not None and (len(spacing_mm) != axes or not all(0 < s < math.inf for s in spacing_mm)):
        raise ValueError(f"spacing_mm {tuple(spacing_mm)} must name {axes} axes above 0, one for each axis of the image")
    tolerances = [tolerance_mm] * classes if isinstance(tolerance_mm, int | float) else list(tolerance_mm)
    if len(tolerances) != classes or not all(0 <= t < math.inf for t in tolerances):
        raise ValueError(f"tolerance_mm {tolerance_mm} must be a distance of 0 or more, or {classes}, one for each class")
    spacing = tuple(spacing_mm or (1.0,) * axes)
    rows = [_one_class(p, t, spacing, o, empty) for p, t, o in zip(prediction, truth, tolerances, strict=True)]
    if spacing_mm is None or axes != 3:
        return rows
    return [{**row, **volume_metrics(row["truth_pixels"], row["predicted_pixels"], math.prod(spacing))} for row in rows]


def volume_metrics(truth_voxels: int, predicted_voxels: int, voxel_mm3: float) -> dict[str, float | None]:
    """``VOLUMES`` of one class: truth and prediction in ml, prediction minus truth in ml and in percent of the truth.

    The percentage is None for a prediction of what is not there.

    >>> volume_metrics(1000, 1500, voxel_mm3=2.0)
    {'truth_ml': 2.0, 'predicted_ml': 3.0, 'volume_difference_ml': 1.0, 'volume_difference_percent': 50.0}
    """
    ml = voxel_mm3 / 1000
    truth, found = truth_voxels * ml, predicted_voxels * ml
    status = status_of(truth_voxels, predicted_voxels)
    percent = 100 * (found - truth) / truth if status == OK else getattr(EMPTY_TRUTH_PERCENT, status)
    return dict(zip(VOLUMES, (truth, found, found - truth, percent), strict=True))


def _one_class(prediction: Mask, truth: Mask, spacing: tuple[float, ...], tolerance: float, empty: EmptyMasks) -> dict[str, Any]:
    areas = dict(zip(AREAS, (int(mask.sum()) for mask in (truth, prediction, truth & prediction)), strict=True))
    expected, found, both = areas.values()
    if (status := status_of(expected, found)) != OK:
        diagonal = math.hypot(*(n * s for n, s in zip(truth.shape, spacing, strict=True)))
        return {**empty.scores(status, diagonal), "status": status, **areas}
    window = _window(prediction | truth)
    pair = [torch.from_numpy(np.ascontiguousarray(mask[window]))[None, None] for mask in (prediction, truth)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 warns of a deprecated argument that it passes to itself
        hd95 = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=list(spacing))
        surface = compute_surface_dice(*pair, [tolerance], include_background=True, spacing=list(spacing))
    overlap = {"iou": both / (expected + found - both), "dice": 2 * both / (expected + found)}
    return {**overlap, "hd95": float(hd95), "surface_dice": float(surface), "status": OK, **areas}


def _window(mask: Mask) -> tuple[slice, ...]:
    """The bounding box and one pixel around it, where the image has one: outside it no surface is found."""
    occupied = [np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis))) for axis in range(mask.ndim)]
    return tuple(slice(max(0, int(found[0]) - 1), int(found[-1]) + 2) for found in occupied)


def group_dice(cases: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], float]:
    """Dice of every group and class, the pixels of all images of the group together; 1 where truth and prediction have none.

    ``cases`` are rows of ``cases.csv``. Where a group is the slices of one volume this is the Dice of the volume: a slice counts
    by what is in it, while a mean over slices counts every slice without the class as 0 or 1. It has nothing to do with the
    figures of ``pooled_iou``, which pools over batches.

    >>> slices = [{"truth_pixels": 90, "predicted_pixels": 110, "common_pixels": 90}, {"predicted_pixels": 10}]
    >>> group_dice({"group": "a", "class": "x", **dict.fromkeys(AREAS, 0), **one} for one in slices)
    {('a', 'x'): 0.8571428571428571}
    """
    areas: dict[tuple[str, str], NDArray[np.int64]] = {}
    for row in cases:
        key = row["group"], row["class"]
        areas[key] = areas.get(key, np.zeros(3, np.int64)) + np.array([int(row[name]) for name in AREAS])
    return {key: 2 * int(both) / int(truth + found) if truth + found else 1.0 for key, (truth, found, both) in areas.items()}


def pooled_iou(predictions: Mask, truths: Mask, batch_size: int = 8) -> tuple[float, float]:
    """IoU and Dice as U-KAN reports them: pooled over batches of images, then averaged.

    Bool masks ``(N, K, *S)`` in the order of the validation loader. Intersection and union are summed over a whole batch
    (images and classes) and smoothed by 1e-5, Dice is 2 IoU / (IoU + 1), and the mean over batches is weighted by their size.
    Source: ``iou_score`` in ``Seg_UKAN/metrics.py`` and the loop in ``val.py`` of CUHK-AIM-Group/U-KAN at 9ea6d00.
    A large lesion outweighs a small one in such a figure: it is no mean over images. ``ValueError`` for no images.

    >>> masks = np.ones((3, 1, 4, 4), bool)
    >>> pooled_iou(masks, masks)
    (1.0, 1.0)
    """
    if predictions.shape != truths.shape or len(truths) == 0:
        raise ValueError(f"predictions {predictions.shape} and truths {truths.shape} must have one shape (N, K, *S) with N > 0")
    ious, weights = [], []
    for start in range(0, len(truths), batch_size):
        p, t = predictions[start : start + batch_size], truths[start : start + batch_size]
        ious.append(((p & t).sum() + 1e-5) / ((p | t).sum() + 1e-5))
        weights.append(len(t))
    iou = np.array(ious)
    return float(np.average(iou, weights=weights)), float(np.average(2 * iou / (iou + 1), weights=weights))
