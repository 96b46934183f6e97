"""Reading images of any usual kind into bytes, and writing PNG."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from allukan.data.decode import decode, is_scaled
from allukan.errors import UserError
from allukan.files import whole

_GREY_LEVELS = 8  # by which the channels of a grey picture may differ: what a JPEG does to it
_PERCENTILES = (0.5, 99.5)  # of intensities that become 0 and 255 where there are more than 256 levels


def read_image(paths: Sequence[Path], channels: Sequence[int] = ()) -> NDArray[np.uint8]:
    """One or more files as bytes ``(H, W, C)``, their channels stacked; grey has one channel, colour three (RGB).

    What a file says is alpha is dropped, palettes and CMYK become RGB, the orientation in EXIF is applied (to masks as well: the
    sizes must agree then). Fewer than 8 bits are spread over 0 … 255, more are scaled per file between the 0.5 and 99.5
    percentile (all in ``docs/formats.md``). Raises ``UserError`` for a file that is no readable image or a stack of them,
    for NaN or infinity, and for files of different sizes. With ``channels`` every file brings as many as is asked of it, as far
    as ``as_trained`` allows.
    """
    parts = [_one_image(path) for path in paths]
    if channels:
        parts = [as_trained(part, n, path) for part, n, path in zip(parts, channels, paths, strict=True)]
    for path, part in zip(paths[1:], parts[1:], strict=True):
        if part.shape[:2] != parts[0].shape[:2]:
            raise UserError(
                f"{path} is {size_text(part)} pixels but {paths[0]} is {size_text(parts[0])}: channels must agree in size."
            )
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def _one_image(path: Path) -> NDArray[np.uint8]:
    found = decode(path)
    array = found.values if found.colours is None else found.colours
    if array.dtype != np.uint8:
        array = _to_bytes(array, path)
    elif found.colours is None and found.white < 255:
        array = np.rint(array * (255 / found.white)).astype(np.uint8)
    return 255 - array if found.inverted else array


def _to_bytes(array: NDArray[Any], path: Path) -> NDArray[np.uint8]:
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise UserError(f"{path} holds NaN or infinite values: repair or remove it.")
    low, high = np.percentile(values, _PERCENTILES)
    if high <= low:
        low, high = values.min(), max(values.max(), values.min() + 1)
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def scaled_note(images: Sequence[Sequence[Path]]) -> str:
    """The sentence about images, by their files, that do not keep their values; empty where all do. Reads headers alone."""
    with ThreadPoolExecutor() as pool:
        count = sum(pool.map(_any_scaled, images))
    low, high = _PERCENTILES
    if not count:
        return ""
    return (
        f"{count} of {len(images)} images have more than 8 bits: each is scaled by itself to 256 levels between its {low} and "
        f"{high} percentile; where absolute values count, as in CT, store volumes (NIfTI), which keep theirs."
    )


def _any_scaled(files: Sequence[Path]) -> bool:
    try:
        return any(map(is_scaled, files))
    except UserError:  # told when it is read
        return False


def as_trained(image: NDArray[np.uint8], channels: int, name: str | Path = "the image") -> NDArray[np.uint8]:
    """``(H, W, C)`` of one file as a model that was trained on files of ``channels`` channels may see it: nothing is made up.

    Grey becomes RGB, and RGB whose channels agree within 8 levels, as a grey scan in a JPEG, becomes grey. Raises ``UserError``
    for everything else, a picture in colour for a model of grey ones included.
    """
    have = image.shape[2]
    if have == channels or (have, channels) == (1, 3):
        return fit_channels(image, channels)
    if (have, channels) != (3, 1):
        plural = "" if have == 1 else "s"
        raise UserError(f"{name} has {have} channel{plural} and the model expects {channels} (height, width, channels) of it.")
    spread = image.max(2) - image.min(2)
    if spread.max(initial=0) > _GREY_LEVELS:
        share = 100 * float((spread > _GREY_LEVELS).mean())
        raise UserError(f"{name} is in colour ({share:.1f} % of its pixels) and the model was trained on grey: convert it first.")
    return fit_channels(image, 1)


def fit_channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """``(H, W, C)`` with another number of channels: grey is repeated to RGB, RGB becomes grey by its luminance.

    What a model may see is for ``as_trained`` to say. Raises ``UserError`` where no such conversion exists.
    """
    have = image.shape[2]
    if have == channels:
        return image
    if (have, channels) == (1, 3):
        return np.repeat(image, channels, axis=2)
    if have == 3 and channels == 1:
        return np.asarray(Image.fromarray(image).convert("L"))[..., None]
    raise UserError(f"the image has {have} channels and the model expects {channels}.")


def resize_image(image: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """``(H, W, C)`` → ``(*size, C)``, bilinear and antialiased."""
    return _resize(image, size, Image.Resampling.BILINEAR)


def resize_masks(masks: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """``(K, H, W)`` → ``(K, *size)``, by the nearest pixel: masks are never interpolated."""
    return np.moveaxis(_resize(np.moveaxis(masks, 0, -1), size, Image.Resampling.NEAREST), -1, 0)


def _resize(array: NDArray[np.uint8], size: tuple[int, ...], method: Image.Resampling) -> NDArray[np.uint8]:
    if array.shape[:2] == size:
        return array
    across = size[1], size[0]
    planes = [Image.fromarray(np.ascontiguousarray(plane)).resize(across, method) for plane in np.moveaxis(array, -1, 0)]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def write_image(path: Path, array: NDArray[np.unsignedinteger]) -> None:
    """Write ``(H, W)`` of 8 or 16 bits or ``(H, W, 3)`` bytes as PNG, whole or not at all; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        Image.fromarray(array).save(part, format="PNG")


def size_text(array: NDArray[Any]) -> str:
    """Height and width of ``(H, W, …)`` in words, as in "200×312"."""
    return "×".join(map(str, array.shape[:2]))
