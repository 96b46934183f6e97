from collections import Counter

import pytest
import torch

from allukan.data import Prepared
from allukan.training.augmentation import draw_turns, turn
from allukan.training.batches import BatchOrder, Bytes, batches


def prepared(count: int, size: tuple[int, int] = (4, 4)) -> Prepared:
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, *size).contiguous()
    return Prepared(tuple(map(str, range(count))), images, images[:, :1].clone(), (size,) * count)


def seen(order: BatchOrder) -> list[int]:
    return [int(v) for batch in batches(Bytes(prepared(order.count)), order) for v in batch.images[:, 0, 0, 0]]


def test_training_shuffles_by_seed_and_epoch_and_drops_the_incomplete_batch():
    order, again = (BatchOrder(11, 4, 5, train=True) for _ in range(2))
    first = seen(order)
    assert len(first) == 8 == 4 * len(order)
    assert first == seen(again)
    order.set_epoch(1)
    assert seen(order) != first
    assert seen(BatchOrder(11, 4, 6, train=True)) != first


def test_fewer_images_than_a_batch_still_train():
    assert len(BatchOrder(3, 8, 0, train=True)) == 1


def test_validation_sees_everything_once_in_order():
    assert seen(BatchOrder(11, 4, 5, train=False)) == list(range(11))
    assert len(BatchOrder(11, 4, 5, train=False)) == 3


@pytest.mark.parametrize("train", [True, False])
def test_ranks_share_the_images_without_overlap(train):
    ranks = [BatchOrder(13, 2, 1, train=train, rank=r, world=3) for r in range(3)]
    counts = Counter(v for r in ranks for v in seen(r))
    assert max(counts.values()) == 1
    assert len(counts) >= 12 if train else len(counts) == 13
    if train:
        assert len({len(r) for r in ranks}) == 1


@pytest.mark.parametrize("size", [(6, 6), (4, 6)])
def test_augmentation_moves_image_and_mask_together_and_reaches_every_symmetry(size):
    x = torch.arange(size[0] * size[1], dtype=torch.uint8).view(1, 1, *size).repeat(64, 1, 1, 1)
    images, masks = turn(x, x, draw_turns(64, seed=3))
    assert torch.equal(images, masks)
    assert torch.equal(turn(x, x, draw_turns(64, seed=3))[0], images)
    assert not torch.equal(turn(x, x, draw_turns(64, seed=4))[0], images)
    kinds = {tuple(image.flatten().tolist()) for image in images}
    assert len(kinds) == (8 if size[0] == size[1] else 4)
    assert all(sorted(kind) == list(range(size[0] * size[1])) for kind in kinds)


def test_a_rank_without_validation_images_has_company_that_does_not_count():
    """Every rank takes as many steps as the others think it takes, and the images are counted once."""
    ranks = [BatchOrder(2, 4, 1, train=False, rank=r, world=4) for r in range(4)]
    found = [list(batches(Bytes(prepared(2)), order)) for order in ranks]
    assert [len(one) for one in found] == [len(order) for order in ranks] == [1, 1, 1, 1]
    assert [one[0].company for one in found] == [False, False, True, True]
    assert [one[0].images[:, 0, 0, 0].tolist() for one in found] == [[0], [1], [0], [0]]
    assert not any(batch.company for batch in batches(Bytes(prepared(9)), BatchOrder(9, 8, 0, train=True)))


def test_the_images_of_a_step_are_known_by_rank_and_epoch():
    order = BatchOrder(13, 2, 1, train=True, rank=0, world=2)
    order.set_epoch(3)
    other = BatchOrder(13, 2, 1, train=True, rank=1, world=2)
    other.set_epoch(3)
    expected = [batch.images[:, 0, 0, 0].tolist() for batch in batches(Bytes(prepared(13)), other)]
    assert [order.of_rank(1).batch(step) for step in range(len(other))] == expected
