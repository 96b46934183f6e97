"""Masks are no images: whoever gives both together is told, before anything is predicted."""

from dataclasses import replace
from pathlib import Path

import pytest

from allukan.errors import UserError
from allukan.inference.annotated import without_masks
from allukan.inference.grouping import group
from allukan.models import ImageFile, ModelCard

CARD = ModelCard("allukan-tiny", 1, ("x",), "binary", (32, 32), (0.0,), (1.0,))
ONE = [ImageFile("*", 1)]
TWO = [ImageFile("*_t1", 1), ImageFile("*_t2", 1)]


@pytest.mark.parametrize(
    ("files", "masks", "images"),
    [
        (["images/a.png", "masks/a.png"], "masks", "images"),
        (["images/a.png", "masks/0/a.png"], "masks", "images"),
        (["Images/a.png", "Ground Truth/a.png"], "Ground Truth", "Images"),
        (["train/images/a.png", "train/masks/a.png", "test/images/b.png"], "train/masks", "train/images"),
        (["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"], "labelsTr", "imagesTr"),
        (["set/imagesTs/a_0000.png", "set/imagesTr/b_0000.png", "set/labelsTs/a.png"], "set/labelsTs", "set/imagesTs"),
        (["a.png", "predicted/masks/a.png", "predicted/overlays/a.png"], "predicted/masks", "."),
        (["a.png", "predicted/overlays/a.png"], "predicted/overlays", "."),
        (["scans/a.png", "scans_masks/a.png"], "scans_masks", "scans"),
        (["train_images/a.png", "train_masks/a.png"], "train_masks", "train_images"),
        (["ISIC_Input/1.jpg", "ISIC_GroundTruth/1_segmentation.png"], "ISIC_GroundTruth", "ISIC_Input"),
        (["ct.nii", "segmentations/liver.nii"], "segmentations", "ct.nii"),
    ],
)
def test_folders_of_masks_beside_images_are_refused(files, masks, images, tmp_path):
    with pytest.raises(UserError) as error:
        without_masks({tmp_path / file: Path(file) for file in files}, ONE)
    wanted = f"{tmp_path / masks} holds masks, which are no images to predict: give the images alone, as {tmp_path / images}."
    assert str(error.value) == wanted


def test_the_whole_folder_of_an_earlier_prediction_is_refused(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path} holds masks and overlays of a prediction"):
        without_masks({tmp_path / file: Path(file) for file in ("masks/a.png", "overlays/a.png")}, ONE)
    for alone in ("masks", "overlays"):
        given = {tmp_path / alone / "a.png": Path("a"), tmp_path / alone / "b.png": Path("b")}
        assert without_masks(given, ONE) == given


@pytest.mark.parametrize(
    ("files", "masks"),
    [
        (["benign (1).png", "benign (1)_mask.png", "benign (1)_mask_1.png"], 2),
        (["deep/a.nii.gz", "deep/A_seg.nii.gz"], 1),
        (["train_1.bmp", "train_1_anno.bmp", "train_2.bmp", "train_2_anno.bmp"], 2),
    ],
)
def test_masks_beside_their_images_are_left_out_and_named(files, masks, caplog):
    kept = without_masks({Path(file): Path(file).with_suffix("") for file in files}, ONE)
    assert list(kept) == [Path(file) for file in files if not any(word in file for word in ("_mask", "_seg", "_anno"))]
    assert f"{masks} masks beside their images are left out, as {files[1]}" in caplog.text


@pytest.mark.parametrize(
    ("kept", "masks", "expected"),
    [
        (["img0001.nii.gz", "img0002.nii.gz"], ["label0001.nii.gz"], ONE),
        (["volume-1.nii", "volume-2.nii"], ["segmentation-1.nii"], ONE),
        (["P1/P1_t1.nii", "P1/P1_t2.nii", "P2/P2_t1.nii"], ["P1/P1_seg.nii"], TWO),
        (["case_0/imaging.nii", "case_1/imaging.nii"], ["case_0/segmentation.nii"], [ImageFile("*/imaging", 1)]),
        (["s1/ct.nii", "s2/ct.nii"], [f"s{i}/segmentations/{organ}.nii" for i in (1, 2) for organ in ("liver", "spleen")], ONE),
        (["3f/images/3f.png", "a1/images/a1.png", "b0/images/b0.png"], ["3f/masks/x.png", "a1/masks/y.png"], ONE),
    ],
)
def test_masks_of_sets_of_volumes_are_left_out(kept, masks, expected):
    given = {Path(file): Path(file).with_suffix("") for file in kept + masks}
    assert list(without_masks(given, expected)) == [Path(file) for file in kept]


def test_a_model_of_one_file_takes_any_name_and_gives_the_folder_where_that_is_the_name(tmp_path):
    """Trained on KiTS, whose images are all called ``imaging``."""
    card = replace(CARD, files=(ImageFile("*/imaging", 1),))
    given = {tmp_path / file: Path(file) for file in ("case_1/imaging", "case_2/imaging", "other/scan")}
    assert [str(image.name) for image in group(given, card)] == ["case_1", "case_2", "other/scan"]
    assert all(not image.fault for image in group(given, card))


@pytest.mark.parametrize(
    "files",
    [
        [],
        ["a.png"],
        ["images/a.png", "images/b.png"],
        ["segmentation_study/a.png", "others/b.png"],  # of nothing given
        ["masks/images/a.png", "masks/b.png"],  # all below masks
        ["masks/0/a.png", "masks/1/a.png"],
        ["labels/a.png"],
        ["a_mask.png", "b_mask.png"],
        ["one/a.png", "two/a_mask.png"],
        ["imagesTs/a_0000.png", "imagesTr/b_0000.png"],
    ],
)
def test_other_folders_and_names_are_images(files):
    given = {Path(file): Path(file) for file in files}
    assert without_masks(given, ONE) == given
