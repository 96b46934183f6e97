"""Sets as their authors give them away: BUSI, GlaS and CVC-ClinicDB without moving a file, and what looks like them."""

import numpy as np
import pytest

from allukan.data import open_dataset, read_masks
from allukan.errors import UserError
from allukan.options import LabelRules


def squares(*corners, value=255):
    mask = np.zeros((20, 30), np.uint8)
    for y, x in corners:
        mask[y : y + 5, x : x + 5] = value
    return mask


@pytest.fixture
def busi(make):
    """Folders of three kinds, some images with several masks, those of healthy breasts black."""
    for kind, count in (("benign", 3), ("malignant", 2), ("normal", 2)):
        for i in range(1, count + 1):
            make.save(f"{kind}/{kind} ({i}).png", make.grey())
            make.save(f"{kind}/{kind} ({i})_mask.png", squares((1, 2)) if kind != "normal" else squares())
    make.save("benign/benign (3)_mask_1.png", squares((10, 20)))
    return make.root


def test_busi_with_its_several_masks(busi):
    dataset = open_dataset(busi)
    assert (dataset.layout, dataset.target, dataset.classes) == ("folders", "binary", ("foreground",))
    assert dataset.ids == ("benign (1)", "benign (2)", "benign (3)", "malignant (1)", "malignant (2)", "normal (1)", "normal (2)")
    masks = [read_masks(case, dataset)[0] for case in dataset.cases]
    assert [int(mask.sum()) for mask in masks] == [25, 25, 50, 25, 25, 0, 0]
    np.testing.assert_array_equal(masks[2], squares((1, 2), (10, 20)) > 0)


def test_one_kind_of_busi_alone(busi):
    dataset = open_dataset(busi / "malignant")
    assert (dataset.layout, dataset.ids, dataset.classes) == ("label-maps", ("malignant (1)", "malignant (2)"), ("foreground",))


def test_glas_with_its_numbered_glands(make):
    for name in ("train_1", "train_2", "testA_1"):
        make.save(f"{name}.bmp", np.stack([make.grey()] * 3, axis=-1))
        make.save(f"{name}_anno.bmp", np.maximum(squares((0, 0), value=1), squares((9, 9), value=2)))
    (make.root / "Grade.csv").write_text("name, grade\n")
    dataset = open_dataset(make.root, LabelRules(foreground=True))
    assert (dataset.ids, dataset.classes) == (("testA_1", "train_1", "train_2"), ("foreground",))
    assert read_masks(dataset.cases[0], dataset).sum() == 50


@pytest.mark.parametrize(
    ("images", "masks"), [("Original", "Ground Truth"), ("image", "label"), ("Images", "GT"), ("imgs", "masks")]
)
def test_folders_by_other_names(make, images, masks):
    for i in (1, 2, 10):
        make.save(f"{images}/{i}.tif", np.stack([make.grey()] * 3, axis=-1))
        make.save(f"{masks}/{i}.tif", squares((i, i)))
    dataset = open_dataset(make.root)
    assert (dataset.ids, dataset.classes, dataset.layout) == (("1", "10", "2"), ("foreground",), "label-maps")
    np.testing.assert_array_equal(read_masks(dataset.cases[1], dataset)[0], squares((10, 10)) > 0)


def test_folders_whose_files_say_which_are_masks(make):
    for i in range(3):
        make.save(f"ISIC2018_Task1-2_Training_Input/ISIC_{i}.jpg", np.stack([make.grey()] * 3, axis=-1))
        make.save(f"ISIC2018_Task1_Training_GroundTruth/ISIC_{i}_segmentation.png", squares((i, i)))
    dataset = open_dataset(make.root)
    assert (dataset.ids, dataset.classes) == (("ISIC_0", "ISIC_1", "ISIC_2"), ("foreground",))
    make.save("ISIC2018_Task1_Training_GroundTruth/ISIC_9.png", squares((1, 1)))
    with pytest.raises(UserError, match=r"mask 'ISIC_9' of .* has no image"):
        open_dataset(make.root)


