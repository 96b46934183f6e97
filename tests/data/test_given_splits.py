"""The user's own split is used literally, wherever it stands, or the plan says that it is not."""

import json

import numpy as np
import pytest

from allukan.data import Splits, check_dataset, load_groups, make_splits, open_dataset, plan_splits
from allukan.errors import UserError


def parts(plan):
    return {part: list(getattr(plan.splits, part)) for part in ("train", "val", "test")}


def listed(make, *names, folder="x"):
    """Images and label maps, and their entries in a datalist."""
    for name in names:
        make.save(f"{folder}/{name}.png", make.grey())
        make.save(f"{folder}_label/{name}.png", make.labels())
    return [{"image": f"{folder}/{name}.png", "label": f"{folder}_label/{name}.png"} for name in names]


def part(make, name, *ids, masks="masks/lesion"):
    for case in ids:
        make.save(f"{name}/images/{case}.png", make.grey())
        make.save(f"{name}/{masks}/{case}.png", make.mask())


# Datalists


def test_the_lists_of_a_datalist_are_the_split(make):
    content = {
        "training": listed(make, "a", "b", "c"),
        "validation": listed(make, "d", "e"),
        "testing": [*listed(make, "f"), {"image": "x/g.png"}, "x/h.png"],
    }
    path = make.json("dataset.json", content)
    dataset = open_dataset(make.root)
    assert dataset.ids == ("a", "b", "c", "d", "e", "f")
    plan = plan_splits(dataset)
    assert parts(plan) == {"train": ["a", "b", "c"], "val": ["d", "e"], "test": ["f"]}
    assert plan.splits.origin == f"lists train, val, test of {path}"
    assert plan.notes == (f"2 of 3 entries of 'testing' in {path} have no label: they are not used.",)


def test_images_of_two_lists_may_have_one_name(make):
    content = {"training": listed(make, "1", "2"), "validation": listed(make, "1", folder="v"), "test": []}
    make.json("dataset.json", content)
    dataset = open_dataset(make.root)
    assert {case.id: case.images[0].relative_to(make.root).as_posix() for case in dataset.cases} == {
        "train/1": "x/1.png",
        "train/2": "x/2.png",
        "val/1": "v/1.png",
    }
    plan = plan_splits(dataset)
    assert parts(plan) == {"train": ["train/1", "train/2"], "val": ["val/1"], "test": []}
    assert any("gives no test images" in note for note in plan.notes)


@pytest.mark.parametrize(("fold", "val"), [(None, ["b"]), (1, ["b"]), (2, ["a", "d"]), (4, ["c"])])
def test_the_fold_of_a_datalist_validates(make, fold, val):
    entries = listed(make, "a", "b", "c", "d")
    for entry, number in zip(entries, (2, 1, 4, 2), strict=True):
        entry["fold"] = number
    path = make.json("dataset.json", {"training": entries, "test": listed(make, "t")})
    plan = plan_splits(open_dataset(make.root), fold=fold)
    assert parts(plan) == {"train": sorted({*"abcd"} - {*val}), "val": val, "test": ["t"]}
    assert plan.splits.origin == f"fold {fold or 1} of 3 of 'fold' in {path}"
    with pytest.raises(UserError, match=r"there is no fold 3: 'fold' in .* has the folds 1, 2, 4"):
        plan_splits(open_dataset(make.root), fold=3)


def test_folds_that_are_not_whole_and_folds_beside_a_validation_list(make):
    entries = listed(make, "a", "b")
    entries[0]["fold"] = 0
    make.json("dataset.json", {"training": entries})
    with pytest.raises(UserError, match="gives 'b' the fold None"):
        open_dataset(make.root)
    entries[1]["fold"] = 0
    make.json("dataset.json", {"training": entries})
    with pytest.raises(UserError, match="puts every entry of 'training' into fold 0"):
        open_dataset(make.root)
    make.json("dataset.json", {"training": entries, "validation": listed(make, "v")})
    plan = plan_splits(open_dataset(make.root))
    assert parts(plan) == {"train": ["a", "b"], "val": ["v"], "test": []}
    assert any("the key 'fold' in" in note and "is not used" in note for note in plan.notes)


# nnU-Net


