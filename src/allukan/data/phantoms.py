"""Synthetic ultrasound with known lesions: the default data of the demo and of the tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from allukan.data.dataset import Dataset
from allukan.data.images import write_image
from allukan.data.layouts import open_dataset
from allukan.errors import UserError
from allukan.files import write_table

Array = NDArray[np.float64]
_LESIONS = (0.08, 0.22)  # range of the mean radius, in image heights
_CYSTS = (0.03, 0.075)
_WITHOUT_LESION = 0.06  # share of the images


@dataclass(frozen=True)
class _Blob:
    """A closed smooth outline: centre and mean radius in image heights, aspect, and waves on the radius."""

    centre: tuple[float, float]
    radius: float
    aspect: float
    angle: float
    waves: Array  # (orders, 2): cosine and sine

    def inside(self, size: int) -> NDArray[np.bool_]:
        """``(H, W)``, where a point lies inside the outline."""
        y, x = (np.mgrid[:size, :size] + 0.5) / size
        dy, dx = y - self.centre[0], x - self.centre[1]
        along = np.cos(self.angle) * dx + np.sin(self.angle) * dy
        across = (-np.sin(self.angle) * dx + np.cos(self.angle) * dy) * self.aspect
        phi = np.arctan2(across, along)
        orders = np.arange(2, 2 + len(self.waves))[:, None, None]
        outline = 1 + (self.waves[:, :1, None] * np.cos(orders * phi) + self.waves[:, 1:, None] * np.sin(orders * phi)).sum(0)
        inside: NDArray[np.bool_] = np.hypot(along, across) < self.radius * outline
        return inside


def write_phantoms(root: str | Path, count: int = 200, size: int = 128, seed: int = 0) -> Dataset:
    """Write ``count`` images of ``size`` × ``size`` pixels, their masks and ``groups.csv`` (two images a patient); open them.

    The same arguments give the same files. Raises ``UserError`` when ``root`` is in use or a number is not usable.
    """
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"{root} is not empty: choose another folder, nothing is overwritten.")
    if count < 1 or size < 32:
        raise UserError(f"phantoms need a count of at least 1 and a size of at least 32 pixels, got {count} and {size}.")
    width = len(str(count - 1))
    for i in range(count):
        image, mask = phantom(size, np.random.default_rng([seed, i]))
        write_image(root / "images" / f"phantom_{i:0{width}d}.png", image)
        write_image(root / "masks" / "0" / f"phantom_{i:0{width}d}.png", mask * np.uint8(255))
    write_table(root / "groups.csv", [{"id": f"phantom_{i:0{width}d}", "patient": i // 2} for i in range(count)])
    return open_dataset(root)


def phantom(size: int, generator: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One B-mode image ``(H, W)`` and its lesion mask ``(H, W)`` of 0 and 1.

    Layered tissue with bright interfaces; dark, speckled lesions with irregular outlines, enhancement or shadow behind them; as
    distractors echo-free cysts and shadows without lesion; Rayleigh speckle through a point-spread function that widens with
    depth, attenuation, log compression.
    """
    echo = _tissue(size, generator)
    mask = np.zeros((size, size), bool)
    lesions = 0 if generator.random() < _WITHOUT_LESION else 1 + (generator.random() < 0.15)
    for _ in range(lesions):
        blob = _blob(generator, _LESIONS)
        inside = blob.inside(size)
        mask |= inside
        echo = np.where(inside, echo * generator.uniform(0.01, 0.07), echo) * _behind(inside, generator.uniform(0.45, 1.7))
    for _ in range(generator.integers(1, 4)):
        cyst = _blob(generator, _CYSTS).inside(size) & ~mask
        echo = np.where(cyst, 0.001, echo) * _behind(cyst, 1.6)
    for _ in range(generator.integers(0, 3)):
        echo = echo * _shadow(size, generator)
    return _scan(echo, generator), mask.astype(np.uint8)


def _blob(generator: np.random.Generator, radius: tuple[float, float]) -> _Blob:
    waves = generator.normal(0, 0.09, (5, 2)) / np.arange(1, 6)[:, None] ** 0.7
    centre = generator.uniform((0.3, 0.2), (0.75, 0.8))
    return _Blob(
        (float(centre[0]), float(centre[1])),
        generator.uniform(*radius),
        generator.uniform(1, 1.9),
        generator.normal(0, 0.35),
        waves,
    )


def _tissue(size: int, generator: np.random.Generator) -> Array:
    """Echogenicity of skin, fat, gland and muscle with wavy interfaces and smooth texture."""
    depth = (np.arange(size)[:, None] + 0.5) / size
    wave = gaussian_filter(generator.normal(size=size), size / 8, mode="wrap")
    wave = 0.035 * wave / max(float(np.abs(wave).max()), 1e-9)
    borders = np.sort(generator.uniform(0.04, 0.95, 4))
    levels = np.exp(generator.uniform(np.log(0.12), 0, 5))
    echo = np.full((size, size), levels[0])
    for border, level in zip(borders, levels[1:], strict=True):
        distance = depth - border - wave[None, :] * (1 + border)
        echo = np.where(distance > 0, level, echo) + 0.9 * np.exp(-0.5 * (distance * 90) ** 2)
    texture = gaussian_filter(generator.normal(size=(size, size)), (size / 40, size / 16))
    return np.clip(echo * (1 + 0.25 * texture / max(float(texture.std()), 1e-9)), 0.05, None)


def _shadow(size: int, generator: np.random.Generator) -> Array:
    """Gain below something that reflects all sound, as a rib: a dark column with soft edges from some depth downwards."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    start, centre, width = generator.uniform(0.1, 0.6), generator.uniform(0, 1), generator.uniform(0.03, 0.09)
    column = np.exp(-0.5 * ((x - centre) / (width * (0.7 + 0.6 * y))) ** 4)
    return 1 - generator.uniform(0.8, 0.97) * column / (1 + np.exp((start - y) * 40))


def _behind(inside: NDArray[np.bool_], gain: float) -> Array:
    """Gain of the tissue below a lesion: above 1 enhancement, below 1 shadow."""
    passed = np.cumsum(inside, axis=0) / max(1, int(inside.sum(0).max()))
    below = gaussian_filter(np.where(inside, 0.0, passed), (1, inside.shape[0] / 60))
    return 1 + (gain - 1) * np.clip(below, 0, 1)


def _scan(echo: Array, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Speckle, attenuation, log compression to 45 dB, bytes."""
    size = len(echo)
    scatter = generator.normal(size=(2, size, size)) * np.sqrt(echo)
    fine, coarse = (gaussian_filter(scatter, (0, s * 0.6, s)) * s for s in (size / 240, size / 110))
    depth = np.linspace(0, 1, size)[:, None]
    field = (1 - depth) * fine + depth * coarse
    rows = np.linspace(0, size - 1, size) + gaussian_filter(generator.normal(size=size), size / 10) * size / 60
    envelope = map_coordinates(np.hypot(*field), np.meshgrid(rows, np.arange(size), indexing="ij"), order=1, mode="nearest")
    envelope *= np.exp(-generator.uniform(0.3, 1.6) * depth)
    decibel = 20 * np.log10(envelope / np.percentile(envelope, 99.5) + 1e-6)
    return np.rint(np.clip(1 + decibel / 45, 0, 1) * 255).astype(np.uint8)