@pytest.mark.parametrize(("images", "masks"), [("scans", "scans_masks"), ("data", "data-gt"), ("X", "Ground Truth X")])
def test_two_folders_of_which_one_is_called_masks(make, images, masks):
    for i in range(3):
        make.save(f"{images}/{i}.png", make.grey())
        make.save(f"{masks}/{i}.png", squares((i, i)))
    dataset = open_dataset(make.root)
    assert [case.masks[0][0].parent.name for case in dataset.cases] == [masks] * 3


@pytest.mark.parametrize(
    "names",
    [
        ("train_images", "train_masks", "test_images", "test_masks"),
        ("trainval-image", "trainval-mask", "test-image", "test-mask"),
        ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth", "ISIC_Test_Input", "ISIC_Test_GroundTruth"),
    ],
)
def test_folders_of_parts_and_of_masks(make, names):
    for first, (images, masks) in enumerate((names[:2], names[2:])):
        for i in range(2):
            make.save(f"{images}/{first}{i}.jpg", make.grey())
            make.save(f"{masks}/{first}{i}_segmentation.png" if "ISIC" in masks else f"{masks}/{first}{i}.png", squares((i, i)))
    dataset = open_dataset(make.root)
    assert dataset.given.folds == {None: {"train": ("00", "01"), "test": ("10", "11")}}
    assert [case.masks[0][0].parent.name for case in dataset.cases] == [names[1]] * 2 + [names[3]] * 2


def test_a_test_folder_without_masks_among_folders_of_parts(make):
    for i in range(3):
        make.save(f"train_images/{i}.png", make.grey())
        make.save(f"train_masks/{i}.png", squares((i, i)))
        make.save(f"test_images/9{i}.png", make.grey())
    dataset = open_dataset(make.root)
    assert (dataset.ids, dataset.given.folds) == (("0", "1", "2"), {})
    assert dataset.given.notes == (f"{make.root / 'test_images'} has no masks: its images are not used.",)


def test_three_folders_of_a_part_are_not_guessed_between(make):
    for folder in ("train_images", "train_masks", "train_masks_2"):
        make.save(f"{folder}/1.png", squares((1, 1)))
    with pytest.raises(UserError, match="no dataset that is recognised"):
        open_dataset(make.root)


def test_vessels_are_no_field_of_view(make):
    """DRIVE, whose ``mask`` is where the camera saw anything."""
    for part, name in (("training", "21"), ("training", "22"), ("test", "01")):
        make.save(f"{part}/images/{name}_{part}.tif", np.stack([make.grey()] * 3, axis=-1))
        make.save(f"{part}/1st_manual/{name}_manual1.png", squares((1, 1)))
        make.save(f"{part}/2nd_manual/{name}_manual2.png", squares((2, 2)))
        make.save(f"{part}/mask/{name}_{part}_mask.png", squares((0, 0)) + 255)
    dataset = open_dataset(make.root)
    assert dataset.ids == ("01_test", "21_training", "22_training")
    assert all(read_masks(case, dataset).sum() == 25 for case in dataset.cases)
    where = f"{make.root / 'training' / 'mask'} is not used: beside 1st_manual it is taken for the field of view."
    assert where in dataset.given.notes
    assert open_dataset(make.root / "test").ids == ("01_test",)


def test_a_part_of_nothing_but_a_field_of_view_has_no_masks(make):
    """DRIVE as it is given away now, whose test has no vessels."""
    for part, name in (("training", "21"), ("training", "22"), ("test", "01")):
        make.save(f"{part}/images/{name}_{part}.tif", np.stack([make.grey()] * 3, axis=-1))
        make.save(f"{part}/mask/{name}_{part}_mask.gif", squares((0, 0)) + 255)
        if part == "training":
            make.save(f"{part}/1st_manual/{name}_manual1.gif", squares((1, 1)))
    dataset = open_dataset(make.root)
    assert (dataset.ids, dataset.given.folds) == (("21_training", "22_training"), {})
    assert f"{make.root / 'test'} has no masks: its images are not used." in dataset.given.notes


def test_some_manual_masks_do_not_replace_the_others(make):
    for i in range(3):
        make.save(f"images/{i}.png", make.grey())
        make.save(f"masks/{i}.png", squares((1, 1)))
    make.save("manual1/1.png", squares((2, 2)))
    dataset = open_dataset(make.root)
    assert [case.masks[0][0].parent.name for case in dataset.cases] == ["masks"] * 3
    assert dataset.given.notes == (f"{make.root / 'manual1'} is not used: there is {make.root / 'images'}.",)


