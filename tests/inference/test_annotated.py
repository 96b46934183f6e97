"""Masks are no images: whoever gives both together is told, before anything is predicted."""

from pathlib import Path

import pytest

from allukan.errors import UserError
from allukan.inference.annotated import check_annotated


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
    ],
)
def test_folders_of_masks_beside_images_are_refused(files, masks, images, tmp_path):
    with pytest.raises(UserError) as error:
        check_annotated(tmp_path / file for file in files)
    wanted = f"{tmp_path / masks} holds masks, which are no images to predict: give the images alone, as {tmp_path / images}."
    assert str(error.value) == wanted


@pytest.mark.parametrize("files", [["benign (1).png", "benign (1)_mask.png"], ["deep/a.nii.gz", "deep/A_seg.nii.gz"]])
def test_masks_beside_their_images_are_refused(files):
    with pytest.raises(UserError) as error:
        check_annotated(Path(file) for file in files)
    assert (
        str(error.value)
        == f"{files[1]} is the mask of an image beside it, and no image to predict: keep masks in another folder."
    )


@pytest.mark.parametrize(
    "files",
    [
        [],
        ["a.png"],
        ["images/a.png", "images/b.png"],
        ["masks/images/a.png", "masks/b.png"],  # all below masks
        ["masks/0/a.png", "masks/1/a.png"],
        ["labels/a.png"],
        ["a_mask.png", "b_mask.png"],
        ["one/a.png", "two/a_mask.png"],
        ["imagesTs/a_0000.png", "imagesTr/b_0000.png"],
    ],
)
def test_other_folders_and_names_are_not(files):
    check_annotated(Path(file) for file in files)
