"""Whether probabilities mean what they say, and what another threshold would give: both from counts in a hundred bins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 100  # so that thresholds go in steps of 0.01


@dataclass(frozen=True)
class Calibration:
    """Pixels of N cases and K classes by their probability, in bins (0, 0.01], (0.01, 0.02] … of which the first has 0 too.

    Attributes:
        pixels: int64 ``(N, K, 100)``.
        positives: those of them that belong to the class, likewise.
        sums: of the probabilities, float64 ``(N, K, 100)``.
    """

    pixels: NDArray[np.int64]
    positives: NDArray[np.int64]
    sums: NDArray[np.float64]

    @classmethod
    def of(cls, probabilities: NDArray[np.floating], truth: NDArray[np.bool_]) -> Calibration:
        """Of one case: ``(K, P)`` each. Counted in 64 bits: MONAI's ``calibration_binning`` stops at 16,777,216 voxels a bin."""
        place = np.clip(np.ceil(probabilities.astype(np.float64) * BINS) - 1, 0, BINS - 1).astype(np.intp)
        pixels = [np.bincount(row, minlength=BINS) for row in place]
        positives = [np.bincount(row[inside], minlength=BINS) for row, inside in zip(place, truth, strict=True)]
        sums = [np.bincount(row, weights, minlength=BINS) for row, weights in zip(place, probabilities, strict=True)]
        return cls(np.array([pixels]), np.array([positives]), np.array([sums]))

    @classmethod
    def join(cls, cases: Iterable[Calibration]) -> Calibration:
        """Of several cases; ``ValueError`` for none."""
        parts = [(case.pixels, case.positives, case.sums) for case in cases]
        return cls(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def reliability(self, bins: int = 20) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Of all cases together: mean probability, share in the class (NaN without pixels), and pixels, ``(K, bins)`` each."""
        pixels, positives, sums = (
            part.sum(0).reshape(part.shape[1], bins, -1).sum(2) for part in (self.pixels, self.positives, self.sums)
        )
        with np.errstate(invalid="ignore"):
            return sums / pixels, positives / pixels, pixels

    def ece(self, bins: int = 20) -> NDArray[np.float64]:
        """Expected calibration error of every class ``(K,)``: mean of ``|probability - share|`` over bins, weighted by pixels.

        Over all pixels of all cases, background too (Naeini et al. 2015, https://doi.org/10.1609/aaai.v29i1.9602).

        >>> float(Calibration.of(np.full((1, 10), 0.8), np.arange(10)[None] < 5).ece().round(6)[0])
        0.3
        """
        said, share, pixels = self.reliability(bins)
        return np.asarray(np.nansum(np.abs(said - share) * pixels, axis=1) / pixels.sum(1))

    def dice(self) -> NDArray[np.float64]:
        """Mean Dice of the cases with masks above the thresholds 0, 0.01 … 0.99, ``(K, 100)``; 1 where both masks are empty."""
        found = self.pixels[..., ::-1].cumsum(2)[..., ::-1]
        common = self.positives[..., ::-1].cumsum(2)[..., ::-1]
        sizes = found + self.positives.sum(2, keepdims=True)
        return np.asarray(np.where(sizes > 0, 2 * common / np.maximum(sizes, 1), 1.0).mean(0))