def test_splits_final_is_used(make):
    root = make.nnunet(count=5)
    folds = [{"train": ["c0", "c1", "c2"], "val": ["c4"]}, {"train": ["c3", "c4"], "val": ["c1", "c0"]}]
    path = make.json("splits_final.json", folds)
    plan = plan_splits(open_dataset(root))
    assert parts(plan) == {"train": ["c0", "c1", "c2"], "val": ["c4"], "test": []}
    assert plan.splits.origin == f"fold 0 of 2 of {path}"
    assert f"1 images are in no part of fold 0 of 2 of {path}, as 'c3': they are not used." in plan.notes
    assert parts(plan_splits(open_dataset(root), fold=1)) == {"train": ["c3", "c4"], "val": ["c0", "c1"], "test": []}
    with pytest.raises(UserError, match="there is no fold 2"):
        plan_splits(open_dataset(root), fold=2)


@pytest.mark.parametrize("place", ["raw/set", "raw", "nnUNet_preprocessed/set"])
def test_splits_final_is_found_beside_the_raw_folder_too(make, place):
    make.nnunet(count=4, channels=1)
    target = make.root / "raw/set"
    target.mkdir(parents=True)
    for name in ("imagesTr", "labelsTr", "dataset.json"):
        (make.root / name).rename(target / name)
    make.json(f"{place}/splits_final.json", [{"train": ["c1", "c2"], "val": ["c0", "c3"]}])
    assert parts(plan_splits(open_dataset(target))) == {"train": ["c1", "c2"], "val": ["c0", "c3"], "test": []}
    make.json(f"{place}/splits_final.json", [{"train": ["x"], "val": ["y"]}])
    if place == "raw/set":
        with pytest.raises(UserError, match=r"puts 'x' into train, and .* has no such image"):
            plan_splits(open_dataset(target))
    else:  # that of another set
        plan = plan_splits(open_dataset(target))
        assert plan.splits.origin == "drawn"
        assert any("splits_final.json is not used: it names no image of" in note for note in plan.notes)


def test_labelled_test_images_of_nnunet_are_the_test(make):
    root = make.nnunet(count=9, channels=1)
    for name in ("t0", "t1", "c0"):
        make.save(f"imagesTs/{name}_0000.png", make.grey())
    plan = plan_splits(open_dataset(root))
    assert (plan.splits.origin, plan.notes[0]) == (
        "drawn",
        f"3 images of {root / 'imagesTs'} have no label map: they are not used.",
    )
    for name in ("t0", "c0"):
        make.save(f"labelsTs/{name}.png", make.labels())
    dataset = open_dataset(root)
    assert dataset.select(["test/c0"])[0].images == (root / "imagesTs/c0_0000.png",)
    plan = plan_splits(dataset)
    assert plan.splits.test == ("t0", "test/c0") or plan.splits.test == ("t0", "test/c0")[::-1]
    assert sorted([*plan.splits.train, *plan.splits.val]) == [f"c{i}" for i in range(9)]
    assert len(plan.splits.val) == 1
    assert plan.notes[0] == f"1 images of {root / 'imagesTs'} have no label map: they are not used."
    make.json("splits_final.json", [{"train": ["c0", "c1"], "val": ["c2"]}])
    assert parts(plan_splits(open_dataset(root))) == {"train": ["c0", "c1"], "val": ["c2"], "test": ["t0", "test/c0"]}


# Folders


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "testing"), ("train", "valid", "test")])
@pytest.mark.parametrize("masks", ["masks/lesion", "masks"])
def test_folders_of_parts_are_the_split(make, names, masks):
    for name, ids in zip(names, ("ab", "c", "de"), strict=True):
        part(make, name, *ids, masks=masks)
    dataset = open_dataset(make.root)
    assert dataset.layout == ("label-maps" if masks == "masks" else "folders")
    assert dataset.ids == tuple("abcde")
    plan = plan_splits(dataset)
    assert parts(plan) == {"train": ["a", "b"], "val": ["c"], "test": ["d", "e"]}
    assert plan.splits.origin == f"folders {', '.join(names)} of {make.root}"
    assert plan.notes == ()


def test_images_of_two_folders_may_have_one_name(make):
    part(make, "train", "1", "2", "3")
    part(make, "val", "1")
    part(make, "test", "2")
    dataset = open_dataset(make.root)
    assert dataset.select(["val/1"])[0].images == (make.root / "val/images/1.png",)
    assert dataset.select(["test/2"])[0].masks == ((make.root / "test/masks/lesion/2.png",),)
    assert parts(plan_splits(dataset)) == {"train": ["train/1", "train/2", "train/3"], "val": ["val/1"], "test": ["test/2"]}


