"""What is recognised as a dataset, and the sentence for everything that is not."""

import shutil

import numpy as np
import pytest

from allukan.data import file_channels, make_splits, near_duplicates, open_dataset, prepare, read_masks
from allukan.errors import UserError


def test_hidden_and_foreign_files_are_ignored(make):
    root = make.folders(3)
    for name in ("images/.DS_Store", "images/._c00.png", "images/Thumbs.db", "masks/0/.hidden.png", "readme.txt"):
        (root / name).write_text("x")
    (root / "masks/.cache").mkdir()
    dataset = open_dataset(root)
    assert (dataset.ids, dataset.classes) == (("c00", "c01", "c02"), ("0",))


def test_ids_are_sorted_as_text(make):
    for i in (10, 9, 1):
        make.save(f"images/{i}.png", make.grey())
        make.save(f"masks/0/{i}.png", make.mask())
    dataset = open_dataset(make.root)
    assert dataset.ids == ("1", "10", "9")
    assert [case.id for case in dataset.select(["9", "1"])] == ["9", "1"]


@pytest.mark.parametrize(("foreground", "name"), [(1, "1"), (255, "foreground")])
def test_label_maps_of_two_values_are_binary(make, foreground, name):
    make.save("images/a.png", make.grey())
    make.save("masks/a.png", (make.grey() > 99) * np.uint8(foreground))
    dataset = open_dataset(make.root)
    assert (dataset.target, dataset.classes, dataset.label_values) == ("binary", (name,), (foreground,))
    assert set(np.unique(read_masks(dataset.cases[0], dataset))) == {0, 1}


def test_a_label_map_may_lack_a_class_but_hold_no_unknown_one(make):
    dataset = open_dataset(make.nnunet())
    make.save("labelsTr/c0.png", np.zeros((20, 30), np.uint8))
    assert read_masks(dataset.cases[0], dataset).shape == (2, 20, 30)
    make.save("labelsTr/c0.png", np.full((20, 30), 7, np.uint8))
    with pytest.raises(UserError, match=r"c0\.png holds the label values \[7\]"):
        read_masks(dataset.cases[0], dataset)


def test_folders_that_nnunet_does_not_know_are_named(make):
    root = make.nnunet()
    make.save("imagesVal/v_0000.png", make.grey())
    assert open_dataset(root).given.notes == (f"{root / 'imagesVal'} is not used: it is no folder of nnU-Net.",)


def test_several_channels_go_all_the_way(make):
    dataset = open_dataset(make.nnunet(count=8, channels=2))
    assert sum(file_channels(dataset)) == 2
    assert near_duplicates(dataset) == []
    splits = make_splits(dataset)
    assert prepare(dataset, dataset.select(splits.train)).images.shape == (5, 2, 20, 30)


@pytest.mark.parametrize("labels", [{"background": 0, "b": 2, "a": 1}, {"0": "background", "2": "b", "1": "a"}])
def test_classes_of_a_description_either_way_round(make, labels):
    dataset = open_dataset(make.nnunet(labels=labels))
    assert (dataset.classes, dataset.label_values) == (("a", "b"), (1, 2))


def test_a_class_may_be_called_by_a_number(make):
    assert open_dataset(make.nnunet(labels={"background": 0, "1": 2, "2": 1})).classes == ("2", "1")


@pytest.mark.parametrize("name", ["dataset.json", "mine.json"])
def test_decathlon_folder_and_file(make, name):
    for i in range(3):
        make.save(f"x/{i}.png", make.grey())
        make.save(f"y/{i}_label.png", make.labels())
    entries = [{"image": f"x/{i}.png", "label": f"y/{i}_label.png"} for i in range(3)]
    path = make.json(name, {"training": entries, "labels": {"0": "background", "1": "a", "2": "b"}})
    assert open_dataset(make.root) == open_dataset(path)
    assert (open_dataset(path).layout, open_dataset(path).classes, open_dataset(path).ids) == (
        "decathlon",
        ("a", "b"),
        ("0", "1", "2"),
    )


def test_a_decathlon_folder_is_not_taken_for_nnunet(make):
    make.save("imagesTr/la_003.png", make.grey())
    make.save("labelsTr/la_003.png", make.labels())
    make.json("dataset.json", {"training": [{"image": "./imagesTr/la_003.png", "label": "./labelsTr/la_003.png"}]})
    assert (open_dataset(make.root).layout, open_dataset(make.root).ids) == ("decathlon", ("la_003",))


def rename(make, old, new):
    (make.root / old).rename(make.root / new)


