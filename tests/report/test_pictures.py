"""Outlines filled again give the mask they are of; images in the page are the images."""

import base64
import io
import re

import numpy as np
import pytest
from matplotlib.path import Path
from PIL import Image

from allukan.report import picture, plane
from allukan.report.contours import FINE, outline
from tests.report.pages import page, run, score, shown, square


def filled(data, shape):
    """What a browser fills by the rule "evenodd", looked at in the centre of every pixel."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    centres = (np.stack([x, y], -1).reshape(-1, 2) + 0.5) * FINE
    inside = np.zeros(len(centres), bool)
    for ring in re.findall(r"M([^z]*)z", data):
        numbers = np.array([int(n) for n in re.findall(r"-?\d+", ring)]).reshape(-1, 2)
        inside ^= Path(np.cumsum(numbers, 0)).contains_points(centres)
    return inside.reshape(shape)


def blobs():
    y, x = np.mgrid[:90, :120]
    ring = (((y - 40) / 30) ** 2 + ((x - 40) / 35) ** 2 < 1) & ~(((y - 40) / 9) ** 2 + ((x - 35) / 12) ** 2 < 1)
    return ring | (((y - 85) / 12) ** 2 + ((x - 110) / 15) ** 2 < 1)  # with a hole; another over two borders


@pytest.mark.parametrize("mask", [blobs(), ~blobs(), np.ones((5, 9), bool), square(at=0)[0]])
def test_an_outline_holds_its_mask(mask):
    found = filled(outline(mask), mask.shape)
    assert (found & mask).sum() / (found | mask).sum() > 0.98
    assert len(outline(mask)) < 1500


def test_the_smallest_masks_have_outlines_and_empty_ones_none():
    for size in (1, 2, 3):
        mask = square(side=9, size=size)[0]
        assert filled(outline(mask), mask.shape)[mask].all()
    assert outline(np.zeros((4, 4), bool)) == ""


def test_what_is_missed_and_what_is_too_much_are_told_apart():
    truth, prediction = square(40, 4, 20), square(40, 14, 20)
    (found,) = picture(np.zeros((40, 40), np.uint8), truth, prediction).planes[0].slices
    for path, mask in ((found.missed, truth & ~prediction), (found.extra, prediction & ~truth)):
        again = filled(path, (40, 40))
        assert (again & mask[0]).sum() / (again | mask[0]).sum() > 0.95


@pytest.mark.parametrize("channels", [(), (1,), (2,), (3,), (4,)])
def test_the_image_is_in_the_page_in_grey_or_in_its_first_three_channels(tmp_path, channels):
    image = np.full((24, 24, *channels), 60, np.uint8)
    image[:12] = 200
    found = page(tmp_path, run([score("c", 0.5)], pictures={"c": picture(image, square(), square(at=6))}))
    uri = found.all("image")[-1]["href"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")).astype(int)
    assert pixels.shape == (24, 24, 3)
    assert np.abs(pixels[:10] - 200).max() < 12
    assert np.abs(pixels[14:] - 60).max() < 12


def test_slices_of_a_volume_have_a_slider_each_plane_and_one_is_shown(tmp_path):
    slices = [(np.full((20, 30, 1), 9 * i, np.uint8), np.ones((2, 20, 30), bool), np.zeros((2, 20, 30), bool)) for i in range(5)]
    volume = shown().__class__(tuple(plane(name, slices, 2.0) for name in ("axial", "coronal", "sagittal")))
    found = page(tmp_path, run([score("v", 0.1)], pictures={"v": volume}))
    sliders = found.all("input", type="range")
    assert [(slider["min"], slider["max"], slider["value"]) for slider in sliders] == [("0", "4", "2")] * 3
    drawn = [e for e in found.all("svg") if e.get("viewbox") == "0 0 120 160.0"]
    assert len(drawn) == 15 + 1  # and the worst one on the first screen
    assert sum("hidden" not in e for e in drawn) == 3 + 1
    assert len(found.all("div", role="img")) == 3 + 1
    assert len(found.all("path", class_="truth")) == 2 * 16


def test_the_size_of_a_picture_is_nearly_what_it_adds_to_a_page(tmp_path):
    names = [f"c{i}" for i in range(30)]
    scores = [score(name, 0.5) for name in names]
    sizes = []
    for pictures in ({}, dict.fromkeys(names, shown())):
        page(tmp_path, run(scores, pictures=pictures))
        sizes.append((tmp_path / "r.html").stat().st_size)
    assert (sizes[1] - sizes[0]) / 30 == pytest.approx(shown().size, rel=0.5)
