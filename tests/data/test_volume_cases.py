"""Sets of volumes: listed, checked and read in every layout, against nibabel."""

import json

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image as Picture

from allukan.data import (
    IGNORED,
    as_input,
    check_dataset,
    file_channels,
    near_duplicates,
    open_dataset,
    prepare_volumes,
    read_volume,
    read_volume_case,
    standardised,
)
from allukan.data.volumes import Geometry, Image, read_image
from allukan.errors import UserError
from tests.volume_sets import blob, blobs, decathlon, save

MOVED = np.eye(4) + np.eye(4)[:, ::-1] * [0, 0, 0, 4]  # by 4 mm along x
TURNED = np.array([[0, -2.0, 0, 5], [0.5, 0, 0, -6], [0, 0, 3, 7], [0, 0, 0, 1]])


@pytest.fixture
def cases():
    random = np.random.default_rng(0)
    return {f"b{i:02d}": blob(random, (8, 9, 7)) for i in range(4)}


def nnunet(root, cases, channels=1):
    for name, (image, labels) in cases.items():
        for channel in range(channels):
            save(root / f"imagesTr/{name}_{channel:04d}.nii.gz", image + channel)
        save(root / f"labelsTr/{name}.nii.gz", labels)
    text = {"labels": {"background": 0, "one": 1, "two": 2}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(text))


def label_maps(root, cases):
    for name, (image, labels) in cases.items():
        save(root / f"images/{name}.nii", image)
        save(root / f"masks/{name}_seg.nii.gz", labels)


def class_folders(root, cases):
    for name, (image, labels) in cases.items():
        save(root / f"images/{name}.nii.gz", image)
        for value in (1, 2):
            save(root / f"masks/{value}/{name}.nii.gz", (labels == value).astype(np.uint8))


def parts(root, cases):
    for part, name in zip(("train", "train", "val", "test"), cases, strict=True):
        label_maps(root / part, {name: cases[name]})


LAYOUTS = {"decathlon": decathlon, "nnunet": nnunet, "label-maps": label_maps, "folders": class_folders, "parts": parts}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_what_nibabel_reads(tmp_path, cases, layout):
    LAYOUTS[layout](tmp_path, cases)
    dataset = open_dataset(tmp_path)
    assert dataset.layout == {"parts": "label-maps"}.get(layout, layout)
    assert (dataset.spatial_dims, len(dataset.classes)) == (3, 2)
    assert dataset.ids == tuple(cases)
    assert file_channels(dataset) == (1,)
    for case in dataset.cases:
        image, masks = read_volume_case(case, dataset, (1,))
        array, labels = cases[case.id]
        assert np.array_equal(image.array[0], array.T)  # depth first is z first
        assert np.array_equal(masks, [labels.T == 1, labels.T == 2])


def test_a_folder_of_slices_is_a_volume_with_a_mask_of_its_name(tmp_path, series):
    made = series(tmp_path / "images/1.2.840")
    image = read_image(made.save())
    array, affine = np.zeros(image.geometry.shape[::-1], np.uint8), np.diag([-1.0, -1, 1, 1]) @ image.geometry.affine
    array[2:4, 1:3, 1:4] = 1
    save(tmp_path / "masks/1.2.840.nii.gz", array, affine[:, [2, 1, 0, 3]])
    dataset = open_dataset(tmp_path)
    assert (dataset.ids, dataset.spatial_dims) == (("1.2.840",), 3)
    found, masks = read_volume_case(dataset.cases[0], dataset)
    assert np.array_equal(found.array, image.array)
    assert np.array_equal(masks[0], array.T)


@pytest.fixture
def series():
    from tests.data.volumes.conftest import Series

    return Series


def test_the_channels_of_a_file_are_those_that_the_description_names(tmp_path, cases):
    decathlon(tmp_path, {name: (np.stack([image, -image], -1), labels) for name, (image, labels) in cases.items()})
    with pytest.raises(UserError, match="2 volumes"):
        read_volume_case((dataset := open_dataset(tmp_path)).cases[0], dataset)
    text = json.loads((tmp_path / "dataset.json").read_text()) | {"modality": {"0": "T1", "1": "T2"}}
    (tmp_path / "dataset.json").write_text(json.dumps(text))
    dataset = open_dataset(tmp_path)
    assert file_channels(dataset) == (2,)
    image, _ = read_volume_case(dataset.cases[0], dataset, (2,))
    assert np.array_equal(image.array[1], -cases["b00"][0].T)


