"""Reading images of any usual kind, into bytes or in the precision of the file, and writing PNG."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from allukan.data.decode import decode, is_deep
from allukan.data.pixels import turned
from allukan.errors import UserError
from allukan.files import whole

_GREY_LEVELS = 8  # by which the channels of a grey picture may differ: what a JPEG does to it
_PERCENTILES = (0.5, 99.5)  # of intensities that become 0 and 255 where more than 256 levels are brought to bytes
_LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601, as in Pillow


def read_image(paths: Sequence[Path], channels: Sequence[int] = ()) -> NDArray[np.uint8]:
    """One or more files as bytes ``(H, W, C)``, their channels stacked; grey has one channel, colour three (RGB).

    What a file says is alpha is dropped, palettes and CMYK become RGB, the orientation in EXIF is applied (to masks as well: the
    sizes must agree then). Fewer than 8 bits are spread over 0 … 255, more are scaled per file between the 0.5 and 99.5
    percentile (all in ``docs/formats.md``). Raises ``UserError`` for a file that is no readable image or a stack of them,
    for NaN or infinity, and for files of different sizes. With ``channels`` every file brings as many as is asked of it, as far
    as ``as_trained`` allows.
    """
    return _stacked([_bytes(path) for path in paths], paths, channels)


def read_values(paths: Sequence[Path], channels: Sequence[int] = ()) -> NDArray[Any]:
    """As ``read_image``, in the precision of the files: 12 and 16 bits, floats and the values of DICOM stay as they are."""
    return _stacked([_values(path) for path in paths], paths, channels)


def _stacked(parts: list[NDArray[Any]], paths: Sequence[Path], channels: Sequence[int]) -> NDArray[Any]:
    if channels:
        parts = [as_trained(part, n, path) for part, n, path in zip(parts, channels, paths, strict=True)]
    for path, part in zip(paths[1:], parts[1:], strict=True):
        if part.shape[:2] != parts[0].shape[:2]:
            raise UserError(
                f"{path} is {size_text(part)} pixels but {paths[0]} is {size_text(parts[0])}: channels must agree in size."
            )
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def _values(path: Path) -> NDArray[Any]:
    array = turned(decode(path))
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"{path} holds NaN or infinite values: repair or remove it.")
    return array


def _bytes(path: Path) -> NDArray[np.uint8]:
    found = decode(path)
    array = found.values if found.colours is None else found.colours
    if array.dtype != np.uint8:
        array = as_bytes(array, path)
    elif found.colours is None and found.white < 255:
        array = np.rint(array * (255 / found.white)).astype(np.uint8)
    return 255 - array if found.inverted else array


def as_bytes(array: NDArray[Any], name: str | Path = "the image") -> NDArray[np.uint8]:
    """Bytes as they are; other values scaled, all together, so that their 0.5 percentile is 0 and the 99.5 percentile 255."""
    if array.dtype == np.uint8:
        return array
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise UserError(f"{name} holds NaN or infinite values: repair or remove it.")
    low, high = np.percentile(values, _PERCENTILES)
    if high <= low:
        low, high = values.min(), max(values.max(), values.min() + 1)
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def count_deep(images: Sequence[Sequence[Path]]) -> int:
    """How many images, by their files, have more than 8 bits, a sign or fractions. Reads headers alone."""
    with ThreadPoolExecutor() as pool:
        return sum(pool.map(_any_deep, images))


def scaled_note(images: Sequence[Sequence[Path]]) -> str:
    """The sentence about images, by their files, that a model of bytes does not see with their values; empty without any."""
    count, (low, high) = count_deep(images), _PERCENTILES
    if not count:
        return ""
    return (
        f"{count} of {len(images)} images have more than 8 bits and the model was trained on bytes: each is scaled by itself to "
        f"256 levels between its {low} and {high} percentile; train on such images, and they keep their values."
    )


def deep_note(images: Sequence[Sequence[Path]]) -> str:
    """The sentence about the images of a training, by their files, some of which have more than 8 bits; empty without any."""
    count, rest = count_deep(images), ""
    if not count:
        return ""
    if count < len(images):
        rest = " (the others have 8 bits and are taken alike: this is right where only contrast counts)"
    return f"{count} of {len(images)} images have more than 8 bits, and keep their values up to the normalisation{rest}."


def _any_deep(files: Sequence[Path]) -> bool:
    try:
        return any(map(is_deep, files))
    except UserError:  # told when it is read
        return False


def as_trained(image: NDArray[Any], channels: int, name: str | Path = "the image") -> NDArray[Any]:
    """``(H, W, C)`` of one file as a model that was trained on files of ``channels`` channels may see it: nothing is made up.

    Grey becomes RGB, and RGB whose channels agree within 8 levels of 255, as a grey scan in a JPEG, becomes grey. Raises
    ``UserError`` for everything else, a picture in colour for a model of grey ones included.
    """
    have = image.shape[2]
    if have == channels or (have, channels) == (1, 3):
        return fit_channels(image, channels)
    if (have, channels) != (3, 1):
        plural = "" if have == 1 else "s"
        raise UserError(f"{name} has {have} channel{plural} and the model expects {channels} (height, width, channels) of it.")
    white = 255.0 if image.dtype == np.uint8 else float(image.max()) - float(image.min())
    coloured = (image.max(2).astype(np.float64) - image.min(2)) * 255 > _GREY_LEVELS * white
    if coloured.any():
        share = 100 * float(coloured.mean())
        raise UserError(f"{name} is in colour ({share:.1f} % of its pixels) and the model was trained on grey: convert it first.")
    return fit_channels(image, 1)


def fit_channels(image: NDArray[Any], channels: int) -> NDArray[Any]:
    """``(H, W, C)`` with another number of channels: grey is repeated to RGB, RGB becomes grey by its luminance (not of bytes:
    in float64).

    What a model may see is for ``as_trained`` to say. Raises ``UserError`` where no such conversion exists.
    """
    have = image.shape[2]
    if have == channels:
        return image
    if (have, channels) == (1, 3):
        return np.repeat(image, channels, axis=2)
    if have == 3 and channels == 1 and image.dtype != np.uint8:
        return image @ np.array(_LUMINANCE)[:, None]
    if have == 3 and channels == 1:
        return np.asarray(Image.fromarray(image).convert("L"))[..., None]
    raise UserError(f"the image has {have} channels and the model expects {channels}.")


def resize_image(image: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """``(H, W, C)`` of bytes or float32 → ``(*size, C)``, bilinear and antialiased."""
    return _resize(image, size, Image.Resampling.BILINEAR)


def resize_masks(masks: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """``(K, H, W)`` → ``(K, *size)``, by the nearest pixel: masks are never interpolated."""
    return np.moveaxis(_resize(np.moveaxis(masks, 0, -1), size, Image.Resampling.NEAREST), -1, 0)


def _resize(array: NDArray[Any], size: tuple[int, ...], method: Image.Resampling) -> NDArray[Any]:
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
