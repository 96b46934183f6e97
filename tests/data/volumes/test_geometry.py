from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

from allukan.data.volumes import Axes, Geometry, Image, resample, resize_labels
from allukan.errors import UserError
from tests.data.volumes.conftest import RAS, oblique

TURNS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
BACK = np.eye(4)[[2, 1, 0, 3]]


def geometry(order=(0, 1, 2), signs=(1, 1, 1), shape=(5, 6, 7)):
    return Geometry.from_affine(RAS @ oblique(order=order, signs=signs) @ BACK, shape)


def test_an_index_is_taken_to_its_place_in_lps():
    """The array is (D, H, W): H grows to the back, W to the left, D to the head, and LPS counts just so."""
    plain = Geometry((4, 5, 6), (3.0, 2.0, 1.0), (10.0, 20.0, 30.0), ((0, 0, 1), (0, 1, 0), (1, 0, 0)))
    assert (plain.affine @ [1, 2, 3, 1])[:3].tolist() == [10 + 3, 20 + 4, 30 + 3]
    assert plain.orientation == "SPL"


@pytest.mark.parametrize(("order", "signs"), TURNS)
def test_orientations_are_those_of_nibabel(order, signs):
    found = geometry(order, signs).orientation
    assert found[::-1] == "".join(nib.aff2axcodes(oblique(order=order, signs=signs)))


@pytest.mark.parametrize(("order", "signs"), TURNS)
def test_every_turn_keeps_voxels_in_their_place_and_comes_back_exactly(order, signs):
    start = geometry(order, signs)
    image = Image(np.arange(210).reshape(1, 5, 6, 7), start)
    axes = start.axes_to("SPL")
    turned = image.moved(axes)
    assert turned.geometry.orientation == "SPL"
    for index in [(0, 0, 0), (4, 5, 6), (1, 2, 3)]:
        value = image.array[(0, *index)]
        there = np.argwhere(turned.array[0] == value)[0]
        np.testing.assert_allclose(turned.geometry.affine @ [*there, 1], start.affine @ [*index, 1], atol=1e-9)
    back = turned.moved(axes.inverse)
    assert (back.array == image.array).all()
    assert back.geometry.direction == start.direction
    np.testing.assert_allclose(back.origin, start.origin, atol=1e-9)


def test_the_way_back_is_exact_where_the_nearest_axis_is_a_tie():
    """At 45° a code says nothing: what was done is undone, not what a code means."""
    half = np.sqrt(0.5)
    start = Geometry((2, 3, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), ((0, half, half), (0, half, -half), (1, 0, 0)))
    array = np.arange(24).reshape(1, 2, 3, 4)
    axes = start.axes_to("SPL")
    assert (axes.inverse.apply(axes.apply(array)) == array).all()
    assert start.moved(axes).moved(axes.inverse).direction == start.direction


def test_pictures_are_the_case_of_two_dimensions():
    image = Image(np.arange(12).reshape(1, 3, 4), Geometry.of_pixels((3, 4)))
    assert image.geometry.orientation == "PL"
    assert not image.geometry.in_mm
    assert image.reoriented("LP").array.shape == (1, 4, 3)
    assert image.reoriented().array is not None
    assert (image.reoriented().array == image.array).all()


@pytest.mark.parametrize("code", ["XYZ", "SPP", "SP", "spl", "SPLL"])
def test_what_is_no_orientation_is_refused(code):
    with pytest.raises(UserError, match="is no orientation of 3 axes"):
        geometry().axes_to(code)


@pytest.mark.parametrize(
    "matrix",
    [np.diag([1, 1, 0, 1]), np.full((4, 4), np.nan), [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]],
    ids=["zero", "nan", "flat"],
)
def test_a_matrix_that_spans_no_space_is_refused(matrix):
    with pytest.raises(UserError, match=r"x\.nii has no usable geometry"):
        Geometry.from_affine(matrix, (2, 2, 2), "x.nii")


def test_an_array_must_have_the_shape_of_its_geometry():
    with pytest.raises(UserError, match="is none of channels and"):
        Image(np.zeros((5, 6, 7)), geometry())


def test_shear_and_the_volume_of_a_voxel():
    tilted = Geometry.from_affine([[0, 0, 2, 0], [1, 2, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]], (2, 2, 2))
    assert not tilted.is_orthogonal
    assert tilted.voxel_mm3 == pytest.approx(12)
    assert geometry().is_orthogonal
    assert geometry().voxel_mm3 == pytest.approx(0.7 * 0.8 * 3)


def test_another_grid_covers_the_same_box():
    start = geometry()
    finer = start.resized((10, 6, 14))
    faces = [[-0.5, -0.5, -0.5, 1], [4.5, 5.5, 6.5, 1]]
    others = [[-0.5, -0.5, -0.5, 1], [9.5, 5.5, 13.5, 1]]
    np.testing.assert_allclose(np.array(others) @ finer.affine.T, np.array(faces) @ start.affine.T, atol=1e-9)
    assert start.shape_at(finer.spacing_mm) == (10, 6, 14)


def test_a_linear_field_stays_itself_when_resampled():
    def heights(grid):
        index = np.moveaxis(np.indices(grid.shape), 0, -1)
        return index @ grid.affine[2, :3] + grid.affine[2, 3]

    start = geometry(shape=(8, 8, 8))
    finer = resample(Image(heights(start)[None], start), [s / 2 for s in start.spacing_mm])
    assert finer.array.shape == (1, 16, 16, 16)
    inner = (slice(1, -1),) * 3
    np.testing.assert_allclose(finer.array[0][inner], heights(finer.geometry)[inner], atol=1e-4)


def test_labels_go_to_finer_voxels_and_back_unchanged():
    labels = np.random.default_rng(0).integers(0, 9, (5, 6, 7))
    finer = resize_labels(labels, (15, 18, 21))
    assert (finer[::3, ::3, ::3] == labels).all()
    assert (resize_labels(finer, labels.shape) == labels).all()
    assert resize_labels(labels[None], (1, 1, 1)).ravel().tolist() == [labels[2, 3, 3]]


def test_differences_are_told_and_rounding_is_none():
    start = geometry()
    assert start.differs(start) == ""
    assert start.differs(Geometry.from_affine(start.affine.astype(np.float32), start.shape)) == ""
    assert "5×6×8 voxels instead of 5×6×7" in start.differs(geometry(shape=(5, 6, 8)))
    assert "mm elsewhere" in start.differs(start.moved(Axes((0, 1, 2), (True, False, False))))
    wider = Geometry(start.shape, (3.0, 0.8, 0.75), start.origin, start.direction)
    assert "spacing 3×0.8×0.75 mm instead of 3×0.8×0.7" in start.differs(wider)
    assert start.differs(Geometry.of_pixels(start.shape)) == ""  # which says no place
