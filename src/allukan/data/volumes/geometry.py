"""Where the voxels of an array lie in the patient: a value of its own, without the voxels.

Stated once for the whole package: arrays are ``(C, D, H, W)`` or ``(C, H, W)``, and every tuple about axes is in the order of the
array, (D, H, W) or (H, W). World coordinates are millimetres in LPS, as in DICOM and ITK: x grows to the patient's left, y to the
back (posterior), z to the head (superior). NIfTI and nibabel count in RAS, whose x and y have the other sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from allukan.errors import UserError

CANONICAL = {2: "PL", 3: "SPL"}  # H grows to the back, W to the left, D to the head: the axes of the world
TOLERANCE = 0.1  # of the smallest spacing, by which the corners of two images of one case may differ
_LETTERS = ("RL", "AP", "IS")  # towards which x, y, z fall and grow
_FLAT = 1e-6  # determinant of unit vectors that lie in one plane
_STRAIGHT = 1e-3  # cosine of two axes that counts as a right angle: 0.06°


@dataclass(frozen=True)
class Axes:
    """Another order of the axes of an array, some of them reversed: axis ``i`` of the result is axis ``order[i]`` of the array.

    >>> turn = Axes((1, 0), (True, False))
    >>> turn.apply(np.array([[1, 2, 3], [4, 5, 6]])).tolist()
    [[3, 6], [2, 5], [1, 4]]
    >>> turn.inverse.apply(turn.apply(np.array([[1, 2, 3], [4, 5, 6]]))).tolist()
    [[1, 2, 3], [4, 5, 6]]
    """

    order: tuple[int, ...]
    reversed: tuple[bool, ...]

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """``(…, *S)`` → ``(…, *S')``, a view: no value is changed or made up."""
        first = array.ndim - len(self.order)
        moved = array.transpose(*range(first), *(first + axis for axis in self.order))
        steps: tuple[Any, ...] = tuple(slice(None, None, -1 if back else 1) for back in self.reversed)
        return np.asarray(moved[(..., *steps)])

    @property
    def inverse(self) -> Axes:
        """The way back."""
        back = [self.order.index(axis) for axis in range(len(self.order))]
        return Axes(tuple(back), tuple(self.reversed[axis] for axis in back))


@dataclass(frozen=True)
class Geometry:
    """The grid of an image.

    Attributes:
        shape: voxels along each axis, (D, H, W) or (H, W).
        spacing_mm: distance of neighbours along each axis, above 0.
        origin: of the centre of voxel (0, 0, 0), in mm: (x, y, z) in LPS; (x, y) of a picture.
        direction: a row for each of x, y, z and a column for each axis of the array: the unit vector along which its index grows.
        in_mm: false where the file says no size, as PNG: a pixel counts as 1 mm then, which no length in mm may be taken from.
    """

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[tuple[float, ...], ...]
    in_mm: bool = True

    @classmethod
    def from_affine(cls, affine: ArrayLike, shape: Sequence[int], name: object = "the image") -> Geometry:
        """From the matrix index → world, as in ``affine``. Raises ``UserError`` about ``name`` where it spans no space.

        >>> Geometry.from_affine([[0, 0, 2, 5], [0, 2, 0, 6], [3, 0, 0, 7], [0, 0, 0, 1]], (9, 8, 7)).spacing_mm
        (3.0, 2.0, 2.0)
        """
        matrix = np.asarray(affine, np.float64)
        spacing = np.linalg.norm(matrix[:-1, :-1], axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            direction = matrix[:-1, :-1] / spacing
        return cls.from_axes(shape, spacing, matrix[:-1, -1], direction, name)

    @classmethod
    def from_axes(
        cls, shape: Sequence[int], spacing_mm: ArrayLike, origin: ArrayLike, direction: ArrayLike, name: object = "the image"
    ) -> Geometry:
        """From what a header says, unchanged. Raises ``UserError`` about ``name`` where that spans no space."""
        sizes, place, turned = (np.asarray(values, np.float64) for values in (spacing_mm, origin, direction))
        finite = all(np.isfinite(values).all() for values in (sizes, place, turned))
        if not finite or not (sizes > 0).all() or abs(np.linalg.det(turned)) < _FLAT:
            numbers = "; ".join(" ".join(f"{value:g}" for value in row) for row in turned)
            raise UserError(
                f"{name} has no usable geometry (spacing {_times(sizes.tolist())} mm, directions {numbers}): mend its header."
            )
        return cls(tuple(map(int, shape)), tuple(sizes.tolist()), tuple(place.tolist()), tuple(map(tuple, turned.tolist())))

    @classmethod
    def of_pixels(cls, shape: Sequence[int], spacing_mm: Sequence[float] | None = None) -> Geometry:
        """Along the axes of the world from 0, for files that say no place and, without ``spacing_mm``, no size."""
        count, size = len(shape), tuple(map(float, spacing_mm or (1.0,) * len(shape)))
        turned = tuple(tuple(float(x == count - 1 - axis) for axis in range(count)) for x in range(count))
        return cls(tuple(map(int, shape)), size, (0.0,) * count, turned, spacing_mm is not None)

    @property
    def affine(self) -> NDArray[np.float64]:
        """``(S + 1, S + 1)``: (d, h, w, 1) → (x, y, z, 1), index of the array → mm in LPS."""
        matrix = np.eye(len(self.shape) + 1)
        matrix[:-1, :-1] = np.asarray(self.direction) * self.spacing_mm
        matrix[:-1, -1] = self.origin
        return matrix

    @property
    def orientation(self) -> str:
        """To where the index of each axis grows, nearest, in the order of the array: "SPL" is head, back, left.

        nibabel and ITK name the axes in the opposite order: what is "SPL" here is "LPS" there.
        """
        matrix = np.asarray(self.direction)
        worlds, axes = linear_sum_assignment(-np.abs(matrix))
        world = dict(zip(axes.tolist(), worlds.tolist(), strict=True))
        return "".join(_LETTERS[world[axis]][int(matrix[world[axis], axis] > 0)] for axis in range(len(self.shape)))

    @property
    def is_orthogonal(self) -> bool:
        """False for sheared grids (gantry tilt), in which spacing alone measures no oblique distance."""
        matrix = np.asarray(self.direction)
        return bool(np.abs(matrix.T @ matrix - np.eye(len(self.shape))).max() < _STRAIGHT)

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel, in mm³ (of a pixel: its area in mm²)."""
        return float(abs(np.linalg.det(np.asarray(self.direction)))) * prod(self.spacing_mm)

    def axes_to(self, orientation: str) -> Axes:
        """What turns arrays of this geometry towards ``orientation``. Raises ``UserError`` for no such orientation.

        >>> Geometry.of_pixels((4, 5, 6)).axes_to("RSA")
        Axes(order=(2, 0, 1), reversed=(True, False, True))
        """
        own, line = self.orientation, {letter: pair for pair in _LETTERS for letter in pair}
        if sorted(line.get(letter, "") for letter in orientation) != sorted(line[letter] for letter in own):
            raise UserError(f"{orientation!r} is no orientation of {len(own)} axes: name one of RL, AP and IS each, as {own}.")
        order = tuple(next(i for i, mine in enumerate(own) if line[mine] == line[wanted]) for wanted in orientation)
        return Axes(order, tuple(own[i] != wanted for i, wanted in zip(order, orientation, strict=True)))

    def moved(self, axes: Axes) -> Geometry:
        """The geometry of ``axes.apply(array)``: every voxel stays where it is."""
        matrix = self.affine
        for axis, back in zip(axes.order, axes.reversed, strict=True):
            if back:
                matrix[:-1, -1] += matrix[:-1, axis] * (self.shape[axis] - 1)
        signs = [-1.0 if back else 1.0 for back in axes.reversed]
        direction = np.asarray(self.direction)[:, list(axes.order)] * signs + 0.0  # no -0
        return replace(
            self,
            shape=tuple(self.shape[axis] for axis in axes.order),
            spacing_mm=tuple(self.spacing_mm[axis] for axis in axes.order),
            origin=tuple(matrix[:-1, -1].tolist()),
            direction=tuple(map(tuple, direction.tolist())),
        )

    def resized(self, shape: Sequence[int]) -> Geometry:
        """The same box in other voxels: its outer faces stay, so that the first centre moves."""
        factor = np.asarray(self.shape) / np.asarray(shape)
        origin = (self.affine @ [*((factor - 1) / 2), 1])[:-1]
        spacing = tuple((factor * self.spacing_mm).tolist())
        return replace(self, shape=tuple(map(int, shape)), spacing_mm=spacing, origin=tuple(origin.tolist()))

    def shape_at(self, spacing_mm: Sequence[float]) -> tuple[int, ...]:
        """Voxels along each axis that come nearest to a spacing, one at least.

        >>> Geometry.of_pixels((10, 100, 100), (3.0, 1.0, 1.0)).shape_at((1.5, 2.0, 1.0))
        (20, 50, 100)
        """
        sizes = zip(self.shape, self.spacing_mm, spacing_mm, strict=True)
        return tuple(max(1, round(count * have / want)) for count, have, want in sizes)

    def differs(self, other: Geometry) -> str:
        """How another image does not lie on this grid, in words; empty where it does.

        Shapes must be equal, and no corner of the grid may be further off than ``TOLERANCE`` of the smallest spacing.
        """
        if self.shape != other.shape:
            return f"{_times(other.shape)} voxels instead of {_times(self.shape)}"
        if len(self.origin) != len(other.origin) or not (self.in_mm and other.in_mm):
            return ""  # one of them says no place
        ends = np.array([(*corner, 1) for corner in product(*((0, count - 1) for count in self.shape))])
        off = float(np.linalg.norm(ends @ (self.affine - other.affine).T, axis=1).max())
        if off <= TOLERANCE * min(self.spacing_mm):
            return ""
        sizes = f"spacing {_times(other.spacing_mm)} mm instead of {_times(self.spacing_mm)}"
        return f"its corners lie up to {off:.3g} mm elsewhere ({sizes}, {other.orientation} instead of {self.orientation})"


def _times(values: Sequence[float]) -> str:
    return "×".join(f"{value:.4g}" for value in values)
