"""Random changes of a batch, on its device: turns of the U-KAN protocol, and stronger ones that a training may add."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from allukan.options import AUGMENTATIONS

_GRID = 5  # control points of the elastic field, a side


def draw_turns(count: int, seed: int) -> Tensor:
    """Three random bits ``(count, 3)`` an image: flip left and right, flip up and down, swap rows and columns (3D: flip depth).

    >>> draw_turns(2, seed=0).shape
    torch.Size([2, 3])
    """
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) < 0.5


def turn(images: Tensor, masks: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
    """Every image its own rotation by 0, 90, 180 or 270 degrees and its own flips, the mask with it.

    ``turns`` are those of ``draw_turns``, on the device of the images. Non-square images are rotated by 0 or 180 degrees only,
    volumes are flipped along each axis and not rotated. Source: ``RandomRotate90`` and ``Flip`` of the U-KAN protocol.

    >>> x = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    >>> a, b = turn(x, x, draw_turns(1, seed=1))
    >>> bool((a == b).all()), sorted(a.flatten().tolist()) == list(range(16))
    (True, True)
    """
    both = torch.cat([images, masks], dim=1)
    horizontal, vertical, transposed = turns.view(-1, 3, *[1] * (both.ndim - 1)).unbind(1)
    both = torch.where(horizontal, both.flip(-1), both)
    both = torch.where(vertical, both.flip(-2), both)
    if both.ndim == 5:
        both = torch.where(transposed, both.flip(-3), both)
    elif both.shape[-1] == both.shape[-2]:
        both = torch.where(transposed, both.transpose(-1, -2), both)  # with the flips: all eight symmetries of the square
    return both[:, : images.shape[1]], both[:, images.shape[1] :]


def augment(images: Tensor, masks: Tensor, names: Sequence[str], seed: int | Generator) -> tuple[Tensor, Tensor]:
    """Images ``(B, C, *S)``, bytes or floats, and masks ``(B, K, *S)`` → float32 in the range of the images, and masks.

    Of ``AUGMENTATIONS``, each acting on half of the images, drawn an image from ``seed``, or from a generator on their device:

    - "affine": rotation by up to 20°, size × 0.8 … 1.25, width × 0.9 … 1.1 more, shift by up to 8 % of each side.
    - "elastic": a smooth displacement, by up to about 6 % of each side.
    - "intensity": contrast × 0.7 … 1.4 about the mean, brightness ± 0.15 of the full range, gamma 0.7 … 1.4.
    - "speckle": the multiplicative noise of ultrasound, with a deviation of up to 0.25 and a grain of one or two pixels; in 2D.
    - "cutmix": a box of up to the whole image, its area drawn evenly, from another image of the batch (arXiv 1905.04899).
    - "copypaste": the foreground of another image of the batch, pixel by pixel where that has it (arXiv 2012.07177).

    The last two act on what the others have made, bring the masks along, all classes and ignored pixels, and leave a batch of one
    image as it is. The others move images with linear interpolation, masks with that of the nearest neighbour, both mirrored at
    the border. The range of floats is that of each image. Volumes are rotated about a random axis, without another width.

    Raises ``ValueError`` for another name, and for speckle of volumes.

    >>> x = torch.full((2, 1, 8, 8), 100, dtype=torch.uint8)
    >>> augment(x, x, ("intensity",), seed=0)[0].shape
    torch.Size([2, 1, 8, 8])
    """
    for name in names:
        if name not in AUGMENTATIONS:
            raise ValueError(f"unknown augmentation {name!r}; choose from {', '.join(AUGMENTATIONS)}")
    if "speckle" in names and images.ndim == 5:
        raise ValueError("speckle is the noise of 2D ultrasound: leave it out for volumes")
    low, span = _range(images)
    with torch.autocast(images.device.type, enabled=False):  # places in bfloat16 would be off by half a pixel
        images = (images.float() - low) / span
        draw = seed if isinstance(seed, Generator) else torch.Generator(images.device).manual_seed(seed)
        images, masks = _changed(images, masks, names, draw)
        return _mixed_with(images * span + low, masks, names, draw)  # what comes from another image keeps its intensities


def _range(images: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """Lowest intensity and the span up to the highest: of bytes all that there are, of floats those of each image."""
    if images.dtype == torch.uint8:
        return 0.0, 255.0
    axes = tuple(range(1, images.ndim))
    low = images.amin(axes, keepdim=True)
    return low, (images.amax(axes, keepdim=True) - low).clamp(min=1e-6)


def _changed(images: Tensor, masks: Tensor, names: Sequence[str], generator: Generator) -> tuple[Tensor, Tensor]:
    if "affine" in names or "elastic" in names:
        grid = _places(images, names, generator)
        images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        moved = F.grid_sample(masks.float(), grid, mode="nearest", padding_mode="reflection", align_corners=False)
        masks = moved.to(masks.dtype)
    if "intensity" in names:
        images = _intensity(images, generator)
    if "speckle" in names:
        images = _speckle(images, generator)
    return images, masks


def _mixed_with(images: Tensor, masks: Tensor, names: Sequence[str], generator: Generator) -> tuple[Tensor, Tensor]:
    if "cutmix" in names:
        images, masks = _mixed(images, masks, _boxes(images, generator), generator)
    if "copypaste" in names:
        images, masks = _mixed(images, masks, (masks.roll(1, 0) == 1).any(1, keepdim=True), generator)
    return images, masks


def _places(images: Tensor, names: Sequence[str], generator: Generator) -> Tensor:
    """Where every pixel comes from, ``(B, *S, 2 or 3)`` in the units of ``grid_sample``."""
    count, _, *shape = images.shape
    dims = len(shape)
    matrices = torch.eye(dims, dims + 1, device=images.device).expand(count, dims, dims + 1)
    if "affine" in names:
        matrices = _matrices(count, shape[0] / shape[1], generator) if dims == 2 else _matrices_3d(count, shape, generator)
    places = F.affine_grid(matrices, [count, 1, *shape], align_corners=False)
    if "elastic" in names:
        knots = torch.randn(count, dims, *[_GRID] * dims, generator=generator, device=images.device)
        size = _between(0.02, 0.06, count, generator) * _half(count, generator)
        field = F.interpolate(knots, shape, mode="bicubic" if dims == 2 else "trilinear", align_corners=True)
        places = places + (field * size.view(-1, *[1] * (dims + 1))).movedim(1, -1)
    return places


def _matrices(count: int, aspect: float, generator: Generator) -> Tensor:
    """Affine maps ``(count, 2, 3)`` in the units of ``affine_grid``; a rotation turns pixels, not the unit square."""
    active = _half(count, generator)
    angle = _between(-1, 1, count, generator) * math.radians(20) * active
    scale = (_between(-1, 1, count, generator) * math.log(1.25) * active).exp()
    wider = (_between(-1, 1, count, generator) * math.log(1.1) * active).exp()
    shift_x, shift_y = (_between(-0.16, 0.16, count, generator) * active for _ in range(2))
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = [cos * wider, -sin * aspect, shift_x, sin / aspect * wider, cos, shift_y]
    return torch.stack(rows, dim=1).view(count, 2, 3)


def _matrices_3d(count: int, shape: Sequence[int], generator: Generator) -> Tensor:
    """Affine maps ``(count, 3, 4)``: a rotation about a random axis, a size and a shift; it turns voxels, not the unit cube."""
    active = _half(count, generator)
    axis = torch.randn(count, 3, generator=generator, device=generator.device)
    angle = _between(-1, 1, count, generator) * math.radians(20) * active
    x, y, z = (F.normalize(axis, dim=1) * angle[:, None]).unbind(1)
    none = torch.zeros_like(x)
    cross = torch.stack([none, -z, y, z, none, -x, -y, x, none], dim=1).view(count, 3, 3)
    scale = (_between(-1, 1, count, generator) * math.log(1.25) * active).exp()
    sides = torch.tensor(shape[::-1], dtype=torch.float32, device=generator.device)  # x is the last axis
    turned = torch.matrix_exp(cross) * scale.view(-1, 1, 1) * sides / sides[:, None]
    shift = torch.stack([_between(-0.16, 0.16, count, generator) * active for _ in range(3)], dim=1)
    return torch.cat([turned, shift[..., None]], dim=2)


def _intensity(images: Tensor, generator: Generator) -> Tensor:
    def draw(low: float, high: float) -> Tensor:
        count = len(images)
        return (_between(low, high, count, generator) * _half(count, generator)).view(-1, *[1] * (images.ndim - 1))

    mean = images.mean(dim=tuple(range(1, images.ndim)), keepdim=True)
    changed = (images - mean) * draw(math.log(0.7), math.log(1.4)).exp() + mean + draw(-0.15, 0.15)
    return changed.clamp(0, 1) ** draw(math.log(0.7), math.log(1.4)).exp()


def _speckle(images: Tensor, generator: Generator) -> Tensor:
    """x · (1 + σ n); n of unit variance, the same in every channel, white or averaged over 2 × 2 pixels."""
    count, _, height, width = images.shape
    noise = torch.randn(count, 1, height + 1, width + 1, generator=generator, device=images.device)
    coarse = F.avg_pool2d(noise, 2, stride=1) * 2
    grain = torch.where(_half(count, generator).view(-1, 1, 1, 1) > 0, coarse, noise[..., 1:, 1:])
    sigma = (_between(0, 0.25, count, generator) * _half(count, generator)).view(-1, 1, 1, 1)
    return (images * (1 + sigma * grain)).clamp(0, 1)


def _mixed(images: Tensor, masks: Tensor, places: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Half of the images with those places ``(B, 1, *S)`` from the image before them in the batch; its order is random."""
    places = places & (_half(len(images), generator).view(-1, *[1] * (images.ndim - 1)) > 0)
    return torch.where(places, images.roll(1, 0), images), torch.where(places, masks.roll(1, 0), masks)


def _boxes(images: Tensor, generator: Generator) -> Tensor:
    """Where CutMix cuts, ``(B, 1, *S)``: boxes of the shape of the image, cut off at its border."""
    count, _, *size = images.shape
    side = _between(0, 1, count, generator) ** (1 / len(size))
    box = torch.ones(count, 1, *[1] * len(size), dtype=torch.bool, device=images.device)
    for axis, pixels in enumerate(size, 2):
        centre = _between(0, 1, count, generator)
        places = (torch.arange(pixels, device=images.device) + 0.5) / pixels
        within = (places - centre.view(-1, 1)).abs() < side.view(-1, 1) / 2
        box = box & within.view(count, *(pixels if other == axis else 1 for other in range(1, images.ndim)))
    return box


def _between(low: float, high: float, count: int, generator: Generator) -> Tensor:
    """Uniform numbers ``(count,)``."""
    return torch.rand(count, generator=generator, device=generator.device) * (high - low) + low


def _half(count: int, generator: Generator) -> Tensor:
    """1 for about half of the images, 0 for the others."""
    return (torch.rand(count, generator=generator, device=generator.device) < 0.5).float()
