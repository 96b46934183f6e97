"""Images that are nearly the same: they must not end up on both sides of a split.

Whether two images are the same cannot be told from how alike they are alone: photographs of fundi, X-rays and slices of CT all
resemble each other. So everything is judged against the set:

1. Candidates are pairs whose thumbnails of 24 pixels correlate by 0.9 *after the mean thumbnail of the set is taken out*, and
   every image with the one nearest to it, if by 0.7.
2. They are confirmed at 256 pixels: of the edges and textures, again without what the set shares, three of four patches must be
   found again in the other image, moved by up to 16 pixels (as by another crop or a resize).
   How well they must agree depends on how well patches of unrelated images of the set agree: by b, say; then by b + 0.2 (1 - b).

So copies are found that were compressed, resized, brightened or slightly cropped anew; mirrored and turned ones are not. Images
without any detail, as empty slices, are never duplicates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter

from allukan.data.channels import file_channels
from allukan.data.dataset import Case, Dataset
from allukan.data.images import fit_channels, read_image, resize_image
from allukan.data.volume_cases import read_volume

_SIDE = 24  # pixels of the thumbnails
_ALIKE = 0.9  # correlation of thumbnails, without what the set shares, from which a pair is looked at in detail
_NEAREST = 0.7  # the same, for an image and the one most like it
_DETAIL = 256  # pixels at which it is looked at
_BAND = (1.0, 4.0)  # pixels: blurs between which detail lies; finer is noise, coarser is what the thumbnails show
_PATCH, _WINDOW = 64, 96  # pixels of a patch, and of the surroundings in the other image where it is looked for
_MARGIN = (_WINDOW - _PATCH) // 2
_INNER = slice(_MARGIN, _MARGIN + _PATCH)
_STARTS = (0, 53, 107, 160)  # of the 4 × 4 windows, along each side
_SHARE = 0.25  # of the patches that need not be found again
_TEXTURED = 0.1  # of the mean energy: emptier patches say nothing
_REFERENCES = 100  # pairs of unrelated images that show how alike the set is anyway
_ABOVE = 0.2  # of the way from there to identity that a near-duplicate must have gone

Pair = tuple[int, int]


@dataclass(frozen=True)
class _Look:
    """Of an image: a thumbnail of unit length and zero mean, detail from -127 to 127, its energy by patch, a digest."""

    thumbnail: NDArray[np.float64]
    detail: NDArray[np.int8]
    energies: NDArray[np.float64]
    pixels: bytes


def near_duplicates(dataset: Dataset) -> list[tuple[str, str, float]]:
    """Pairs of ids that show nearly the same, and how well their detail agrees, best first: 1.0 means identical pixels.

    The rule is that of this module; of volumes only identical ones are found. At 647 images it takes a few seconds; a byte a
    pixel of 256 × 256 is held of every image.
    """
    if dataset.spatial_dims == 3:
        return _same_volumes(dataset)
    with ThreadPoolExecutor() as pool:
        looks = list(pool.map(_look, dataset.cases))
        if len(looks) < 2:
            return []
        alike = _likeness(np.stack([look.thumbnail for look in looks]))
        agree = _agreement(looks)
        found = dict.fromkeys(_identical(looks), 1.0)
        candidates = [pair for pair in _candidates(alike) if pair not in found]
        unrelated = _unrelated(alike) if candidates else []
        usual = float(np.quantile(list(pool.map(agree, unrelated)), 0.95)) if unrelated else 0.0
        for pair, score in zip(candidates, pool.map(agree, candidates), strict=True):
            if score >= usual + _ABOVE * (1 - usual):
                found[pair] = min(score, 0.9999)
    ids = dataset.ids
    return sorted(((ids[i], ids[j], score) for (i, j), score in found.items()), key=lambda pair: (-pair[2], pair))


def _same_volumes(dataset: Dataset) -> list[tuple[str, str, float]]:
    def digest(case: Case) -> bytes:
        values = read_volume(case.images, file_channels(dataset)).array
        return hashlib.blake2b(repr(values.shape).encode() + values.tobytes(), digest_size=16).digest()

    first: dict[bytes, str] = {}
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(digest, dataset.cases))
    pairs = [(first.setdefault(found, name), name) for found, name in zip(digests, dataset.ids, strict=True)]
    return [(one, other, 1.0) for one, other in pairs if one != other]


def _look(case: Case) -> _Look:
    image = read_image(case.images)
    grey = fit_channels(image, 1) if image.shape[2] in (1, 3) else image.mean(2, keepdims=True).astype(np.uint8)
    thumbnail = _unit(resize_image(grey, (_SIDE, _SIDE)).astype(np.float64).reshape(1, -1))[0]
    fine = resize_image(grey, (_DETAIL, _DETAIL))[..., 0].astype(np.float32)
    band = gaussian_filter(fine, _BAND[0]) - gaussian_filter(fine, _BAND[1])
    spread = float(band.std())
    # Clipped, so that the frame of an endoscope or burnt-in text does not outweigh everything else.
    detail = np.rint(np.clip(band / max(spread, 1e-6), -1, 1) * 127) if fine.min() < fine.max() else np.zeros_like(band)
    digest = hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).digest()
    energies = np.square(_windows(detail)[:, _INNER, _INNER], dtype=np.float64).sum((1, 2))
    return _Look(thumbnail, detail.astype(np.int8), energies, digest)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of zero mean and unit length, so that a product of two is their correlation; constant ones become zero."""
    rows = rows - rows.mean(1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-9)


