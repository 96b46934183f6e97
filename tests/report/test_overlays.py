"""Contours against their definition, pixel by pixel, and on pictures of every shape."""

import numpy as np
import pytest

from allukan.report import draw_contours


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
