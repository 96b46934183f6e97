"""Sets of options: frozen, strict, and one sentence for whatever is wrong."""

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, fields, replace

import numpy as np
import pytest

from allukan.errors import UserError
from allukan.models import ModelCard, Topology
from allukan.models.storage import ImageFile
from allukan.nn import Spline
from allukan.options import LabelRules, TrainConfig
from allukan.study.plan import Study, Tune

SETS = [
    Spline(7, 2, (-1.0, 1.0), "edge"),
    Topology((1, 2, 3, 4, 5), 3),
    TrainConfig("d", "o"),
    ImageFile("*", 1),
    ModelCard("unet", 1, ("a",), "binary", (32, 32), (0.0,), (1.0,)),
    LabelRules(4),
    Tune({"lr": (0.1,)}, 3),
    Study({"a": {"path": "a"}}, {"b": {"model": "unet"}}),
]


@pytest.mark.parametrize("one", SETS, ids=lambda one: type(one).__name__)
def test_they_are_frozen_dataclasses_like_any_other(one):
    for other in (
        copy.deepcopy(one),
        pickle.loads(pickle.dumps(one)),
        replace(one),
        type(one)(**{f.name: getattr(one, f.name) for f in fields(one)}),
    ):
        assert other == one
    assert repr(one).startswith(f"{type(one).__name__}({fields(one)[0].name}=")
    assert asdict(one).keys() == {f.name for f in fields(one)}
    with pytest.raises(FrozenInstanceError):
        setattr(one, fields(one)[0].name, 3)


@pytest.mark.parametrize("one", SETS[:2], ids=lambda one: type(one).__name__)
def test_those_that_are_keys_of_caches_hash(one):
    assert hash(replace(one)) == hash(one)


@pytest.mark.parametrize("one", SETS, ids=lambda one: type(one).__name__)
def test_a_name_that_does_not_exist(one):
    kind, first = type(one), fields(one)[0].name
    with pytest.raises((UserError, TypeError), match=rf"^unknown .* '{first}s': did you mean '{first}'\?$"):
        kind(**{f.name: getattr(one, f.name) for f in fields(one)} | {f"{first}s": 1})


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: Spline(True), ValueError, "spline: grid_size must be a whole number of at least 1 and at most 256, got True"),
        (
            lambda: Spline(grid_size=5.0),
            ValueError,
            "spline: grid_size must be a whole number of at least 1 and at most 256, got 5.0",
        ),
        (lambda: Spline(grid_range=(1, 0)), ValueError, "grid_range must be finite with lo < hi, got (1.0, 0.0)"),
        (lambda: Spline(basis="bsplin"), ValueError, "unknown basis 'bsplin': did you mean 'bspline'?"),
        (lambda: Spline(grids=3), TypeError, "unknown option of spline 'grids': did you mean 'grid_size'?"),
        (lambda: Topology(drop_path=1), ValueError, "topology: drop_path must be a probability below 1, got 1"),
        (lambda: TrainConfig("d"), UserError, "option 'out' is missing."),
        (lambda: TrainConfig("d", "o", epochs="3"), UserError, "option epochs must be a whole number of at least 1, got '3'."),
        (
            lambda: TrainConfig("d", "o", size=10**9),
            UserError,
            "size 1000000000 is not usable: give at most 16384 pixels a side.",
        ),
        (lambda: LabelRules(foreground=1), UserError, "option foreground must be true or false, got 1."),
    ],
)
def test_sentences(make, error, sentence):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == sentence
    assert type(caught.value) is error


def test_numbers_of_numpy_are_numbers():
    spline = Spline(np.int64(7), sharing=np.int32(2), grid_range=(np.float32(-1), np.int8(1)))
    assert spline == Spline(7, sharing=2, grid_range=(-1.0, 1.0))
    assert [type(value) for value in (spline.grid_size, spline.sharing, *spline.grid_range)] == [int, int, float, float]


def test_the_docstring_lists_every_option():
    for kind in map(type, SETS):
        lines = kind.__doc__.split("Attributes:")[1]
        assert all(f"    {f.name}: " in lines for f in fields(kind)), kind
