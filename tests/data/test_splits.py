"""Splits: nothing leaks, nothing is lost, and the file can be trusted."""

import json
import re
from itertools import chain
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from allukan.data import Splits, load_groups, make_splits, open_dataset, plan_splits
from allukan.data.drawing import deal, foreground_shares, join
from allukan.data.groups import likely_groups
from allukan.errors import UserError


def parts(splits):
    return splits.train, splits.val, splits.test


@pytest.mark.parametrize("seed", [2981, 6142, 1187])
def test_ukan_is_scikit_learns_split_of_the_sorted_ids(make, seed):
    dataset = open_dataset(make.folders(17))
    splits = make_splits(dataset, "ukan", seed)
    train, test = train_test_split(sorted(dataset.ids), test_size=0.2, random_state=seed)
    assert parts(splits) == (tuple(train), tuple(test), tuple(test))


sizes = st.lists(st.integers(1, 6), min_size=3, max_size=25)


@given(sizes, st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_dealing_loses_nothing_and_tears_no_group(sizes, seed):
    members = [[f"{g}-{i}" for i in range(size)] for g, size in enumerate(sizes)]
    foreground = {name: (crc32(name.encode()) % 97) / 97 for group in members for name in group}
    dealt = deal(members, foreground, seed)
    assert dealt == deal(members, foreground, seed)
    assert all(dealt.values())
    assert sorted(chain(*dealt.values())) == sorted(chain(*members))
    for group in members:
        assert sum(bool(set(group) & set(part)) for part in dealt.values()) == 1
    for name, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        assert abs(len(dealt[name]) - share * sum(sizes)) <= 2 * max(sizes) + 1


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12), st.lists(st.integers(0, 4), max_size=10))
@settings(max_examples=60, deadline=None)
def test_joining_gives_the_connected_components(pairs, grouped):
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ids = [str(i) for i in range(10)]
    groups = {str(i): str(g) for i, g in enumerate(grouped)}
    edges = pairs + [(i, j) for i, a in enumerate(grouped) for j, b in enumerate(grouped) if a == b]
    rows, columns = zip(*edges, strict=True) if edges else ((), ())
    _, labels = connected_components(coo_matrix((np.ones(len(edges)), (rows, columns)), shape=(10, 10)), directed=False)
    expected = {frozenset(ids[i] for i in np.flatnonzero(labels == k)) for k in set(labels)}
    assert {frozenset(group) for group in join(ids, groups, [(str(a), str(b)) for a, b in pairs])} == expected


def test_the_parts_are_alike_inforeground_shares(make):
    for i in range(60):
        mask = np.zeros((20, 30), np.uint8)
        mask[: i % 20] = 255
        make.save(f"images/{i:02d}.png", make.grey())
        make.save(f"masks/0/{i:02d}.png", mask)
    dataset = open_dataset(make.root)
    share = foreground_shares(dataset)
    for seed in range(5):
        train, val, test = (np.mean([share[name] for name in part]) for part in parts(make_splits(dataset, "clean", seed)))
        assert abs(train - test) < 0.08
        assert abs(train - val) < 0.12


def test_too_little_to_split(make):
    dataset = open_dataset(make.folders(2))
    with pytest.raises(UserError, match="2 images in 2 independent groups"):
        make_splits(dataset)
    with pytest.raises(UserError, match="unknown protocol 'fair': choose clean or ukan"):
        make_splits(dataset, "fair")
    with pytest.raises(UserError, match="2 images in 1 independent groups"):
        make_splits(dataset, groups=dict.fromkeys(dataset.ids, "p"))


@pytest.mark.parametrize("protocol", ["clean", "ukan"])
def test_the_file_brings_the_splits_back(make, protocol):
    splits = make_splits(open_dataset(make.folders(10)), protocol, 3)
    path = make.root / "splits.json"
    splits.save(path)
    written = json.loads(path.read_text())
    assert (written["protocol"], written["seed"]) == (protocol, 3)
    assert written["counts"] == {"train": len(splits.train), "val": len(splits.val), "test": len(splits.test)}
    assert written["groups_from"] == splits.groups_from != ""
    assert Splits.load(path) == splits
    assert not list(make.root.glob("*.part"))


FAULTS = {
    "seed": ("x", "field 'seed' is 'x'"),
    "train": ("abc", "field 'train' is 'abc'"),
    "val": ([1], "field 'val'"),
    "test": (None, "field 'test'"),
    "protocol": ("fair", "'fair' instead of clean or ukan"),
    "groups_from": (7, "field 'groups_from' is '7'"),
    "counts": ({"train": 0}, "field 'counts'"),
}


