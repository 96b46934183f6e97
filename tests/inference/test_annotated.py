"""Masks are no images: whoever gives both together is told, before anything is predicted."""

from pathlib import Path

import pytest

from allukan.errors import UserError
from allukan.inference.annotated import check_annotated


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (["images/a.png", "masks/a.png"], "masks beside images"),
        (["images/a.png", "masks/0/a.png"], "masks beside images"),
        (["Images/a.png", "Ground Truth/a.png"], "Ground Truth beside Images"),
        (["train/images/a.png", "train/masks/a.png", "test/images/b.png"], "train/masks beside train/images"),
        (["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"], "labelsTr beside imagesTr"),
        (["set/imagesTs/a_0000.png", "set/imagesTr/b_0000.png", "set/labelsTs/a.png"], "set/labelsTs beside set/imagesTr"),
        (["benign (1).png", "benign (1)_mask.png"], "benign (1)_mask.png is the mask"),
        (["deep/a.nii.gz", "deep/A_seg.nii.gz"], "deep/A_seg.nii.gz is the mask"),
    ],
)
def test_masks_given_with_their_images_are_refused(files, told):
    with pytest.raises(UserError) as error:
        check_annotated(Path(file) for file in files)
    assert str(error.value).startswith(told)


@pytest.mark.parametrize(
    "files",
    [
        ["images/a.png", "images/b.png"],
        ["masks/images/a.png", "masks/images/b.png"],  # only the folders that hold both count
        ["labels/a.png"],
        ["images/a.png", "elsewhere/masks/b.png"],
        ["a_mask.png", "b_mask.png"],
        ["one/a.png", "two/a_mask.png"],
        ["imagesTs/a_0000.png", "imagesTr/b_0000.png"],
    ],
)
def test_other_folders_and_names_are_not(files):
    check_annotated(Path(file) for file in files)