def test_what_is_not_used_is_named(make):
    for i in range(3):
        for folder in ("images", "masks", "labels", "image_aug/deep"):
            make.save(f"{folder}/{i}.png", squares((1, 1)))
    (make.root / "docs").mkdir()
    for name in ("train.txt", "docs/readme.txt"):
        (make.root / name).write_text("0")
    why = f"is not used: there is {make.root / 'images'}."
    assert open_dataset(make.root).given.notes == (
        f"{make.root / 'image_aug'} {why}",
        f"{make.root / 'labels'} {why}",
        f"{make.root / 'train.txt'} is not used: a split is told by --splits FILE.",
    )


@pytest.mark.parametrize("extra", ["test_hard/x", "images/extra/x", "masks/extra/x"])
def test_folders_beside_parts_are_named(make, extra):
    for part, name in (("train", "a"), ("train", "b"), ("test", "c")):
        make.save(f"images/{part}/{name}.png", make.grey())
        make.save(f"masks/{part}/{name}.png", squares((1, 1)))
    make.save(f"{extra}.png", squares((1, 1)))
    notes = open_dataset(make.root).given.notes
    assert notes == (f"{(make.root / extra).parent} is not used: the split is of train, test.",)


def test_two_folders_of_one_part_are_not_guessed_between(make):
    for part in ("train", "trainval"):
        for folder in ("images", "masks"):
            make.save(f"{folder}/{part}/{part}.png", squares((1, 1)))
    with pytest.raises(UserError, match="images has the folders train and trainval for one part: join them, or keep one"):
        open_dataset(make.root)


def test_parts_of_masks_without_parts_of_images(make):
    make.save("images/a.png", make.grey())
    make.save("masks/train/a.png", squares((1, 1)))
    with pytest.raises(UserError, match=r"masks/train is called as a part of a split, and .*images has none: make them alike"):
        open_dataset(make.root)


def test_images_in_folders_of_patients(make):
    for folder in ("images", "masks"):
        make.save(f"{folder}/P1/1.png", squares((1, 1)))
    with pytest.raises(UserError, match=r"images holds no images, but .*images/P1 does: move them up, with names that differ"):
        open_dataset(make.root)


def test_a_part_without_masks_is_told_where_they_are_expected(make):
    for part in ("train", "val"):
        make.save(f"images/{part}/{part}.png", make.grey())
    make.save("masks/train/train.png", squares((1, 1)))
    with pytest.raises(UserError, match=r"images/val has no masks: expected are .*masks/val, or leave its images out"):
        open_dataset(make.root)


def test_white_masks_of_one_part_and_ones_of_another_are_no_two_classes(make):
    for part, name, value in (("train", "a", 255), ("test", "b", 1)):
        make.save(f"{part}/images/{name}.png", make.grey())
        make.save(f"{part}/masks/{name}.png", squares((1, 1), value=value))
    with pytest.raises(UserError, match=r"the masks of train in .* hold 255 and those of test 1: store them alike"):
        open_dataset(make.root)
    assert open_dataset(make.root, LabelRules(foreground=True)).ids == ("a", "b")


def test_images_outside_of_parts_leave_a_note(make):
    for name in ("train/a", "test/b", "test_hard/c"):
        make.save(f"{name}.png", make.grey())
        make.save(f"{name}_mask.png", squares((1, 1)))
    given = open_dataset(make.root).given
    where = make.root / "test_hard/c.png"
    assert (given.folds, given.notes) == ({}, (f"the parts of a split in {make.root} are not used: {where} is in none of them.",))


def test_several_masks_of_an_image_are_united_with_a_note(busi):
    [note] = open_dataset(busi).given.notes
    assert note.startswith("1 of the images, as 'benign (3)', have several masks, which are united to one class")


def test_vessels_of_two_hands_are_not_guessed_between(make):
    for i in range(3):
        make.save(f"Image_{i}L.jpg", make.grey())
        make.save(f"Image_{i}L_1stHO.png", squares((1, 1)))
        make.save(f"Image_{i}L_2ndHO.png", squares((2, 2)))
    with pytest.raises(UserError, match=r"Image_0L_1stHO.png and Image_0L_2ndHO.png both fit image 'Image_0L': keep one of them"):
        open_dataset(make.root)