FOLDERS = {
    "missing": (lambda m: shutil.rmtree(m.root), "does not exist"),
    "empty": (lambda m: (shutil.rmtree(m.root), m.root.mkdir()), "is empty"),
    "unknown": (lambda m: rename(m, "images", "pictures"), "no dataset that is recognised"),
    "no images": (lambda m: [p.unlink() for p in (m.root / "images").iterdir()], "holds no images"),
    "only NIfTI": (lambda m: [p.rename(f"{p}.nii.gz") for p in (m.root / "images").iterdir()], "'c00.png' .* has no mask"),
    "no masks": (lambda m: shutil.rmtree(m.root / "masks"), "has no masks"),
    "no mask files": (lambda m: shutil.rmtree(m.root / "masks/0"), "has no masks"),
    "mask without image": (lambda m: m.save("masks/0/z.png", m.mask()), "mask 'z' .* has no image"),
    "image without mask": (lambda m: m.save("images/z.png", m.grey()), "image 'z' .* has no mask"),
    "several of them": (
        lambda m: [m.save(f"images/{n}.png", m.grey()) for n in "yz"],
        r"'y'.*1 more problems: `allukan data check`",
    ),
    "image twice": (lambda m: m.save("images/c00.bmp", m.grey()), r"c00\.png and c00\.bmp have the same name"),
    "mask twice": (lambda m: m.save("masks/0/c00.bmp", m.mask()), r"c00\.png and c00\.bmp have the same name"),
    "two layouts": (lambda m: m.save("masks/c00.png", m.mask()), "both class folders and mask files"),
    "a class lacks one": (lambda m: m.save("masks/1/c00.png", m.mask()), "c01.png has no mask in .*1: add an empty mask"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_wrong_folders(make, name):
    make.folders(2)
    spoil, words = FOLDERS[name]
    spoil(make)
    with pytest.raises(UserError, match=words):
        open_dataset(make.root)


NNUNET = {
    "no description": (lambda m: (m.root / "dataset.json").unlink(), r"dataset\.json does not exist"),
    "broken description": (lambda m: (m.root / "dataset.json").write_text("{"), "not valid JSON"),
    "no labels": (lambda m: m.json("dataset.json", {}), "no 'labels' mapping"),
    "regions": (lambda m: m.json("dataset.json", {"labels": {"background": 0, "whole": [1, 2]}}), "'whole'.* regions"),
    "background ignored": (lambda m: m.json("dataset.json", {"labels": {"ignore": 0, "a": 1}}), "ignores the label 0"),
    "value twice": (lambda m: m.json("dataset.json", {"labels": {"background": 0, "a": 1, "b": 1}}), "'b': 1 twice"),
    "NIfTI": (lambda m: m.json("dataset.json", {"labels": {"a": 1}, "file_ending": ".nii.gz"}), "imagesTr holds pictures"),
    "other files": (lambda m: m.json("dataset.json", {"labels": {"a": 1}, "file_ending": ".mnc"}), "'.mnc', which is not read"),
    "channel lacks": (lambda m: (m.root / "imagesTr/c1_0001.png").unlink(), "'c1' .* lacks channel 0001"),
    "channel twice": (lambda m: m.save("imagesTr/c1_0001.bmp", m.grey()), "repeats a channel"),
    "no channel": (lambda m: m.save("imagesTr/c1.png", m.grey()), r"c1\.png ends on no channel number"),
    "no label maps": (lambda m: shutil.rmtree(m.root / "labelsTr"), "has no masks"),
    "label map lacks": (lambda m: (m.root / "labelsTr/c1.png").unlink(), "image 'c1' .* has no mask"),
}


@pytest.mark.parametrize("name", NNUNET)
def test_wrong_nnunet_folders(make, name):
    make.nnunet()
    spoil, words = NNUNET[name]
    spoil(make)
    with pytest.raises(UserError, match=words):
        open_dataset(make.root)


DECATHLON = {
    "no list": ({"training": 3}, "no 'training' list"),
    "entry without label": ({"training": [{"image": "a.png"}]}, "no 'training' list"),
    "empty list": ({"training": []}, "has no masks"),
    "file lacks": ({"training": [{"image": "a.png", "label": "b.png"}]}, r"names .*b\.png, which does not exist"),
    "NIfTI": ({"training": [{"image": "a.nii.gz", "label": "b.nii.gz"}]}, r"names .*a\.nii\.gz, which does not exist"),
    "twice": ({"training": [{"image": "a.png", "label": "m.png"}] * 2}, "names 'a' twice"),
    "uneven": (
        {"training": [{"image": ["a.png", "a.png"], "label": "m.png"}, {"image": "m.png", "label": "m.png"}]},
        "'m' 1 image files, others 2",
    ),
}


@pytest.mark.parametrize("name", DECATHLON)
def test_wrong_datalists(make, name):
    content, words = DECATHLON[name]
    make.save("a.png", make.grey())
    make.save("m.png", make.labels())
    with pytest.raises(UserError, match=words):
        open_dataset(make.json("list.json", content))


def test_two_datalists_are_not_guessed_between(make):
    for name in "ab":
        make.json(f"{name}.json", {"training": []})
    with pytest.raises(UserError, match=r"2 JSON datalists: give one of them"):
        open_dataset(make.root)


def test_masks_that_are_all_empty_teach_nothing(make):
    make.save("images/a.png", make.grey())
    make.save("masks/a.png", np.zeros((20, 30), np.uint8))
    with pytest.raises(UserError, match="nothing can be learned"):
        open_dataset(make.root)


def test_a_photograph_is_no_label_map(make):
    make.save("images/a.png", make.grey())
    make.save("masks/a.png", make.grey(60, 60))
    with pytest.raises(UserError, match=r"a\.png holds \d+ values: is it a mask"):
        open_dataset(make.root)
