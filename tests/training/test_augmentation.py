import math

import pytest
import torch
import torch.nn.functional as F

from allukan.data import IGNORED
from allukan.training.augmentation import AUGMENTATIONS, _matrices, augment


def discs(count=32, height=48, width=64):
    """A bright disc on black with grey in it, and its mask; bytes."""
    y, x = torch.meshgrid(torch.arange(height) - height / 2, torch.arange(width) - width / 2, indexing="ij")
    masks = ((y**2 + x**2) < 14**2).to(torch.uint8).expand(count, 1, height, width).contiguous()
    return (masks * 180).expand(-1, 3, -1, -1).contiguous(), masks


MIXING = ("cutmix", "copypaste")


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name not in MIXING])
def test_it_acts_on_some_images_by_its_seed_and_keeps_types(name):
    images, masks = discs()
    changed, moved = augment(images, masks, (name,), seed=1)
    same = (changed - images).abs().amax(dim=(1, 2, 3)) < 0.01
    assert 2 < same.sum() < 30
    assert changed.dtype == torch.float32
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert moved.dtype == torch.uint8
    assert set(moved.unique().tolist()) == {0, 1}
    assert torch.equal(moved, masks) == (name in ("intensity", "speckle"))
    again, other = (augment(images, masks, (name,), seed=seed)[0] for seed in (1, 2))
    assert torch.equal(changed, again)
    assert not torch.equal(changed, other)


