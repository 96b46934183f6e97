"""What is left of masks: oracle is a flood fill over all neighbours, written out."""

import itertools

import numpy as np
import pytest

from allukan.errors import UserError
from allukan.inference.components import Cleaning
from allukan.models import ModelCard


def card(target="multiclass", dims=3, values=(2, 5), names=("liver", "tumour")):
    size, spacing = (16,) * dims, (1.0,) * 3 if dims == 3 else ()
    how = {"spatial_dims": dims, "spacing_mm": spacing, "normalisation": "image" if dims == 3 else "training"}
    return ModelCard("convtwin-tiny", 1, names, target, size, (0.0,), (1.0,), label_values=values, **how)


def flooded(mask):
    """Sets of places, one a component."""
    left, parts = {tuple(place) for place in np.argwhere(mask)}, []
    steps = list(itertools.product((-1, 0, 1), repeat=mask.ndim))
    while left:
        part, new = set(), [left.pop()]
        while new:
            place = new.pop()
            part.add(place)
            near = {tuple(np.add(place, step)) for step in steps} & left
            left -= near
            new += near
        parts.append(part)
    return parts


def kept(mask, wanted):
    found = np.zeros_like(mask)
    for part in wanted:
        found[tuple(np.transpose(list(part)))] = True
    return found


@pytest.mark.parametrize("shape", [(14, 17), (9, 8, 10)])
@pytest.mark.parametrize("target", ["multiclass", "multilabel"])
def test_the_largest_and_those_that_are_large_enough_stay(shape, target):
    random = np.random.default_rng(9)
    if target == "multilabel":
        numbers = (random.random((2, *shape)) < 0.12).astype(np.uint8)
        before = numbers > 0
    else:
        numbers = random.choice([0, 1, 2], (1, *shape), p=[0.76, 0.12, 0.12]).astype(np.uint8)
        before = np.stack([numbers[0] == 1, numbers[0] == 2])
    Cleaning(keep_largest=(2,), min_volume_mm3=3 * 0.7)(numbers, card(target), voxel_mm3=0.7)
    after = numbers > 0 if target == "multilabel" else np.stack([numbers[0] == 1, numbers[0] == 2])
    first, second = (flooded(mask) for mask in before)
    assert {len(part) for part in first} >= {1, 2, 3}  # below, below, and exactly the volume asked for
    assert np.array_equal(after[0], kept(before[0], [part for part in first if len(part) >= 3]))
    sizes = sorted(map(len, second))
    assert sizes[-1] > sizes[-2]  # one is the largest
    assert np.array_equal(after[1], kept(before[1], [max(second, key=len)]))


def test_nothing_is_asked_for_and_nothing_is_there():
    numbers = np.random.default_rng(0).integers(0, 3, (1, 6, 6, 6)).astype(np.uint8)
    same = numbers.copy()
    Cleaning()(same, card())
    assert np.array_equal(same, numbers)
    empty = np.zeros_like(numbers)
    Cleaning((1, 2), 5.0)(empty, card())
    assert not empty.any()


@pytest.mark.parametrize(
    ("names", "given", "wanted"),
    [
        (("liver", "tumour"), ["tumour"], (2,)),
        (("liver", "tumour"), ["5", "liver"], (2, 1)),  # the values of the masks, not the places of the classes
        (("2", "1"), ["1"], (2,)),  # names count before values
    ],
)
def test_classes_by_name_and_by_value(names, given, wanted):
    assert Cleaning.of_names(card(names=names, values=(2, 5)), given).keep_largest == wanted


@pytest.mark.parametrize(
    ("given", "dims", "words"),
    [
        ((["livr"], 0.0), 3, "keep_largest names 'livr', which is no class of the model: did you mean 'liver'"),
        ((["1"], 0.0), 3, "choose one of liver, tumour"),
        (([""], 0.0), 3, "names ''"),
        (([], -1.0), 3, "at least 0, got -1"),
        (([], float("nan")), 3, "at least 0, got nan"),
        (([], 5.0), 2, "whose pixels have no volume: leave it out"),
    ],
)
def test_what_cannot_be_removed(given, dims, words):
    with pytest.raises(UserError, match=words):
        Cleaning.of_names(card(dims=dims), *given)
