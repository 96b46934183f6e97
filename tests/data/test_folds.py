"""Folds: every image is tested once, no group is torn, and the seed alone decides."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allukan.data import load_groups, make_folds, make_splits, open_dataset, plan_splits
from allukan.data.drawing import foreground_shares, join
from allukan.errors import UserError


@pytest.fixture
def dataset(make):
    """Sixty images whose share of foreground grows with their number modulo 20, three of each kind."""
    for i in range(60):
        mask = np.zeros((20, 30), np.uint8)
        mask[: i % 20] = 255
        make.save(f"images/{i:02d}.png", make.grey())
        make.save(f"masks/0/{i:02d}.png", mask)
    return open_dataset(make.root)


@pytest.mark.slow
def test_every_image_is_tested_once_and_nothing_is_in_two_parts(dataset):
    for folds in (2, 3, 5, 10):
        for seed in range(8):
            drawn = make_folds(dataset, folds, seed, pairs=())
            assert len(drawn) == folds
            assert sorted(chain(*(one.test for one in drawn))) == sorted(dataset.ids)
            for one in drawn:
                assert sorted(one.train + one.val + one.test) == sorted(dataset.ids)
                assert abs(len(one.test) - 60 / folds) <= 1
                assert abs(len(one.val) - (60 - 60 / folds) / 8) <= 1


def test_the_seed_alone_decides(dataset):
    assert make_folds(dataset, 5, 3, pairs=()) == make_folds(dataset, 5, 3, pairs=())
    tests = {tuple(one.test for one in make_folds(dataset, 5, seed, pairs=())) for seed in range(8)}
    assert len(tests) == 8


def test_the_folds_are_alike_in_foreground(dataset):
    share = foreground_shares(dataset)
    for seed in range(8):
        for one in make_folds(dataset, 5, seed, pairs=()):
            assert abs(np.mean([share[name] for name in one.test]) - np.mean(list(share.values()))) < 0.08


def test_five_folds_have_the_shares_of_the_drawn_split(dataset):
    fold, split = make_folds(dataset, 5, pairs=())[0], make_splits(dataset, pairs=())
    assert {part: abs(count - split.counts[part]) <= 1 for part, count in fold.counts.items()} == dict.fromkeys(fold.counts, True)


@given(
    st.lists(st.integers(0, 11), min_size=60, max_size=60),
    st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), max_size=6),
)
@settings(max_examples=25, deadline=None)
def test_groups_and_near_duplicates_stay_together(folders_of_sixty, belongs, alike):
    groups = {f"c{i:02d}": f"patient {number}" for i, number in enumerate(belongs)}
    pairs = [(f"c{i:02d}", f"c{j:02d}") for i, j in alike]
    together = [*pairs, *((a, b) for a in groups for b in groups if groups[a] == groups[b])]
    if len(join(sorted(groups), groups, pairs)) < 4:
        with pytest.raises(UserError, match="too few for 4 folds"):
            make_folds(folders_of_sixty, 4, 1, groups, pairs)
        return
    drawn = make_folds(folders_of_sixty, 4, 1, groups, pairs)
    assert sorted(chain(*(one.test for one in drawn))) == sorted(folders_of_sixty.ids)
    for one in drawn:
        part = {name: p for p in ("train", "val", "test") for name in getattr(one, p)}
        assert all(part[a] == part[b] for a, b in together)
        assert all(one.counts.values())
        assert one.groups_from == f"given groups, near-duplicates joined ({len(pairs)} pairs)"


@pytest.fixture(scope="module")
def folders_of_sixty(tmp_path_factory):
    from PIL import Image

    root = tmp_path_factory.mktemp("sixty")
    for i in range(60):
        for folder in ("images", "masks/0"):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), 255 * (i % 2), np.uint8)).save(root / folder / f"c{i:02d}.png")
    return open_dataset(root)


def test_large_groups_are_spread_over_the_folds(folders_of_sixty):
    """Three of 15 images, each more than a fold of 12 should have, and 15 single ones."""
    groups = {name: f"large {i // 15}" if i < 45 else name for i, name in enumerate(folders_of_sixty.ids)}
    for seed in range(8):
        tests = [one.test for one in make_folds(folders_of_sixty, 5, seed, groups, ())]
        assert sorted(map(len, tests))[2:] == [15, 15, 15]


def test_the_plan_says_what_is_so(make):
    dataset = open_dataset(make.folders(10))
    plan = plan_splits(dataset, seed=2, fold=1, folds=3)
    assert plan.splits == make_folds(dataset, 3, 2)[1]
    assert plan.splits.origin == "drawn, fold 1 of 3"
    assert plan_splits(dataset, seed=2, folds=3).splits == make_folds(dataset, 3, 2)[0]
    with pytest.raises(UserError, match="there is no fold 3: the first of 3 is 0 and the last 2"):
        plan_splits(dataset, fold=3, folds=3)
    with pytest.raises(UserError, match="10 images in 10 independent groups, too few for 11 folds: ask for fewer"):
        plan_splits(dataset, folds=11)
    (make.root / "groups.csv").write_text("id,patient\n" + "".join(f"c{i:02d},{'ab'[i > 7]}\n" for i in range(10)))
    groups = load_groups(dataset, None)
    with pytest.raises(UserError, match="10 images in 2 independent groups, too few for 3 folds"):
        plan_splits(dataset, groups=groups, folds=3)
    with pytest.raises(UserError, match=r"fold 0 of 2 of .* trains on has .* in 1 independent groups"):
        plan_splits(dataset, groups=groups, folds=2)


def test_uneven_folds_are_said(folders_of_sixty):
    groups = {name: "large" if i < 40 else name for i, name in enumerate(folders_of_sixty.ids)}
    notes = plan_splits(folders_of_sixty, groups=groups, folds=5, pairs=()).notes
    assert any("the group 'large' alone has 40 images" in note and "12 test" in note for note in notes)
    assert not any("instead of about" in note for note in plan_splits(folders_of_sixty, folds=5, pairs=()).notes)