@pytest.mark.parametrize("name", ["affine", "elastic"])
def test_image_and_mask_move_together(name):
    images, masks = discs()
    changed, moved = augment(images, masks, (name,), seed=3)
    assert ((changed[:, :1] > 90) != (moved > 0)).float().mean() < 0.01
    assert (moved != masks).float().mean() > 0.01


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_mixed_precision_changes_nothing(name):
    images, masks = discs(8)
    plain = augment(images, masks, (name,), seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = augment(images, masks, (name,), seed=1)
    assert all(torch.equal(a, b) for a, b in zip(plain, mixed, strict=True))


def test_an_affine_change_is_a_similarity_of_pixels_with_a_little_more_width():
    height, width = 40, 100
    maps = _matrices(512, height / width, torch.Generator().manual_seed(0))
    pixels = maps[:, :, :2] * torch.tensor([[1, width / height], [height / width, 1]])
    wide, high = pixels.unbind(2)
    assert (wide * high).sum(1).abs().max() < 1e-6  # a rectangle stays one
    assert 0.79 < high.norm(dim=1).min() < 0.85
    assert 1.18 < high.norm(dim=1).max() < 1.26
    assert (wide.norm(dim=1) / high.norm(dim=1)).log().abs().max() <= math.log(1.1) + 1e-6
    turned = torch.atan2(pixels[:, 1, 0], wide[:, 0]).rad2deg().abs()
    assert 15 < turned.max() <= 20
    still = (maps == torch.eye(2, 3)).all(dim=(1, 2))
    assert 200 < still.sum() < 312


def test_the_border_is_mirrored():
    grey = torch.full((16, 1, 32, 32), 100, dtype=torch.uint8)
    changed, _ = augment(grey, torch.zeros_like(grey), ("affine", "elastic"), seed=0)
    torch.testing.assert_close(changed, torch.full_like(changed, 100.0), rtol=1e-4, atol=0)


def test_speckle_multiplies():
    levels = torch.tensor([0, 40, 120], dtype=torch.uint8).view(1, 3, 1, 1).expand(64, 3, 32, 32).contiguous()
    changed, _ = augment(levels, levels[:, :1], ("speckle",), seed=0)
    black, dark, bright = changed.unbind(1)
    assert black.abs().max() == 0
    spread = bright.std(dim=(1, 2))
    torch.testing.assert_close(dark.std(dim=(1, 2)), spread / 3, rtol=0.02, atol=1e-3)
    assert 20 < spread.max() < 120 * 0.27
    assert abs(float(bright.mean()) - 120) < 0.5


def test_one_grain_of_speckle_is_two_pixels_wide():
    grey = torch.full((64, 1, 64, 64), 120, dtype=torch.uint8)
    noise = augment(grey, grey, ("speckle",), seed=0)[0][:, 0] - 120
    noise = noise[noise.std(dim=(1, 2)) > 5]
    near = F.cosine_similarity(noise[:, :, 1:].flatten(1), noise[:, :, :-1].flatten(1))
    assert ((near.abs() < 0.1) | ((near - 0.5).abs() < 0.1)).all()
    assert near.min() < 0.1
    assert near.max() > 0.4


def test_intensity_keeps_the_order_of_grey_levels():
    ramp = torch.linspace(60, 190, 64).round().to(torch.uint8).view(1, 1, 8, 8).expand(64, 1, 8, 8).contiguous()
    changed, _ = augment(ramp, ramp, ("intensity",), seed=0)
    assert (changed.flatten(1).diff(dim=1) >= 0).all()
    assert changed.mean(dim=(1, 2, 3)).std() > 10


def levels(count=64, height=20, width=30):
    """Images of one grey level each, with a square of class 0, one of class 1 and a stripe to be ignored, all elsewhere."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(count, 1, height, width).contiguous()
    masks = torch.zeros(count, 2, height, width, dtype=torch.uint8)
    for i in range(count):
        y, x = i * 7 % (height - 6), i * 11 % (width - 12)
        masks[i, 0, y : y + 4, x : x + 4] = masks[i, 1, y + 2 : y + 6, x + 6 : x + 10] = 1
        masks[i, :, (y + 9) % height] = IGNORED
    return images, masks


@pytest.mark.parametrize("name", MIXING)
def test_every_pixel_comes_with_its_labels_from_the_image_or_its_neighbour(name):
    images, masks = levels()
    changed, moved = augment(images, masks, (name,), seed=1)
    source = changed.round().long()
    here = torch.arange(64).view(-1, 1, 1, 1)
    assert ((source == here) | (source == (here - 1) % 64)).all()
    other = (source != here).squeeze(1)
    wanted = torch.where(other.unsqueeze(1), masks.roll(1, 0), masks)
    assert torch.equal(moved, wanted)
    assert moved.dtype == masks.dtype
    share = other.flatten(1).any(1).float().mean()
    assert 0.3 < share < 0.7
    assert all(torch.equal(a, b) for a, b in zip(augment(images, masks, (name,), seed=1), (changed, moved), strict=True))
    assert not torch.equal(augment(images, masks, (name,), seed=2)[0], changed)


def test_cutmix_takes_boxes_of_every_size():
    images, masks = levels(512, 40, 60)
    images = images % 2  # neighbours differ
    changed, _ = augment(images, masks, ("cutmix",), seed=0)
    other = (changed - images).abs().squeeze(1) > 0.5
    box = other.any(2, keepdim=True) & other.any(1, keepdim=True)
    assert torch.equal(other, box)
    areas = other.float().mean((1, 2))[other.flatten(1).any(1)]
    assert areas.min() < 0.05
    assert areas.max() > 0.8
    assert 0.2 < areas.mean() < 0.4  # a half, less what lies beyond the border


def test_copypaste_takes_the_foreground_and_nothing_else():
    images, masks = levels()
    changed, _ = augment(images, masks, ("copypaste",), seed=1)
    other = (changed - images).abs().squeeze(1) > 0.5
    foreground = (masks.roll(1, 0) == 1).any(1)
    pasted = other.flatten(1).any(1)
    assert torch.equal(other[pasted], foreground[pasted])


@pytest.mark.parametrize("name", MIXING)
def test_intensities_of_floats_come_along_as_they_are(name):
    images, masks = (one.unsqueeze(2) for one in levels(16, 20, 20))
    images = images.float() * 100 - 800 + torch.linspace(0, 9, 20)  # of CT, say, in ranges of their own
    changed, _ = augment(images, masks, (name,), seed=1)
    here = torch.isclose(changed, images, atol=1e-2)
    assert (here | torch.isclose(changed, images.roll(1, 0), atol=1e-2)).all()
    assert not here.all()


@pytest.mark.parametrize("name", MIXING)
def test_one_image_has_nothing_to_mix_with(name):
    images, masks = levels(1)
    changed, moved = augment(images, masks, (name,), seed=0)
    torch.testing.assert_close(changed, images.float())
    assert torch.equal(moved, masks)


def test_an_unknown_name_is_named():
    with pytest.raises(ValueError, match="unknown augmentation 'elastik'"):
        augment(*discs(), ("elastik",), seed=0)