def test_the_files_of_a_volume_lie_on_one_grid(tmp_path, cases):
    nnunet(tmp_path, cases, channels=2)
    dataset = open_dataset(tmp_path)
    image, _ = read_volume_case(dataset.cases[0], dataset, file_channels(dataset))
    assert np.array_equal(image.array, [cases["b00"][0].T, cases["b00"][0].T + 1])
    save(tmp_path / "imagesTr/b01_0001.nii.gz", cases["b01"][0], np.diag([1, 1, 2, 1]))
    with pytest.raises(UserError, match=r"b01_0001.* does not lie on the grid of .*b01_0000"):
        read_volume_case(dataset.cases[1], dataset, file_channels(dataset))


def spoilt(path, change):
    image = nibabel.load(path)
    save(path, *change(np.asanyarray(image.dataobj), image.affine))


BAD = {
    "label elsewhere": ("labelsTr", lambda a, m: (a, m @ MOVED), "does not lie on its image"),
    "label of another shape": ("labelsTr", lambda a, m: (a[:-1], m), "7×9×7 voxels instead of 7×9×8"),
    "label beyond the classes": ("labelsTr", lambda a, m: (a + np.uint8(5), m), r"label values \[5, 6, 7\], known are"),
    "fractions": ("labelsTr", lambda a, m: (a.astype(np.float32) / 2, m), "whole numbers"),
    "NaN": ("imagesTr", lambda a, m: (np.where(a > 100, np.nan, a).astype(np.float32), m), "NaN or infinite"),
    "a time series": ("imagesTr", lambda a, m: (np.stack([a, a], -1), m), "holds 2 channels and 1"),
    "one slice": ("imagesTr", lambda a, m: (a[..., 0], m), "voxels"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_told_of_its_case_and_the_others_are_read(tmp_path, cases, name):
    decathlon(tmp_path, cases)
    folder, change, words = BAD[name]
    spoilt(tmp_path / folder / "b02.nii.gz", change)
    dataset = open_dataset(tmp_path)
    with pytest.raises(UserError, match=words):
        prepare_volumes(dataset, dataset.cases, (1,), (1.0, 1.0, 1.0))
    check = check_dataset(tmp_path)
    assert [finding.where for finding in check.findings if finding.fatal] == ["b02"]
    assert not check.trainable


def test_the_check_says_what_volumes_are(tmp_path, cases):
    decathlon(tmp_path, cases, affine=TURNED)
    check = check_dataset(tmp_path)
    assert check.trainable
    assert check.facts["sizes (depth×height×width)"] == "7×9×8 (4)"
    assert check.facts["spacings (mm)"] == "3×2×0.5 (4)"
    assert check.facts["orientations"] == "".join(nibabel.aff2axcodes(TURNED)[::-1]) + " (4)"


def test_pictures_and_volumes_are_not_mixed(tmp_path, cases):
    label_maps(tmp_path, cases)
    for path in (tmp_path / "masks").iterdir():
        path.unlink()
    for name in cases:
        Picture.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / f"masks/{name}.png")
    with pytest.raises(UserError, match=r"volumes, as .*\.nii, and pictures, as .*\.png"):
        open_dataset(tmp_path)


def test_a_volume_without_a_size_in_mm_is_refused(tmp_path):
    (tmp_path / "x.nrrd").write_bytes(b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n\n" + bytes(range(8)))
    with pytest.raises(UserError, match="does not say the size of its voxels"):
        read_volume([tmp_path / "x.nrrd"])


def test_identical_volumes_are_kept_together_under_other_names(tmp_path, cases):
    decathlon(tmp_path, cases | {"copy": cases["b02"]})
    assert near_duplicates(open_dataset(tmp_path)) == [("b02", "copy", 1.0)]


def test_a_network_is_given_canonical_axes_and_scores_of_the_whole_volume(tmp_path, cases):
    path = save(tmp_path / "x.nii.gz", cases["b00"][0], TURNED)
    found = as_input(read_image(path))
    wanted = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata()[::-1, ::-1].T  # RAS: the other way along x and y
    assert found.geometry.orientation == "SPL"
    assert np.allclose(found.array[0], (wanted - wanted.mean()) / wanted.std(), atol=1e-4)
    assert found.array.dtype == np.float32


def test_a_channel_of_ct_is_clipped_and_has_one_scale_in_every_image():
    values = np.arange(-4.0, 4.0).reshape(2, 1, 2, 2).astype(np.int16)
    found = as_input(Image(values, Geometry.of_pixels((1, 2, 2), (1, 1, 1))), ((-3.0, -1.5, -2.0, 0.5), None))
    assert np.array_equal(np.sort(found.array[0].ravel()), [-2.0, -2.0, 0.0, 1.0])
    assert abs(found.array[1].mean()) < 1e-6
    assert abs(found.array[1].std() - 1) < 1e-6
    assert values.min() == -4


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.float64])
def test_an_offset_that_float32_cannot_tell_from_its_neighbours_takes_no_contrast(dtype):
    values = np.random.default_rng(0).integers(0, 100, (1, 4, 5, 6))
    found = as_input(Image((values + 2**30).astype(dtype), Geometry.of_pixels((4, 5, 6), (1, 1, 1)))).array
    assert np.allclose(found, (values - values.mean()) / values.std(), atol=1e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize("gain", [1e-9, 1, 1e9])
def test_a_gain_changes_nothing_and_a_constant_becomes_zero(gain):
    """Diffusion in m²/s is of the order of 1e-9."""
    grid = Geometry.of_pixels((4, 5, 6), (1, 1, 1))
    values = np.random.default_rng(0).normal(1.5, 0.5, (1, 4, 5, 6))
    wanted = (values - values.mean()) / values.std()
    assert np.allclose(as_input(Image(values * gain, grid)).array, wanted, atol=1e-5)
    assert not as_input(Image(np.full((1, 4, 5, 6), 0.1 * gain), grid)).array.any()
    assert np.allclose(standardised(values[0] * gain), standardised(values[0]), atol=1e-5)
    assert np.abs(standardised(np.full((7, 7, 1), 0.1 * gain))).max() < 1e-6


def test_volumes_at_another_spacing_keep_their_box_and_labels(tmp_path):
    dataset = open_dataset(blobs(tmp_path, 3, affine=np.diag([1, 1, 2, 1])))
    read = prepare_volumes(dataset, dataset.cases, (1,), (2.0, 1.0, 1.0))
    there = prepare_volumes(dataset, dataset.cases, (1,), (1.0, 2.0, 1.0))
    assert [image.array.shape for image in there.images] == [(1, 40, 14, 24)] * 3
    assert [tuple(masks.shape) for masks in there.masks] == [(2, 40, 14, 24)] * 3
    for before, after in zip(read.masks, there.masks, strict=True):
        assert set(after.unique().tolist()) == {0, 1}
        assert abs(float(after.float().mean() / before.float().mean()) - 1) < 0.15
    assert np.array_equal(read.images[0].array, as_input(read_volume_case(dataset.cases[0], dataset)[0]).array)


def test_volumes_on_disk_are_the_same(tmp_path):
    dataset = open_dataset(blobs(tmp_path / "data", 3))
    there, mapped = (prepare_volumes(dataset, dataset.cases, (1,), (1, 1, 1), (), cache) for cache in (None, tmp_path / "a/b"))
    assert list((tmp_path / "a/b").iterdir()) == []  # files without names
    for one, other in zip(there.images, mapped.images, strict=True):
        assert isinstance(other.array, np.memmap)
        assert np.array_equal(one.array, other.array)
    assert all(torch.equal(one, other) for one, other in zip(there.masks, mapped.masks, strict=True))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file cannot hold the volumes \(.*\): give another --cache"):
        prepare_volumes(dataset, dataset.cases, (1,), (1, 1, 1), (), tmp_path / "file")


def test_an_ignored_label_is_ignored_in_all_classes(tmp_path, cases):
    decathlon(tmp_path, cases, ("one", "ignore"))
    dataset = open_dataset(tmp_path)
    _, masks = read_volume_case(dataset.cases[0], dataset)
    assert np.array_equal(masks[0] == IGNORED, cases["b00"][1].T == 2)