def test_classes_of_the_label_maps_of_all_parts(make):
    for name, value in (("train", 2), ("val", 2), ("test", 5)):
        make.save(f"{name}/images/{name}.png", make.grey())
        make.save(f"{name}/masks/{name}.png", np.where(make.mask() > 0, value, 0).astype(np.uint8))
    dataset = open_dataset(make.root)
    assert (dataset.classes, dataset.label_values) == (("2", "5"), (2, 5))
    notes = plan_splits(dataset).notes
    assert "class '5' is in no image of train and val, only in 1 of test: it cannot be learned." in notes
    assert "class '2' is in no image of test, only in 1 of train, 1 of val: the scores there say nothing about it." in notes
    make.json("dataset.json", {"labels": {"background": 0, "cyst": 2, "mass": 5}})
    assert open_dataset(make.root).classes == ("cyst", "mass")


FOLDERS = {
    "no train": (lambda m: (m.root / "train").rename(m.root / "other"), "val, test but none to train on"),
    "two of one part": (lambda m: part(m, "valid", "z"), "has the folders val and valid for one part"),
    "other classes": (lambda m: (m.root / "val/masks/lesion").rename(m.root / "val/masks/cyst"), "val has the classes cyst and"),
    "other layout": (lambda m: [m.save("test/masks/e.png", m.mask()), move_up(m)], "masks as folders and .*test as label-maps"),
    "no masks": (lambda m: (m.root / "val/masks").rename(m.root / "val/gone"), "val has no masks"),
}


def move_up(make):
    for path in sorted((make.root / "test/masks/lesion").iterdir()):
        path.rename(make.root / "test/masks" / path.name)
    (make.root / "test/masks/lesion").rmdir()


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_that_do_not_fit(make, name):
    for folder, ids in (("train", "ab"), ("val", "c"), ("test", "de")):
        part(make, folder, *ids)
    spoil, words = FOLDERS[name]
    spoil(make)
    with pytest.raises(UserError, match=words):
        open_dataset(make.root)


def test_unlabelled_test_images_and_parts_beside_images_are_said(make):
    part(make, "train", *"abcdefghi")
    make.save("test/images/z.png", make.grey())
    plan = plan_splits(open_dataset(make.root))
    assert plan.splits.origin == "drawn"
    assert plan.notes[0] == f"{make.root / 'test'} has no masks: its images are not used."
    (make.root / "train/images").rename(make.root / "images")
    (make.root / "train/masks").rename(make.root / "masks")
    plan = plan_splits(open_dataset(make.root))
    assert plan.notes[0] == f"{make.root / 'test'} is not used: there is {make.root / 'images'}."


# Files


def test_a_table_says_who_is_in_which_part(make):
    dataset = open_dataset(make.folders(6))
    expected = {"train": ["c00", "c03"], "val": ["c01"], "test": ["c02", "c04"]}
    rows = [(name, part) for part, names in expected.items() for name in names]
    for delimiter in ",;\t":
        for named, split in (("id", str), ("ID", lambda part: {"val": "Validation", "test": "testing"}.get(part, part))):
            text = "\r\n".join(delimiter.join(row) for row in [(named, "split"), *((i, split(p)) for i, p in rows)])
            (make.root / "mine.csv").write_text("\ufeff" + text + "\r\n", encoding="utf-8")
            plan = plan_splits(dataset, source=str(make.root / "mine.csv"))
            assert parts(plan) == expected
    assert plan.notes == (f"1 images are in no part of {make.root / 'mine.csv'}, as 'c05': they are not used.",)
    (make.root / "mine.csv").write_text("split,note,id\ntrain,x,c00.png\nval,,c01.png\ntest,,c02.png\n")
    assert parts(plan_splits(dataset, source=str(make.root / "mine.csv"))) == {"train": ["c00"], "val": ["c01"], "test": ["c02"]}


def test_splits_of_a_run_and_of_nnunet_as_a_file(make):
    dataset = open_dataset(make.folders(10))
    drawn = make_splits(dataset, seed=5)
    drawn.save(make.root / "splits.json")
    plan = plan_splits(dataset, seed=1, source=str(make.root / "splits.json"))
    assert (plan.splits.train, plan.splits.val, plan.splits.test) == (drawn.train, drawn.val, drawn.test)
    path = make.json("folds.json", [{"train": ["c01", "c00"], "val": ["c02"]}, {"train": ["c02"], "val": ["c01"]}])
    assert parts(plan_splits(dataset, source=str(path), fold=1)) == {"train": ["c02"], "val": ["c01"], "test": []}
    Splits("clean", 0, ("c00",), ("c01",), ()).save(make.root / "splits.json")
    assert parts(plan_splits(dataset, source=str(make.root / "splits.json"))) == {"train": ["c00"], "val": ["c01"], "test": []}


