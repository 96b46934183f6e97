from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from allukan.data import Volumes
from allukan.data.volumes import Geometry, Image
from allukan.training.augmentation import _matrices_3d, augment, draw_turns, turn
from allukan.training.batches import BatchOrder, Request, batches
from allukan.training.patches import Patches


def volumes(*shapes, spot=(3, 4, 5)):
    """Voxels number themselves; class 0 is one voxel at ``spot``, class 1 is nowhere."""
    images, masks = [], []
    for shape in shapes:
        numbers = np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(1, *shape)
        images.append(Image(numbers, Geometry.of_pixels(shape, (1, 1, 1))))
        masks.append(torch.zeros(2, *shape, dtype=torch.uint8))
        masks[-1][(0, *spot)] = 1
    return Volumes(tuple(f"v{i}" for i in range(len(shapes))), tuple(images), tuple(masks))


def drawn(data, size, count=300, seed=1):
    return Patches(data, size)[Request(torch.zeros(count, dtype=torch.int64), None, seed)]


def test_a_patch_is_a_part_of_its_volume_with_its_masks():
    data = volumes((9, 8, 10))
    batch = drawn(data, (4, 3, 5), 20)
    assert batch.images.shape == (20, 1, 4, 3, 5)
    whole, masks = data.images[0].array[0], data.masks[0]
    for image, mask in zip(batch.images, batch.masks, strict=True):
        d, h, w = (int(i[0]) for i in np.where(whole == float(image[0, 0, 0, 0])))
        assert np.array_equal(image[0], whole[d : d + 4, h : h + 3, w : w + 5])
        assert torch.equal(mask, masks[:, d : d + 4, h : h + 3, w : w + 5])


def test_patches_lie_everywhere_and_a_third_more_hold_the_class():
    data = volumes((20, 20, 20))
    batch = drawn(data, (4, 4, 4))
    corners = batch.images[:, 0, 0, 0, 0]
    assert {1.0, 17.0} <= {float((corner - 1) % 20 + 1) for corner in corners}  # from the first to the last start along W
    share = (batch.masks == 1).flatten(1).any(1).float().mean()
    assert 0.25 < share < 0.42
    again, other = (drawn(data, (4, 4, 4), seed=seed) for seed in (1, 2))
    assert torch.equal(batch.images, again.images)
    assert not torch.equal(batch.images, other.images)


def test_a_small_volume_stands_in_the_middle_of_zeros():
    data = volumes((4, 8, 6), spot=(0, 0, 0))
    batch = drawn(data, (7, 5, 6), 4)
    assert batch.images.shape == (4, 1, 7, 5, 6)
    assert (batch.images[:, :, 0] == 0).all()
    assert (batch.images[:, :, 5:] == 0).all()
    assert (batch.images[:, :, 1:5] > 0).all()
    assert (batch.masks[:, :, 5:] == 0).all()


def test_an_epoch_has_as_many_patches_of_every_volume_as_it_is_asked_for():
    data = volumes((8, 8, 8), (9, 9, 9), (10, 10, 10))
    held = Patches(data, (8, 8, 8), repeats=4)
    order = BatchOrder(len(held.ids), 2, 0, train=True)
    assert len(order) == 6
    seen = Counter(held.ids[int(i)] for request in order for i in request.indices)
    assert seen == {"v0": 4, "v1": 4, "v2": 4}
    assert all(batch.images.shape == (2, 1, 8, 8, 8) for batch in batches(held, order))


def test_validation_gives_whole_volumes_of_any_size():
    data = volumes((8, 8, 8), (9, 7, 10))
    held = Patches(data)
    shapes = [tuple(batch.images.shape) for batch in batches(held, BatchOrder(2, 1, 0, train=False))]
    assert shapes == [(1, 1, 8, 8, 8), (1, 1, 9, 7, 10)]
    assert held.foreground == (True, False)


