"""Layouts, readers, splits, groups, checks and phantoms."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from sklearn.model_selection import train_test_split

from allukan.data import (
    Splits,
    check_dataset,
    file_channels,
    fit_channels,
    load_groups,
    make_splits,
    near_duplicates,
    open_dataset,
    prepare,
    read_image,
    read_masks,
    write_phantoms,
)
from allukan.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not there")
rng = np.random.default_rng(0)


def grey(h=20, w=30):
    return rng.integers(0, 256, (h, w), dtype=np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def folders(root, count=6, classes=("0",)):
    for i in range(count):
        save(root / "images" / f"case{i}.png", grey())
        for name in classes:
            save(root / "masks" / name / f"case{i}.png", (grey() > 200) * np.uint8(255))
    return root


def test_folders_one_class_and_several(tmp_path):
    assert open_dataset(folders(tmp_path / "a")).target == "binary"
    several = open_dataset(folders(tmp_path / "b", classes=("gland", "lumen")))
    assert (several.target, several.classes) == ("multilabel", ("gland", "lumen"))
    assert read_masks(several.cases[0], several).shape == (2, 20, 30)


def test_several_masks_of_one_busi_case_are_united(tmp_path):
    save(tmp_path / "images" / "benign (1).png", grey())
    parts = [np.zeros((20, 30), np.uint8) for _ in range(2)]
    parts[0][:5], parts[1][15:] = 255, 255
    for suffix, part in zip(("_mask", "_mask_1"), parts, strict=True):
        save(tmp_path / "masks/0" / f"benign (1){suffix}.png", part)
    dataset = open_dataset(tmp_path)
    assert read_masks(dataset.cases[0], dataset)[0].mean() == pytest.approx(0.5)


def test_label_maps_by_value_and_by_palette_index(tmp_path):
    labels = rng.integers(0, 3, (20, 30), dtype=np.uint8)
    save(tmp_path / "images/a.png", grey())
    palette = Image.fromarray(labels, mode="P")
    palette.putpalette([0, 0, 0, 250, 10, 10, 10, 250, 10])
    (tmp_path / "masks").mkdir()
    palette.save(tmp_path / "masks/a.png")
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, dataset.target, dataset.label_values) == ("label-maps", "multiclass", (1, 2))
    assert np.array_equal(read_masks(dataset.cases[0], dataset), np.stack([labels == 1, labels == 2]))


def test_nnunet_and_decathlon(tmp_path):
    raw = tmp_path / "raw"
    for i in range(2):
        for channel in range(2):
            save(raw / "imagesTr" / f"c{i}_{channel:04d}.png", grey())
        save(raw / "labelsTr" / f"c{i}.png", rng.integers(0, 3, (20, 30), dtype=np.uint8))
    (raw / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "cyst": 1, "mass": 2}, "file_ending": ".png"}))
    nnunet = open_dataset(raw)
    assert (nnunet.layout, nnunet.classes) == ("nnunet", ("cyst", "mass"))
    assert read_image(nnunet.cases[0].images).shape == (20, 30, 2)
    entries = [{"image": f"imagesTr/c{i}_0000.png", "label": f"labelsTr/c{i}.png"} for i in range(2)]
    (tmp_path / "list.json").write_text(json.dumps({"training": entries}))
    (tmp_path / "list.json").rename(raw / "list.json")
    listed = open_dataset(raw / "list.json")
    assert (listed.layout, len(listed.cases), listed.target) == ("decathlon", 2, "multiclass")


@pytest.mark.parametrize(
    ("name", "make", "channels"),
    [
        ("grey.png", lambda p: Image.fromarray(grey()).save(p), 1),
        ("rgb.jpg", lambda p: Image.fromarray(grey()).convert("RGB").save(p), 3),
        ("rgba.png", lambda p: Image.fromarray(grey()).convert("RGBA").save(p), 3),
        ("palette.bmp", lambda p: Image.fromarray(grey()).convert("P").save(p), None),
        ("cmyk.jpg", lambda p: Image.fromarray(grey()).convert("CMYK").save(p), 3),
        ("one.png", lambda p: Image.fromarray(grey() > 99).save(p), 1),
        ("deep.png", lambda p: Image.fromarray(grey().astype(np.uint16) * 200).save(p), 1),
        ("float.tif", lambda p: tifffile.imwrite(p, rng.normal(size=(20, 30)).astype(np.float32)), 1),
        ("rgb16.tiff", lambda p: tifffile.imwrite(p, rng.integers(0, 60000, (20, 30, 3), dtype=np.uint16), photometric="rgb"), 3),
    ],
)
def test_every_kind_of_image_becomes_bytes(tmp_path, name, make, channels):
    make(tmp_path / name)
    image = read_image([tmp_path / name])
    assert image.dtype == np.uint8
    assert image.shape[:2] == (20, 30)
    assert channels is None or image.shape[2] == channels
    assert image.max() > image.min()


def test_sixteen_bits_are_scaled_between_percentiles(tmp_path):
    values = np.linspace(1000, 5000, 600).reshape(20, 30)
    tifffile.imwrite(tmp_path / "x.tif", values.astype(np.uint16))
    image = read_image([tmp_path / "x.tif"])[..., 0]
    low, high = np.percentile(values.astype(np.uint16), (0.5, 99.5))
    expected = np.clip((values.astype(np.uint16) - low) / (high - low), 0, 1) * 255
    assert np.abs(image - expected).max() <= 0.5


def test_exif_orientation_is_applied(tmp_path):
    image = Image.fromarray(grey(20, 30))
    exif = image.getexif()
    exif[274] = 6  # turn by 90 degrees
    image.save(tmp_path / "x.jpg", exif=exif)
    assert read_image([tmp_path / "x.jpg"]).shape == (30, 20, 1)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
def test_binary_masks_of_every_mode(tmp_path, mode):
    truth = grey() > 128
    save(tmp_path / "images/a.png", grey())
    (tmp_path / "masks/0").mkdir(parents=True)
    Image.fromarray(truth * np.uint8(255)).convert(mode).save(tmp_path / "masks/0/a.png")
    dataset = open_dataset(tmp_path)
    assert np.array_equal(read_masks(dataset.cases[0], dataset)[0], truth)


def test_prepare_never_interpolates_masks_and_mixes_grey_with_colour(tmp_path):
    folders(tmp_path, count=2)
    Image.fromarray(grey()).convert("RGB").save(tmp_path / "images/case1.png")
    dataset = open_dataset(tmp_path)
    assert sum(file_channels(dataset)) == 3
    data = prepare(dataset, dataset.cases, (13, 17))
    assert data.images.shape == (2, 3, 13, 17)
    assert data.shapes == ((20, 30), (20, 30))
    assert set(data.masks.unique().tolist()) <= {0, 1}
    assert torch.equal(
        prepare(dataset, dataset.cases, (20, 30)).masks[0, 0], torch.from_numpy(read_masks(dataset.cases[0], dataset)[0])
    )
    with pytest.raises(UserError, match="4 channels"):
        fit_channels(np.zeros((2, 2, 4), np.uint8), 3)


def test_ukan_splits_are_scikit_learns(tmp_path):
    dataset = open_dataset(folders(tmp_path, count=23))
    splits = make_splits(dataset, "ukan", 2981)
    train, test = train_test_split(sorted(dataset.ids), test_size=0.2, random_state=2981)
    assert (list(splits.train), list(splits.test), list(splits.val)) == (train, test, test)


def test_clean_splits_tear_no_group_and_come_back_from_disk(tmp_path):
    dataset = write_phantoms(tmp_path / "p", count=60, size=32, seed=3)
    groups = load_groups(dataset, None)
    splits = make_splits(dataset, "clean", 1, groups)
    assert splits == make_splits(dataset, "clean", 1, groups) != make_splits(dataset, "clean", 2, groups)
    parts = (splits.train, splits.val, splits.test)
    assert sorted(sum(parts, ())) == sorted(dataset.ids)
    assert [len(p) for p in parts] == pytest.approx([42, 6, 12], abs=2)
    homes = {g: {k for k, part in enumerate(parts) if any(groups[i] == g for i in part)} for g in groups.values()}
    assert all(len(where) == 1 for where in homes.values())
    splits.save(tmp_path / "splits.json")
    assert Splits.load(tmp_path / "splits.json") == splits
    (tmp_path / "splits.json").write_text("[]")
    with pytest.raises(UserError, match="not a file of splits"):
        Splits.load(tmp_path / "splits.json")
    with pytest.raises(UserError, match="lacks 1 images"):
        Splits("clean", 0, ("gone",), (), ()).matches(dataset)


def test_duplicates_are_found_and_kept_together(tmp_path):
    folders(tmp_path, count=12)
    (tmp_path / "images/case7.png").write_bytes((tmp_path / "images/case2.png").read_bytes())
    dataset = open_dataset(tmp_path)
    assert [(a, b) for a, b, _ in near_duplicates(dataset)] == [("case2", "case7")]
    for seed in range(5):
        splits = make_splits(dataset, "clean", seed)
        assert any({"case2", "case7"} <= set(part) for part in (splits.train, splits.val, splits.test))


def test_groups_from_table_pattern_and_their_faults(tmp_path):
    dataset = open_dataset(folders(tmp_path, count=4))
    (tmp_path / "g.csv").write_text("id,age,patient\n" + "".join(f"case{i},{i},p{i // 2}\n" for i in range(4)))
    assert load_groups(dataset, f"{tmp_path / 'g.csv'}:patient")["case3"] == "p1"
    assert load_groups(dataset, "re:case(.)")["case3"] == "3"
    assert load_groups(dataset, None) is None
    for spec, word in [
        ("re:(", "regular expression"),
        ("re:x", "case0"),
        ("no.csv", "cannot be read"),
        (f"{tmp_path / 'g.csv'}:sex", "sex"),
    ]:
        with pytest.raises(UserError, match=re.escape(word)):
            load_groups(dataset, spec)


def test_check_collects_every_problem(tmp_path):
    folders(tmp_path, count=8)
    (tmp_path / "images/case0.png").write_text("text")
    Image.fromarray(grey(9, 9)).save(tmp_path / "masks/0/case1.png")
    Image.fromarray((grey(9, 9) > 9) * np.uint8(255)).save(tmp_path / "masks/0/case2.png")
    (tmp_path / "masks/0/case3.png").unlink()
    result = check_dataset(tmp_path)
    text = " ".join(f.what for f in result.findings)
    assert not result.trainable
    for word in ("case0.png cannot be read", "not binary", "9×9", "'case3'"):
        assert word in text
    assert check_dataset(folders(tmp_path / "good")).trainable


def test_phantoms_repeat_and_refuse_a_used_folder(tmp_path):
    a, b = (write_phantoms(tmp_path / name, count=12, size=48, seed=5) for name in "ab")
    for one, two in zip(a.cases, b.cases, strict=True):
        assert one.images[0].read_bytes() == two.images[0].read_bytes()
        image, mask = read_image(one.images)[..., 0].astype(float), read_masks(one, a)[0].astype(bool)
        if mask.any():
            assert image[mask].mean() < image[~mask].mean()
    with pytest.raises(UserError, match="not empty"):
        write_phantoms(tmp_path / "a")


@pytest.mark.slow
@needs_data
def test_real_sets_are_recognised_and_leak_nothing():
    busi, cvc = (open_dataset(SHARED / name) for name in ("busi_256", "cvc_256"))
    assert (len(busi.cases), len(cvc.cases), len(open_dataset(SHARED / "glas_512").cases)) == (647, 612, 165)
    assert near_duplicates(busi)[0][:2] == ("benign (433)", "malignant (145)")
    groups = load_groups(cvc, None)
    assert len(set(groups.values())) == 29
    splits = make_splits(cvc, "clean", 0, groups)
    parts = [{groups[i] for i in part} for part in (splits.train, splits.val, splits.test)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 29