@pytest.fixture
def nuclei(make):
    """DSB 2018: a folder an image, a file a nucleus."""
    for name, count in (("3f", 1), ("a1", 3), ("b0", 2)):
        make.save(f"{name}/images/{name}.png", make.grey())
        for i in range(count):
            make.save(f"{name}/masks/{name}{i}x.png", squares((7 * i, 9 * i)))
    return make.root


def test_nuclei_are_united(nuclei):
    dataset = open_dataset(nuclei)
    assert (dataset.ids, dataset.classes, dataset.target) == (("3f", "a1", "b0"), ("foreground",), "binary")
    assert [int(read_masks(case, dataset).sum()) for case in dataset.cases] == [25, 75, 50]
    assert dataset.patterns == ("*",)


def test_numbered_masks_are_no_classes(make):
    for name in ("a", "b"):
        make.save(f"{name}/images/{name}.png", make.grey())
        for i in range(2):
            make.save(f"{name}/masks/mask_{i}.png", squares((7 * i, 9 * i)))
    dataset = open_dataset(make.root)
    assert dataset.classes == ("foreground",)
    assert read_masks(dataset.cases[0], dataset).sum() == 50


def test_label_maps_in_folders_of_their_own(make):
    for name, value in (("a", 1), ("b", 2), ("c", 3)):
        make.save(f"{name}/images/{name}.png", make.grey())
        make.save(f"{name}/masks/{name}_label.png", squares((1, 2), value=value))
    dataset = open_dataset(make.root)
    assert (dataset.layout, dataset.classes, dataset.target) == ("label-maps", ("1", "2", "3"), "multiclass")


@pytest.mark.parametrize("extra", ["d/images/e.png", "d/images/d.webp"])
def test_a_folder_unlike_the_others_is_a_problem(nuclei, make, extra):
    make.save("d/masks/x.png", squares((1, 1)))
    make.save("d/images/e.png", make.grey())
    (make.root / "d/images/e.png").rename(make.root / extra)
    with pytest.raises(UserError, match="other folders one image and its masks: make it alike"):
        open_dataset(nuclei)


def test_an_image_without_nuclei_is_noted(nuclei, make):
    make.save("c9/images/c9.png", make.grey())
    dataset = open_dataset(nuclei)
    assert dataset.ids == ("3f", "a1", "b0")
    assert dataset.given.notes == (f"without masks and not used: 1 of the images, as {nuclei / 'c9'}.",)


def test_the_folder_above_nuclei_is_told_where_they_are(make):
    for name in ("3f", "a1"):
        make.save(f"stage1/{name}/images/{name}.png", make.grey())
        make.save(f"stage1/{name}/masks/{name}x.png", squares((1, 2)))
    with pytest.raises(UserError, match=r"holds 1 dataset: give .*stage1"):
        open_dataset(make.root)


def test_parts_with_folders_by_other_names(make):
    for part, name in (("train", "a"), ("train", "b"), ("val", "c"), ("test", "d")):
        make.save(f"{part}/image/{name}.png", make.grey())
        make.save(f"{part}/label/{name}.png", squares((1, 1)))
    dataset = open_dataset(make.root)
    assert dataset.ids == ("a", "b", "c", "d")
    assert dataset.given.folds == {None: {"train": ("a", "b"), "val": ("c",), "test": ("d",)}}


@pytest.mark.parametrize("kind", ["", "benign/"])
def test_parts_with_masks_beside_their_images(make, kind):
    """Were pooled and drawn anew without a word."""
    for part, names in (("train", "abc"), ("valid", "d"), ("test", "ef")):
        for name in names:
            make.save(f"{part}/{kind}{name}.png", make.grey())
            make.save(f"{part}/{kind}{name}_mask.png", squares((1, 1)))
    given = open_dataset(make.root).given
    assert given.folds == {None: {"train": ("a", "b", "c"), "val": ("d",), "test": ("e", "f")}}
    assert given.origin == f"folders test, train, valid of {make.root}"