def _likeness(thumbnails: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlations ``(N, N)`` of what distinguishes the thumbnails; of two images alone of the thumbnails themselves."""
    rows = _unit(thumbnails - thumbnails.mean(0)) if len(thumbnails) > 2 else thumbnails
    return rows @ rows.T


def _identical(looks: list[_Look]) -> list[Pair]:
    same: dict[bytes, list[int]] = {}
    for place, look in enumerate(looks):
        if look.detail.any():
            same.setdefault(look.pixels, []).append(place)
    return [(i, j) for places in same.values() for n, i in enumerate(places) for j in places[n + 1 :]]


def _candidates(alike: NDArray[np.float64]) -> list[Pair]:
    nearest = (alike - 2 * np.eye(len(alike))).max(1)
    enough = nearest.clip(_NEAREST, _ALIKE)
    return [(int(i), int(j)) for i, j in np.argwhere(np.triu(alike >= np.minimum(enough[:, None], enough), k=1))]


def _unrelated(alike: NDArray[np.float64]) -> list[Pair]:
    """Pairs drawn at random from those that are not alike; the same ones every time."""
    drawn = np.random.default_rng(0).integers(0, len(alike), (10 * _REFERENCES, 2))
    return [(int(i), int(j)) for i, j in drawn if i != j and alike[i, j] < _ALIKE / 2][:_REFERENCES]


def _agreement(looks: list[_Look]) -> Callable[[Pair], float]:
    """How well the detail of two images agrees, without what all share: of the patches with texture the lower quartile."""
    common = np.zeros((_DETAIL, _DETAIL), np.float32)
    for look in looks if len(looks) > 2 else ():
        common += look.detail / np.float32(len(looks))

    def agree(pair: Pair) -> float:
        first, second = (_windows(looks[place].detail - common) for place in pair)
        energies = np.maximum(*(looks[place].energies for place in pair))  # of their own: what both lack is no likeness
        textured = energies > _TEXTURED * energies.mean()
        return float(np.quantile(_matched(first[textured], second[textured]), _SHARE)) if textured.any() else 0.0

    return agree


def _windows(detail: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(256, 256)`` → the sixteen windows ``(16, 96, 96)``."""
    return sliding_window_view(detail, (_WINDOW, _WINDOW))[np.ix_(_STARTS, _STARTS)].reshape(-1, _WINDOW, _WINDOW)


def _matched(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """The best correlation of the patch in the middle of every window of ``first`` within that of ``second``."""
    patches = first[:, _INNER, _INNER]
    patches = patches - patches.mean((1, 2), keepdims=True)
    size = (_WINDOW, _WINDOW)
    spectrum = fft.rfft2(second) * np.conj(fft.rfft2(patches, size))
    products = fft.irfft2(spectrum, size)[:, : 2 * _MARGIN + 1, : 2 * _MARGIN + 1]
    sums = np.zeros((len(second), _WINDOW + 1, _WINDOW + 1))
    sums[:, 1:, 1:] = np.square(second, dtype=np.float64).cumsum(1).cumsum(2)
    below = sums[:, _PATCH:, _PATCH:] - sums[:, :-_PATCH, _PATCH:] - sums[:, _PATCH:, :-_PATCH] + sums[:, :-_PATCH, :-_PATCH]
    energies = np.square(patches, dtype=np.float64).sum((1, 2))
    return (products / np.sqrt(np.maximum(below * energies[:, None, None], 1e-6))).max((1, 2))
