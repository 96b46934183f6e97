"""Contours against their definition, pixel by pixel, and on pictures of every shape."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from allukan.report import draw_contours, palette
from allukan.report.overlays import contour_figure


def blob(height=40, width=60):
    y, x = np.mgrid[:height, :width]
    return ((y - 15) / 12) ** 2 + ((x - 20) / 25) ** 2 < 1  # runs over the left border


def on_outline(mask):
    """Pixels of the mask with a neighbour, up, down, left or right, that is none of it or no pixel at all."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def test_a_contour_is_the_rim_of_its_mask_and_nothing_else_is_touched():
    image = np.random.default_rng(0).integers(0, 200, (40, 60, 3), np.uint8)
    drawn = draw_contours(image, blob()[None])
    rim = on_outline(blob())
    assert (drawn[rim] == (230, 159, 0)).all()
    assert np.array_equal(drawn[~rim], image[~rim])


def test_contours_of_large_images_are_wider_and_each_class_has_its_colour():
    left, right = np.zeros((2, 600, 900), bool)
    left[100:500, 100:400], right[100:500, 500:800] = True, True
    drawn = draw_contours(np.zeros((600, 900, 1), np.uint8), np.stack([left, right]))
    coloured = {x: tuple(drawn[300, x].tolist()) for x in np.flatnonzero(drawn[300].any(1))}
    first, second = dict.fromkeys(range(97, 104), (230, 159, 0)), dict.fromkeys(range(497, 504), (86, 180, 233))
    assert {x: colour for x, colour in coloured.items() if x < 200 or 450 < x < 700} == first | second


@pytest.mark.parametrize("channels", [(), (1,), (2,), (3,), (4,)])
def test_images_of_any_number_of_channels_are_shown_in_grey_or_in_their_first_three(channels):
    image = np.random.default_rng(0).integers(0, 255, (9, 12, *channels), np.uint8)
    shown = draw_contours(image, np.zeros((1, 9, 12), bool))
    first = image if not channels else image[..., 0]
    assert np.array_equal(shown, image[..., :3] if channels in ((3,), (4,)) else np.stack([first] * 3, axis=-1))


@pytest.mark.parametrize("shape", [(1, 200), (200, 1), (2, 2)])
def test_figures_of_any_shape_and_of_full_and_empty_masks(shape):
    full = np.ones((1, *shape), bool)
    assert contour_figure(np.zeros(shape, np.uint8), full, ~full).startswith("data:image/png;base64,")


def test_truth_and_prediction_are_where_they_belong():
    truth, prediction = np.zeros((2, 1, 44, 44), bool)
    truth[0, 4:40, 4:20], prediction[0, 4:40, 24:40] = True, True
    _, _, content = contour_figure(np.zeros((44, 44), np.uint8), truth, prediction).partition(",")
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))
    assert picture.shape == (440, 440, 3)
    for colour, columns, dashed in ((palette.TRUTH, slice(30, 210), False), (palette.PREDICTION, slice(230, 410), True)):
        seen = (picture == palette.rgb(colour)).all(2)
        assert seen[:, columns].sum() == seen.sum() > 500
        side = seen[60:380, columns].any(1)  # along the vertical lines
        assert side.mean() == 1.0 if not dashed else 0.3 < side.mean() < 0.9
