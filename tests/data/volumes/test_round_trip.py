"""Read an image, write a label map on it: it lies voxel for voxel where the image lies, as nibabel and SimpleITK see it."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from allukan.data.volumes import read_image, read_labels, resample, resize_labels, write_labels
from allukan.data.volumes.writing import label_suffix
from tests.data.volumes.conftest import RAS, numbers, oblique

TURNS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
BACK = np.eye(4)[[2, 1, 0, 3]]


def labels_of(image, high=3):
    return np.random.default_rng(2).integers(0, high, image.geometry.shape, endpoint=True)


def itk_matrix(image):
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return matrix


@pytest.mark.parametrize(("order", "signs"), TURNS)
def test_nifti_in_every_orientation(nifti, tmp_path, order, signs):
    stored = numbers("int16")
    path = nifti(stored, oblique(order=order, signs=signs))
    image, oracle = read_image(path), nib.load(path)
    assert image.array.dtype == np.int16
    assert (image.array[0] == np.asanyarray(oracle.dataobj).T).all()
    np.testing.assert_allclose(RAS @ image.geometry.affine @ BACK, oracle.affine, atol=1e-5)
    labels = labels_of(image)
    write_labels(tmp_path / "out.nii.gz", labels, image)
    written = nib.load(tmp_path / "out.nii.gz")
    assert (np.asanyarray(written.dataobj) == labels.T).all()
    assert written.get_data_dtype() == np.uint8
    for name in ("get_sform", "get_qform"):
        assert (getattr(written, name)() == getattr(oracle, name)()).all()  # bit for bit
    seen = sitk.ReadImage(str(tmp_path / "out.nii.gz"))
    assert (sitk.GetArrayFromImage(seen) == labels).all()
    np.testing.assert_allclose(itk_matrix(seen), image.geometry.affine @ BACK, atol=1e-4)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize(("order", "signs"), TURNS)
def test_nrrd_and_metaimage_in_every_orientation(tmp_path, suffix, order, signs):
    made = sitk.GetImageFromArray(numbers("int16"))
    matrix = RAS @ oblique(order=order, signs=signs)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    made.SetSpacing(spacing.tolist())
    made.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    made.SetOrigin(matrix[:3, 3].tolist())
    path = tmp_path / f"x{suffix}"
    sitk.WriteImage(made, str(path))
    image = read_image(path)
    assert (image.array[0] == sitk.GetArrayFromImage(made)).all()
    np.testing.assert_allclose(image.geometry.affine @ BACK, matrix, atol=1e-9)
    labels = labels_of(image)
    write_labels(tmp_path / f"out{suffix}", labels, image)
    seen = sitk.ReadImage(str(tmp_path / f"out{suffix}"))
    assert (sitk.GetArrayFromImage(seen) == labels).all()
    assert seen.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_allclose(itk_matrix(seen), itk_matrix(sitk.ReadImage(str(path))), atol=1e-12)


@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32", "uint16", "int32", "float64", ">i2", ">f4"])
def test_values_keep_their_precision_in_any_byte_order(nifti, dtype):
    array = numbers(np.dtype(dtype).newbyteorder("=").name)
    header = nib.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    header.set_data_dtype(np.dtype(dtype))
    path = nifti(array, kind=lambda data, affine: nib.Nifti1Image(data, affine, header))
    image = read_image(path)
    assert image.array.dtype == np.dtype(dtype).newbyteorder("=")
    assert (image.array[0] == array.T).all()
    out = path.with_name("out.nii.gz")
    write_labels(out, labels_of(image, 300), image)
    assert (read_labels(out, image).array[0] == labels_of(image, 300)).all()
    assert nib.load(out).get_data_dtype() == np.dtype(np.uint16).newbyteorder(dtype[0] if dtype[0] == ">" else "=")
    assert (nib.load(out).affine == nib.load(path).affine).all()


def test_a_sheared_nifti_works_though_itk_refuses_it(nifti, tmp_path):
    sheared = oblique()
    sheared[:3, 2] += 0.5 * sheared[:3, 0]
    path = nifti(numbers("int16"), sheared)
    with pytest.raises(RuntimeError):
        sitk.ReadImage(str(path))
    image = read_image(path)
    assert not image.geometry.is_orthogonal
    write_labels(tmp_path / "out.nii.gz", labels_of(image), image)
    assert (nib.load(tmp_path / "out.nii.gz").affine == nib.load(path).affine).all()


def test_nifti_2_and_scaled_values(nifti):
    array = numbers("int16")
    path = nifti(array, name="two.nii", kind=nib.Nifti2Image)
    assert (read_image(path).array[0] == array.T).all()
    write_labels(path.with_name("out.nii"), labels_of(read_image(path)), read_image(path))
    assert isinstance(nib.load(path.with_name("out.nii")), nib.Nifti2Image)
    scaled = nifti(array, name="scaled.nii")
    content = bytearray(scaled.read_bytes())
    content[112:120] = np.array([0.5, -3], "<f4").tobytes()  # scl_slope, scl_inter
    scaled.write_bytes(content)
    found = read_image(scaled).array
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0].T, nib.load(scaled).get_fdata(), rtol=1e-6)
    np.testing.assert_allclose(found[0], sitk.GetArrayFromImage(sitk.ReadImage(str(scaled))), rtol=1e-6)
    write_labels(scaled.with_name("out.nii"), labels_of(read_image(scaled)), read_image(scaled))
    assert (labels_of(read_image(scaled)) == nib.load(scaled.with_name("out.nii")).get_fdata().T).all()


def test_negative_spacing_in_a_header(nifti):
    """nibabel takes the size and leaves the sign; the label map goes to the same voxels."""
    path = nifti(numbers("int16"), name="x.nii", sform_code=0, qform_code=1)
    content = bytearray(path.read_bytes())
    content[252:256] = np.array([1, 0], "<i2").tobytes()  # qform_code, sform_code
    content[80:84] = np.array(-0.7, "<f4").tobytes()  # pixdim[1]
    path.write_bytes(content)
    image = read_image(path)
    np.testing.assert_allclose(RAS @ image.geometry.affine @ BACK, nib.load(path).affine, atol=1e-5)
    write_labels(path.with_name("out.nii"), labels_of(image), image)
    assert (np.asanyarray(nib.load(path.with_name("out.nii")).dataobj) == labels_of(image).T).all()
    np.testing.assert_allclose(nib.load(path.with_name("out.nii")).affine, nib.load(path).affine, atol=1e-6)


def test_negative_spacing_in_a_metaimage_is_a_flip(tmp_path):
    array = numbers("int16")
    head = "ObjectType = Image\nNDims = 3\nDimSize = 5 6 7\nElementSpacing = -2 1 3\nElementType = MET_SHORT\n"
    (tmp_path / "x.mha").write_bytes(f"{head}ElementDataFile = LOCAL\n".encode() + array.astype("<i2").tobytes())
    image = read_image(tmp_path / "x.mha")
    assert image.spacing_mm == (3, 1, 2)
    assert image.geometry.orientation == "SPR"
    write_labels(tmp_path / "out.mha", labels_of(image), image)
    assert read_labels(tmp_path / "out.mha", image).geometry == image.geometry


@pytest.mark.parametrize(
    ("name", "suffix"), [("x.nii", ".nii"), ("x.nii.gz", ".nii.gz"), ("x.nrrd", ".nrrd"), ("x.nhdr", ".nrrd"), ("x.mhd", ".mha")]
)
def test_the_kind_of_a_file_is_kept(tmp_path, name, suffix):
    sitk.WriteImage(sitk.GetImageFromArray(numbers("int16")), str(tmp_path / name))
    image = read_image(tmp_path / name)
    assert (image.array[0] == numbers("int16")).all()
    assert label_suffix(image) == suffix


@pytest.mark.parametrize(("order", "signs"), TURNS[::7])
def test_the_way_of_a_prediction(nifti, order, signs):
    """To the axes and the spacing of a model and back: every label is where it was."""
    image = read_image(nifti(numbers("int16"), oblique(order=order, signs=signs)))
    axes = image.geometry.axes_to("SPL")
    seen = resample(image.moved(axes), [spacing / 2 for spacing in image.moved(axes).spacing_mm])
    assert seen.geometry.orientation == "SPL"
    assert seen.array.shape[1:] == tuple(2 * size for size in image.moved(axes).geometry.shape)
    labels = labels_of(image)
    predicted = resize_labels(axes.apply(labels), seen.geometry.shape)
    back = axes.inverse.apply(resize_labels(predicted, image.moved(axes).geometry.shape))
    assert (back == labels).all()


def test_a_label_map_of_a_turned_or_resampled_image_lies_where_that_lies(nifti, tmp_path):
    """The header of the file is about its own voxels."""
    path = nifti(numbers("int16"), oblique(order=(1, 2, 0), signs=(1, -1, 1)))
    for image in (read_image(path).reoriented(), resample(read_image(path), (1, 1, 1))):
        write_labels(tmp_path / "out.nii.gz", labels_of(image), image)
        written = nib.load(tmp_path / "out.nii.gz")
        assert (np.asanyarray(written.dataobj) == labels_of(image).T).all()
        np.testing.assert_allclose(written.affine, RAS @ image.geometry.affine @ BACK, atol=1e-5)
        assert label_suffix(image) == ".nii.gz"
    assert read_image(tmp_path / "out.nii.gz").reoriented("SPL").source.paths == (tmp_path / "out.nii.gz",)


def test_an_image_that_lies_as_wanted_keeps_its_header(nifti):
    image = read_image(nifti(numbers("int16"), np.diag([-1.0, -1, 1, 1])))
    assert image.reoriented().source.header is image.source.header


def test_the_size_of_a_voxel_may_be_in_the_directions_of_a_metaimage(tmp_path):
    """ITK keeps such columns as they are; places in the world are the same, and lengths must be, too."""
    head = "ObjectType = Image\nNDims = 3\nDimSize = 5 6 7\nElementSpacing = 1 1 3\nTransformMatrix = 0 2 0 1.5 0 0 0 0 1\n"
    data = b"ElementType = MET_SHORT\nElementDataFile = LOCAL\n" + numbers("int16").astype("<i2").tobytes()
    (tmp_path / "x.mha").write_bytes(head.encode() + data)
    image = read_image(tmp_path / "x.mha")
    assert image.spacing_mm == (3, 1.5, 2)
    assert np.abs(image.direction).max() == 1
    np.testing.assert_allclose(image.geometry.affine @ BACK, itk_matrix(sitk.ReadImage(str(tmp_path / "x.mha"))))


def test_a_series_gives_a_nifti_where_it_lies(series, tmp_path):
    image = read_image(series.save())
    write_labels(tmp_path / f"out{label_suffix(image)}", labels_of(image), image)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series.folder)))
    oracle, seen = reader.Execute(), sitk.ReadImage(str(tmp_path / "out.nii.gz"))
    np.testing.assert_allclose(itk_matrix(seen), itk_matrix(oracle), atol=1e-5)
    assert (sitk.GetArrayFromImage(seen) == labels_of(image)).all()
    assert (image.array[0] == sitk.GetArrayFromImage(oracle)).all()
    np.testing.assert_allclose(nib.load(tmp_path / "out.nii.gz").affine, RAS @ itk_matrix(oracle), atol=1e-5)