@pytest.mark.parametrize("field", FAULTS)
def test_a_file_with_a_fault_is_refused(make, field):
    path = make.root / "splits.json"
    make_splits(open_dataset(make.folders(10))).save(path)
    value, words = FAULTS[field]
    good = json.loads(path.read_text())
    path.write_text(json.dumps({**good, field: value}))
    with pytest.raises(UserError, match=words):
        Splits.load(path)
    path.write_text(json.dumps({name: good[name] for name in good if name != field}))
    if field == "counts":
        Splits.load(path)
    else:
        with pytest.raises(UserError, match=f"field '{field}' is missing"):
            Splits.load(path)


def test_a_file_that_leaks_is_refused(make):
    path = make.root / "splits.json"
    make_splits(open_dataset(make.folders(10))).save(path)
    good = json.loads(path.read_text())
    path.write_text(json.dumps({**good, "test": [*good["test"], good["train"][0]]}))
    with pytest.raises(UserError, match=f"image '{good['train'][0]}' is in it twice"):
        Splits.load(path)
    path.write_text("{")
    with pytest.raises(UserError, match="not a file of splits"):
        Splits.load(path)
    with pytest.raises(UserError, match=r"gone\.json does not exist"):
        Splits.load(make.root / "gone.json")


def test_images_that_vanished_are_named(make):
    dataset = open_dataset(make.folders(4))
    splits = make_splits(dataset)
    splits.matches(dataset)
    gone = splits.train[0]
    for folder in ("images", "masks/0"):
        (make.root / folder / f"{gone}.png").unlink()
    with pytest.raises(UserError, match=f"lacks 1 images of the splits, as '{gone}'"):
        splits.matches(open_dataset(make.root))


def test_an_empty_parenthesis_or_cell_is_no_group(make):
    dataset = open_dataset(make.folders(2))
    with pytest.raises(UserError, match="say nothing about image 'c00'"):
        load_groups(dataset, "re:c00(x)?|c(01)")
    (make.root / "groups.csv").write_text("id,patient\nc00,a\nc01,\n")
    with pytest.raises(UserError, match="say nothing about image 'c01'"):
        load_groups(dataset, None)


def test_names_that_may_be_slices_of_patients_are_told_with_the_option_that_mends_it(make):
    """As slices of TCGA in one folder: their patients are in train and in test, and nobody would see it."""
    for patient in range(5):
        for number in (1, 2, 3):
            make.save(f"images/P{patient}_Slice_{number}.png", make.grey())
            make.save(f"masks/P{patient}_Slice_{number}.png", make.mask())
    dataset = open_dataset(make.root)
    [hint] = [note for note in plan_splits(dataset).notes if "patients" in note]
    assert re.match(r"15 names begin in 5 ways, as 'P\d_Slice_\d', and [1-5] of these are in more than one part", hint)
    groups = load_groups(dataset, re.search("'(re:[^']+)'", hint)[1])
    assert groups == {name: name[:2] for name in dataset.ids}
    plan = plan_splits(dataset, groups=groups)
    assert not any("patients" in note for note in plan.notes)
    assert (
        len({groups[name] for part in parts(plan.splits) for name in part})
        == 5
        == sum(len({groups[name] for name in part}) for part in parts(plan.splits))
    )


@pytest.mark.parametrize(
    "ids",
    [
        [str(i) for i in range(612)],
        [f"ISIC_{i:07d}" for i in range(50)],
        [f"{part}_{i}" for part in ("train", "testA", "testB") for i in range(20)],
        [f"benign ({i})" for i in range(20)],
        [f"case{i}_1" for i in range(20)],
        [f"P{i}_{k}" for i in range(9) for k in range(4)] + ["overview"],
    ],
    ids=lambda ids: ids[0],
)
def test_names_of_other_kinds_are_no_patients(ids):
    assert likely_groups(ids[::2], ids[1::2]) == ""


def test_patients_that_somebody_kept_together_are_no_news():
    parts = [[f"P{patient}_{n}" for patient in patients for n in range(4)] for patients in (range(4), range(4, 6), range(6, 8))]
    assert likely_groups(*parts) == ""
    assert "and 1 of these are in more than one part" in likely_groups(parts[0], parts[1], [*parts[2], "P0_9"])
