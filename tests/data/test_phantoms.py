"""Synthetic ultrasound: repeatable, with true masks, and no task for a threshold."""

import csv

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label

from allukan.data import load_groups, near_duplicates, phantom, write_phantoms
from allukan.errors import UserError


@pytest.fixture(scope="module")
def images():
    return [phantom(64, np.random.default_rng([7, i])) for i in range(150)]


def test_the_seed_decides(tmp_path):
    a, b, c = (write_phantoms(tmp_path / name, 6, 32, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))

    def content(dataset):
        return [path.read_bytes() for case in dataset.cases for path in (*case.images, *case.masks[0])]

    assert content(a) == content(b) != content(c)
    assert (tmp_path / "a/groups.csv").read_bytes() == (tmp_path / "b/groups.csv").read_bytes()


def test_two_images_a_patient(tmp_path):
    dataset = write_phantoms(tmp_path / "p", 7, 32)
    assert list(load_groups(dataset, None).values()) == ["0", "0", "1", "1", "2", "2", "3"]
    with (tmp_path / "p/groups.csv").open() as file:
        assert next(csv.reader(file)) == ["id", "patient"]
    assert not list((tmp_path / "p").rglob("*.part"))


def test_lesions_are_as_said(images):
    numbers = [label(mask)[1] for _, mask in images]
    assert 0.01 <= np.mean([n == 0 for n in numbers]) <= 0.12
    assert any(n == 2 for n in numbers)
    shares = [mask.mean() for _, mask in images if mask.any()]
    assert min(shares) > 0.01
    assert max(shares) < 0.5
    assert {value for _, mask in images for value in np.unique(mask)} == {0, 1}
    assert all(image.dtype == mask.dtype == np.uint8 and image.shape == mask.shape == (64, 64) for image, mask in images)


def test_lesions_are_darker_than_their_surroundings(images):
    contrast = [image[mask == 0].mean() - image[mask == 1].mean() for image, mask in images if mask.any()]
    assert np.mean(np.array(contrast) > 0) > 0.95


@pytest.mark.parametrize("blur", [1, 2, 3])
def test_no_threshold_finds_them(images, blur):
    def dice(level):
        smooth = ((gaussian_filter(image.astype(float), blur) < level, mask > 0) for image, mask in images)
        return np.mean([2 * (a & b).sum() / max(1, a.sum() + b.sum()) for a, b in smooth])

    assert max(dice(level) for level in range(10, 200, 10)) < 0.65


def test_phantoms_are_independent_of_each_other(tmp_path):
    assert near_duplicates(write_phantoms(tmp_path / "p", 60, 48)) == []


@pytest.mark.parametrize(("count", "size"), [(0, 64), (4, 31), (-1, 64)])
def test_numbers_that_are_not_usable(tmp_path, count, size):
    with pytest.raises(UserError, match="at least 1 and a size of at least 32"):
        write_phantoms(tmp_path / "p", count, size)
    assert not (tmp_path / "p").exists()


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "p").write_text("x")
    with pytest.raises(UserError, match="not empty"):
        write_phantoms(tmp_path / "p", 4, 32)
