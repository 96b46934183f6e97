"""At which size of voxel a network works, and how large the images are then."""

from __future__ import annotations

from allukan.data.fingerprint import Fingerprint

ANISOTROPIC = 3  # times the other sides, from which a voxel counts as long


def target_spacing(found: Fingerprint) -> tuple[float, ...] | None:
    """The median spacing, along the axis of long voxels the 10th percentile; None where there is no spacing.

    Voxels are long along an axis if their median there is more than three times that along every other, and the images have less
    than a third of the voxels there: then interpolating all slices to the median distance would lose those of finer images. It is
    never finer than the other axes. nnU-Net's rule (arXiv 1904.08128, online methods; "target spacing" of its documentation).

    >>> from allukan.data.fingerprint import Fingerprint
    >>> flat = dict(cases=9, size=(20, 256, 256), smallest=(9, 200, 200), largest=(40, 320, 320), voxels=9, channels=())
    >>> flat |= dict(extent_mm=(100, 256, 256), classes=(), class_shares=(), class_cases=(), sampled=False)
    >>> target_spacing(Fingerprint(spacing_mm=(5.0, 1.0, 1.0), finest_mm=(2.5, 0.8, 0.8), **flat))
    (2.5, 1.0, 1.0)
    """
    if found.spacing_mm is None or found.finest_mm is None:
        return None
    spacing = list(found.spacing_mm)
    long = max(range(len(spacing)), key=spacing.__getitem__)
    others = [axis for axis in range(len(spacing)) if axis != long]
    coarsest = max(spacing[axis] for axis in others)
    few = found.size[long] * ANISOTROPIC < min(found.size[axis] for axis in others)
    if spacing[long] > ANISOTROPIC * coarsest and few:
        spacing[long] = max(found.finest_mm[long], coarsest)
    return tuple(spacing)


def size_at(found: Fingerprint, spacing_mm: tuple[float, ...] | None) -> tuple[int, ...]:
    """The median size of the images in voxels of that spacing, at least one along every axis."""
    units = (1.0,) * found.spatial_dims if spacing_mm is None else spacing_mm
    return tuple(max(1, round(extent / unit)) for extent, unit in zip(found.extent_mm, units, strict=True))