FILES = {
    "unknown id": ({"train": ["c00", "x"], "val": ["c01"]}, "puts 'x' into train, and .* has no such image"),
    "case": ({"train": ["C00"], "val": ["c01"]}, "did you mean 'c00'"),
    "two parts": ({"train": ["c00", "c01"], "val": ["c01"]}, "puts 'c01' into train and into val: leave one"),
    "twice": ({"train": ["c00", "c00"], "val": ["c01"]}, "puts 'c00' twice into train"),
    "two spellings": ({"train": ["c00", "c01"], "val": ["c01.png"]}, "names image 'c01' twice, in two spellings"),
    "empty part": ({"train": ["c00"], "val": [], "test": ["c01"]}, "the part 'val' of .* is empty"),
    "train only": ({"train": ["c00"]}, "has only the part 'train'"),
    "no train": ({"val": ["c00"], "test": ["c01"]}, "has only the part 'val, test': give train"),
    "no lists": ({"train": "c00", "val": ["c01"]}, "its part 'train' is no list of ids"),
    "no parts": ({"a": ["c00"]}, "it holds no lists 'train', 'val' and 'test'"),
    "no folds": ([], "it holds no lists"),
    "a datalist": ({"training": [{"image": "a", "label": "b"}]}, "its part 'train' is no list of ids"),
    "a fold with both": ([{"train": ["c00"], "val": ["c00"]}], "fold 0 of .* puts 'c00' into train and into val"),
    "no columns": ("id,part\nc00,train\n", "has the columns id, part, needed are 'id' and 'split'"),
    "a part of another name": ("id,split\nc00,train\nc01,dev\n", "row 3 says 'c01': 'dev' where"),
    "no id": ("id,split\n,train\nc01,val\n", "row 2 says '': 'train' where"),
    "nothing": ("", "has the columns none"),
    "no JSON": (b"{", "not valid JSON"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_with_a_fault(make, name):
    content, words = FILES[name]
    path = make.root / ("mine.csv" if isinstance(content, str) else "mine.json")
    path.write_text(
        content if isinstance(content, str) else content.decode() if isinstance(content, bytes) else json.dumps(content)
    )
    with pytest.raises(UserError, match=words) as raised:
        plan_splits(open_dataset(make.folders(4)), source=str(path))
    assert "mine." in str(raised.value)


def test_a_file_that_is_not_there_and_a_fold_that_does_nothing(make):
    dataset = open_dataset(make.folders(6))
    with pytest.raises(UserError, match=r"gone\.csv cannot be read"):
        plan_splits(dataset, source=str(make.root / "gone.csv"))
    with pytest.raises(UserError, match=r"there is no fold 0: .* has no folds"):
        plan_splits(dataset, fold=0)
    for given in ({"source": "mine.csv"}, {"fold": 1}):
        with pytest.raises(UserError, match="the protocol ukan draws 80/20"):
            plan_splits(dataset, "ukan", **given)


# What is made of them


def test_the_file_wins_over_the_folders_and_both_can_be_declined(make):
    for name, ids in (("train", "abcdefgh"), ("val", "i"), ("test", "j")):
        part(make, name, *ids)
    dataset = open_dataset(make.root)
    path = make.json("mine.json", {"train": ["a", "j"], "val": ["b"], "test": ["c"]})
    plan = plan_splits(dataset, source=str(path))
    assert parts(plan) == {"train": ["a", "j"], "val": ["b"], "test": ["c"]}
    assert any(f"the split given by folders train, val, test of {make.root} is not used" in note for note in plan.notes)
    drawn = plan_splits(dataset, source="drawn")
    assert drawn.splits == make_splits(dataset)
    assert drawn.splits.counts == {"train": 7, "val": 1, "test": 2}
    literature = plan_splits(dataset, "ukan", 2981)
    assert literature.splits == make_splits(dataset, "ukan", 2981)
    assert literature.notes[0].startswith(
        f"the split given by folders train, val, test of {make.root} is not used: the protocol ukan"
    )


def test_validation_that_is_not_given_is_an_eighth_of_train_by_whole_groups(make):
    part(make, "train", *(f"p{i // 2}-{i}" for i in range(16)))
    part(make, "test", "t0", "t1")
    (make.root / "groups.csv").write_text(
        "id,patient\n" + "".join(f"p{i // 2}-{i},p{i // 2}\n" for i in range(16)) + "t0,x\nt1,y\n"
    )
    dataset = open_dataset(make.root)
    plan = plan_splits(dataset, seed=3, groups=load_groups(dataset, None))
    assert plan.splits.counts == {"train": 14, "val": 2, "test": 2}
    assert len({name.split("-")[0] for name in plan.splits.val}) == 1
    assert plan.splits.test == ("t0", "t1")
    assert plan.notes == (f"folders train, test of {make.root} gives no validation: 2 images for it are drawn from train.",)
    assert plan.splits.groups_from == "given groups, near-duplicates joined (0 pairs)"
    assert plan_splits(dataset, seed=3, groups=load_groups(dataset, None)) == plan
    with pytest.raises(UserError, match=r"the part 'train' of .* has 16 images in 1 independent groups: the two parts"):
        plan_splits(dataset, groups=dict.fromkeys(dataset.ids, "p"))


def test_near_duplicates_and_groups_on_both_sides_are_counted(make):
    part(make, "train", *"abcdefgh")
    part(make, "val", "i", "j")
    part(make, "test", "k", "l")
    for copy, original in (
        ("test/images/k", "train/images/a"),
        ("test/images/l", "val/images/i"),
        ("train/images/b", "train/images/c"),
    ):
        (make.root / f"{copy}.png").write_bytes((make.root / f"{original}.png").read_bytes())
    groups = dict(zip("abcdefghijkl", "1122334455 1", strict=True))
    plan = plan_splits(open_dataset(make.root), groups=groups | {"nobody": "9"})
    origin = f"folders train, val, test of {make.root}"
    assert plan.splits.counts == {"train": 8, "val": 2, "test": 2}
    assert plan.notes == (
        f"2 pairs of near-duplicates are in two parts of {origin}, as 'a' in train and 'k' in test: scores will be too good.",
        f"1 groups are in more than one part of {origin}, as '1' in train and test: scores will be too good.",
        f"the groups name 1 ids that are no image of {make.root}, as 'nobody': they are not used.",
    )
    findings = {finding.where: finding.what for finding in check_dataset(make.root).findings}
    assert findings["a = k"] == "identical images, but in train and in test"
    assert findings["b = c"] == "identical images: kept together by the clean protocol"


# A split that is not what was asked for


def test_a_group_that_is_too_large_is_named(make):
    dataset = open_dataset(make.folders(20))
    plan = plan_splits(dataset, groups={name: "p" if i < 17 else name for i, name in enumerate(dataset.ids)})
    assert plan.splits.counts == {"train": 17, "val": 1, "test": 2}
    assert plan_splits(dataset).notes == ()
    groups = {name: "p" if i < 12 else name for i, name in enumerate(dataset.ids)}
    assert plan_splits(dataset, groups=groups).splits.counts["train"] in (13, 14)
    many = {name: "p" if i < 18 else name for i, name in enumerate(dataset.ids)}
    assert plan_splits(dataset, groups=many).notes == (
        "the split is 18 train, 1 val, 1 test instead of about 14 train, 2 val, 4 test, because the group 'p' alone has 18 "
        "images: give finer groups, or a split of your own with --splits.",
    )


def test_copies_that_join_most_images_are_named(make):
    root = make.folders(20)
    for i in range(1, 17):
        (root / f"images/c{i:02d}.png").write_bytes((root / "images/c00.png").read_bytes())
    check = check_dataset(root)
    (note,) = [finding.what for finding in check.findings if finding.where == "split"]
    assert note.startswith(
        "the split is 17 train, 1 val, 2 test instead of about 14 train, 2 val, 4 test, because near-duplicates, as "
    )
    assert "join 17 images into one group" in note
    assert check.facts["split"].startswith("17 train, 1 val, 2 test (drawn; ")


def test_old_splits_are_read_and_new_ones_say_where_they_come_from(make):
    splits = make_splits(open_dataset(make.folders(10)))
    path = make.root / "splits.json"
    splits.save(path)
    written = json.loads(path.read_text())
    assert written.pop("origin") == "drawn"
    path.write_text(json.dumps(written))
    assert Splits.load(path) == splits
    path.write_text(json.dumps({**written, "val": [], "counts": {**written["counts"], "val": 0}}))
    with pytest.raises(UserError, match="no image is in val"):
        Splits.load(path)