@pytest.mark.parametrize(("images", "masks"), [("images", "masks/0"), ("images", "labels"), ("image", "mask")])
def test_parts_within_the_folders_of_images_and_masks(make, images, masks):
    top, *classes = masks.split("/")
    for part, names in (("train", "abc"), ("val", "de"), ("test", "f")):
        for name in names:
            make.save(f"{images}/{part}/{name}.png", make.grey())
            make.save("/".join((top, part, *classes, f"{name}.png")), squares((1, 1)))
    dataset = open_dataset(make.root)
    assert dataset.given.folds == {None: {"train": ("a", "b", "c"), "val": ("d", "e"), "test": ("f",)}}
    assert dataset.target == "binary"
    assert all(read_masks(case, dataset).sum() == 25 for case in dataset.cases)


def test_parts_within_without_masks(make):
    for part, name in (("train", "a"), ("train", "b"), ("test", "c")):
        make.save(f"images/{part}/{name}.png", make.grey())
    for name in "ab":
        make.save(f"labels/train/{name}.png", squares((1, 1)))
    dataset = open_dataset(make.root)
    assert (dataset.ids, dataset.given.folds) == (("a", "b"), {})
    assert dataset.given.notes == (f"{make.root / 'images/test'} has no masks: its images are not used.",)


def test_one_part_or_images_outside_of_parts_are_no_split(make):
    for name in ("train/a", "train/b"):
        make.save(f"{name}.png", make.grey())
        make.save(f"{name}_mask.png", squares((1, 1)))
    assert open_dataset(make.root).given.folds == {}
    make.save("test/c.png", make.grey())
    make.save("test/c_mask.png", squares((1, 1)))
    assert open_dataset(make.root).given.folds != {}
    make.save("d.png", make.grey())
    make.save("d_mask.png", squares((1, 1)))
    assert open_dataset(make.root).given.folds == {}


def test_the_folder_tells_images_of_one_name_apart(make):
    for patient in ("p1", "p2"):
        make.save(f"{patient}/scan.png", make.grey())
        make.save(f"{patient}/scan_seg.png", squares((1, 1)))
    assert open_dataset(make.root).ids == ("p1/scan", "p2/scan")


def test_an_image_without_its_mask_is_missed(busi):
    (busi / "normal/normal (2)_mask.png").unlink()
    with pytest.raises(UserError, match=r"image 'normal \(2\)' of .* has no mask"):
        open_dataset(busi)


def test_a_mask_without_its_image_is_missed(busi):
    (busi / "normal/normal (2).png").unlink()
    with pytest.raises(UserError, match=r"image 'normal \(2\)_mask' of .* has no mask"):
        open_dataset(busi)


def test_a_kind_in_a_format_that_is_not_read_is_named(busi, caplog):
    (busi / "elastography").mkdir()
    (busi / "elastography/e (1).webp").write_bytes(b"RIFF")
    assert len(open_dataset(busi).ids) == 7
    assert "elastography, as e (1).webp, ends in .webp, which is not read: convert it to PNG or TIFF." in caplog.text


def test_problems_of_other_folders_are_none_where_nothing_is_recognised(make):
    make.save("a/x.png", make.grey())
    make.save("a/x.bmp", make.grey())
    (make.root / "b").mkdir()
    (make.root / "b/y.webp").write_bytes(b"RIFF")
    with pytest.raises(UserError, match="no dataset that is recognised"):
        open_dataset(make.root)


def test_images_alone_are_no_dataset(make):
    make.save("a.png", make.grey())
    make.save("b.png", make.grey())
    with pytest.raises(UserError, match="no dataset that is recognised: expected are images/ and masks/"):
        open_dataset(make.root)


def test_two_folders_of_masks_are_not_guessed_between(make):
    make.save("image/a.png", make.grey())
    make.save("gt/a.png", squares((1, 1)))
    make.save("labels/a.png", squares((2, 2)))
    with pytest.raises(UserError, match="has the folders gt and labels, which both may hold masks: rename one to masks"):
        open_dataset(make.root)


def test_the_folder_above_names_the_datasets_in_it(make):
    for kind in ("PNG", "TIF"):
        make.save(f"{kind}/Original/1.png", make.grey())
        make.save(f"{kind}/Ground Truth/1.png", squares((1, 1)))
    with pytest.raises(UserError, match=r"holds 2 datasets: give one of them, as .*PNG"):
        open_dataset(make.root)