def test_volumes_are_flipped_along_every_axis_with_their_masks():
    x = torch.arange(60, dtype=torch.uint8).view(1, 1, 3, 4, 5).repeat(64, 1, 1, 1, 1)
    images, masks = turn(x, x, draw_turns(64, seed=3))
    assert torch.equal(images, masks)
    wanted = [x[0].flip(axes) for axes in ((), (1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3))]
    assert all(any(torch.equal(image, one) for one in wanted) for image in images)
    assert len({tuple(image.flatten().tolist()) for image in images}) == 8


def balls(count=16, shape=(20, 24, 28)):
    places = torch.meshgrid(*(torch.arange(n) - n / 2 for n in shape), indexing="ij")
    masks = (sum(p**2 for p in places) < 49).to(torch.uint8).expand(count, 1, *shape).contiguous()
    return masks * 3.0 - 1, masks


@pytest.mark.parametrize("name", ["affine", "elastic", "intensity"])
def test_augmentation_acts_on_some_volumes_and_moves_image_and_mask_together(name):
    images, masks = balls()
    changed, moved = augment(images, masks, (name,), seed=2)
    same = (changed - images).abs().amax(dim=(1, 2, 3, 4)) < 0.01
    assert 1 < same.sum() < 15
    assert changed.min() >= -1.001
    assert changed.max() <= 2.001
    assert moved.dtype == torch.uint8
    if name == "intensity":
        assert torch.equal(moved, masks)
    else:
        assert ((changed > 0.5) != (moved > 0)).float().mean() < 0.02
        assert not torch.equal(moved, masks)


@pytest.mark.parametrize("name", ["cutmix", "copypaste"])
def test_parts_of_other_volumes_bring_their_masks(name):
    """The number of a volume marks whose voxel it is; the masks must say the same."""
    numbers = torch.arange(8).view(-1, 1, 1, 1, 1).expand(8, 1, 6, 8, 10)
    masks = (numbers % 2).to(torch.uint8).contiguous()
    changed, moved = augment(numbers.to(torch.uint8).contiguous(), masks, (name,), seed=4)
    assert torch.equal(changed.round().long() % 2, moved.long())
    mixed = (changed.round() != numbers).flatten(1).any(1)
    assert 1 <= mixed.sum() <= 7
    if name == "cutmix":  # a box: the same voxels along every axis
        for volume in (changed.round() != numbers)[mixed, 0]:
            sides = [volume.any(dim=tuple(a for a in range(3) if a != axis)).sum() for axis in range(3)]
            assert volume.sum() == sides[0] * sides[1] * sides[2]


def test_a_volume_is_turned_rigidly_in_voxels():
    shape = (20, 40, 30)
    maps = _matrices_3d(256, shape, torch.Generator().manual_seed(0))
    sides = torch.tensor(shape[::-1], dtype=torch.float32)
    inner = maps[:, :, :3] * sides[:, None] / sides  # from the units of grid_sample to voxels
    scale = torch.linalg.det(inner) ** (1 / 3)
    assert (inner.mT @ inner / scale.view(-1, 1, 1) ** 2 - torch.eye(3)).abs().max() < 1e-4
    assert 0.79 < scale.min() < 0.85
    assert 1.18 < scale.max() < 1.26
    angle = torch.rad2deg(torch.arccos(((inner.diagonal(dim1=1, dim2=2).sum(1) / scale - 1) / 2).clamp(-1, 1)))
    assert 18 < angle.max() < 20.1


def test_speckle_is_refused_for_volumes():
    with pytest.raises(ValueError, match="2D ultrasound"):
        augment(*balls(2), ("speckle",), seed=0)


def test_a_batch_with_zeros_around_it_is_what_sliding_gives_the_network():
    """Training and validation see a volume that is smaller than a patch in one and the same frame."""
    from allukan.models import slide

    image = torch.arange(1.0, 61).view(1, 1, 3, 4, 5)
    seen = []
    slide(lambda x: seen.append(x.clone()) or x, image, (6, 5, 8))
    data = Volumes(("a",), (Image(image[0].numpy(), Geometry.of_pixels((3, 4, 5), (1, 1, 1))),), (torch.zeros(1, 3, 4, 5),))
    assert torch.equal(drawn(data, (6, 5, 8), 1).images, seen[0])
    assert torch.equal(F.pad(image, (1, 2, 0, 1, 1, 2)), seen[0])
