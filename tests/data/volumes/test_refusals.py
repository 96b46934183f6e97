"""One sentence for each file that is not read, before memory is taken; never a traceback, never a guess."""

import gzip
import logging
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from allukan.data.volumes import Geometry, Image, is_volume, label_suffix, read_image, read_labels, write_labels
from allukan.errors import UserError
from tests.data.volumes.conftest import numbers, oblique


def refused(path, sentence, read=read_image, **how):
    with pytest.raises(UserError, match=sentence) as caught:
        read(path, **how)
    said = str(caught.value)
    assert "\n" not in said
    assert path.name in said


def test_a_time_series_unless_channels_are_said(nifti):
    path = nifti(numbers("int16", (5, 6, 7, 3)))
    refused(path, r"holds 3 volumes \(dimensions 5×6×7×3\), which may be a time series")
    refused(path, "holds 3 channels and 4 are expected", channels=4)
    array = read_image(path, channels=3).array
    assert (array == numbers("int16", (5, 6, 7, 3)).T).all()


def test_a_time_series_in_nrrd_and_metaimage(tmp_path):
    parts = [sitk.GetImageFromArray(numbers("int16", seed=i)) for i in range(3)]
    for name in ("x.nrrd", "x.mha"):
        sitk.WriteImage(sitk.JoinSeries(parts), str(tmp_path / name))
        refused(tmp_path / name, "holds 3 volumes .*, which may be a time series")
        stacked = np.stack([numbers("int16", seed=i) for i in range(3)])
        assert (read_image(tmp_path / name, channels=3).array == stacked).all()


def test_colours_are_channels_in_metaimage_and_a_list_is_none(tmp_path):
    array = numbers("uint8", (7, 6, 5, 3))
    for name in ("x.mha", "x.nrrd"):
        sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(tmp_path / name))
    assert (read_image(tmp_path / "x.mha").array == np.moveaxis(array, -1, 0)).all()
    sitk.WriteImage(sitk.GetImageFromArray(numbers("uint8", (7, 6, 5, 2)), isVector=True), str(tmp_path / "two.mha"))
    refused(tmp_path / "two.mha", "holds 2 volumes")
    text = (tmp_path / "x.nrrd").read_bytes()
    kinds = next(line for line in text.split(b"\n") if line.startswith(b"kinds:"))
    (tmp_path / "x.nrrd").write_bytes(text.replace(kinds, b"kinds: list domain domain domain"))
    refused(tmp_path / "x.nrrd", "holds 3 volumes")


def test_rgb_and_complex_nifti(nifti):
    rgb = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    refused(nifti(rgb), r"holds colours \(RGB\), which are not read")
    refused(nifti(np.zeros((4, 5, 6), np.complex64)), "holds numbers of type complex64")


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.999])
def test_truncated_nifti(nifti, keep):
    path = nifti(numbers("float32", (30, 30, 30)))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    refused(path, "cannot be read as an image|is cut short")
    plain = nifti(numbers("float32", (30, 30, 30)), name="y.nii")
    plain.write_bytes(plain.read_bytes()[: int(plain.stat().st_size * keep)])
    refused(plain, "is cut short or its header is wrong: it claims 1×30×30×30 values of 4 bytes")


def test_a_damaged_byte_in_a_packed_nifti(nifti):
    path = nifti(numbers("float32", (30, 30, 30)))
    content = bytearray(gzip.decompress(path.read_bytes()))
    packed = bytearray(gzip.compress(content, 0))
    packed[20_000] ^= 1
    path.write_bytes(packed)
    refused(path, "cannot be read as an image .CRC check failed")


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.nrrd", "x.mha", "x.mhd", "x.nhdr"])
def test_a_header_that_claims_ten_terabytes(nifti, tmp_path, name):
    path, many = tmp_path / name, 17_100
    if "nii" in name:
        header = nib.Nifti1Header()
        header.set_data_dtype(np.int16)
        header.set_data_shape((many, many, many))
        header["magic"], header["vox_offset"], header["sform_code"] = b"n+1", 352, 1
        content = header.binaryblock + bytes(4000)
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    elif name in ("x.mha", "x.mhd"):
        data = "LOCAL" if name == "x.mha" else "x.raw"
        head = (
            f"ObjectType = Image\nNDims = 3\nDimSize = {many} {many} {many}\nElementType = MET_SHORT\nElementDataFile = {data}\n"
        )
        path.write_bytes(head.encode() + bytes(4000))
    else:
        data = "data file: x.raw\n" if name == "x.nhdr" else ""
        head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {many} {many} {many}\nendian: little\nencoding: raw\n{data}\n"
        path.write_bytes(head.encode() + bytes(4000))
    (tmp_path / "x.raw").write_bytes(bytes(100))
    tracemalloc.start()
    refused(path, "is cut short or its header is wrong: it claims 1×17100×17100×17100 values of 2 bytes")
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["x.nrrd", "x.mha", "z.nrrd", "z.mha"])
def test_truncated_nrrd_and_metaimage(tmp_path, name):
    sitk.WriteImage(sitk.GetImageFromArray(numbers("int16", (40, 40, 40))), str(tmp_path / name), name.startswith("z"))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    refused(tmp_path / name, "is cut short or its header is wrong|its packed voxels are cut short")


def test_voxels_as_text(tmp_path):
    """Which need not be as many bytes as the header claims."""
    text = " ".join(map(str, range(8))) + "\n"
    head = "NRRD0004\ntype: double\ndimension: 3\nsizes: 2 2 2\nencoding: ascii\nspacings: 1 1 1\n\n"
    (tmp_path / "x.nrrd").write_text(head + text, encoding="utf-8")
    head = (
        "ObjectType = Image\nNDims = 3\nBinaryData = False\nDimSize = 2 2 2\nElementType = MET_DOUBLE\nElementDataFile = LOCAL\n"
    )
    (tmp_path / "x.mha").write_text(head + text, encoding="utf-8")
    for name in ("x.nrrd", "x.mha"):
        assert read_image(tmp_path / name).array.ravel().tolist() == list(range(8))


@pytest.mark.parametrize("name", ["z.nrrd", "z.mha", "z.nhdr", "z.mhd"])
def test_a_damaged_byte_in_packed_voxels(tmp_path, name):
    """Which ITK may read as other voxels, without an error."""
    sitk.WriteImage(sitk.GetImageFromArray(numbers("int16", (40, 40, 40))), str(tmp_path / name), useCompression=True)
    assert (read_image(tmp_path / name).array[0] == numbers("int16", (40, 40, 40))).all()
    data = max(tmp_path.iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(data.read_bytes())
    content[-5000] ^= 255
    data.write_bytes(content)
    refused(tmp_path / name, r"cannot be read as an image \(Error -3 while decompressing|packed voxels are cut short")
    data.write_bytes(content[:-6])
    refused(tmp_path / name, r"cannot be read as an image \(Error -3 while decompressing|packed voxels are cut short")


def nrrd(tmp_path, more):
    head = f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n{more}\n"
    (tmp_path / "n.nrrd").write_bytes(head.encode() + bytes(8))
    return tmp_path / "n.nrrd"


def test_an_nrrd_without_a_space_or_a_size(tmp_path, caplog):
    assert not read_image(nrrd(tmp_path, "")).geometry.in_mm
    assert read_image(nrrd(tmp_path, "spacings: 1 2 3\n")).spacing_mm == (3, 2, 1)
    assert caplog.text.count("does not say how the patient lies (it has no space)") == 2
    caplog.clear()
    said = "space: right-anterior-superior\nspace directions: (1,0,0) (0,2,0) (0,0,3)\n"
    assert read_image(nrrd(tmp_path, said)).geometry.orientation == "SAR"
    assert not caplog.text
    refused(nrrd(tmp_path, said + 'space units: "um" "um" "um"\n'), "measures in um, and mm are expected")
    refused(nrrd(tmp_path, 'spacings: 10 10 20\nunits: "um" "um" "um"\n'), "measures in um, and mm are expected")
    assert read_image(nrrd(tmp_path, 'spacings: 1 2 3\nunits: "mm" "mm" "mm"\n')).spacing_mm == (3, 2, 1)


@pytest.mark.parametrize(("unit", "ok"), [("um", False), ("cm", False), ("mm", True), ("?", True)])
def test_a_metaimage_in_other_units(tmp_path, unit, ok):
    """ITK takes the numbers and leaves the unit."""
    head = f"ObjectType = Image\nNDims = 3\nDistanceUnits = {unit}\nDimSize = 2 2 2\nElementSpacing = 1 2 3\n"
    (tmp_path / "x.mha").write_bytes(f"{head}ElementType = MET_UCHAR\nElementDataFile = LOCAL\n".encode() + bytes(8))
    if ok:
        assert read_image(tmp_path / "x.mha").spacing_mm == (3, 2, 1)
    else:
        refused(tmp_path / "x.mha", f"measures in {unit}, and mm are expected")


def test_data_files_that_are_missing(tmp_path):
    for name, data in (("x.mhd", "x.raw"), ("y.nhdr", "y.raw")):
        sitk.WriteImage(sitk.GetImageFromArray(numbers("int16")), str(tmp_path / name))
        (tmp_path / data).unlink()
        (tmp_path / "other").write_bytes(bytes(10_000))
        refused(tmp_path / name, "cannot be read as an image")


def test_no_affine_is_read_by_its_spacing_and_said(nifti, caplog):
    path = nifti(numbers("int16"), name="x.nii")
    content = bytearray(path.read_bytes())
    content[252:256] = bytes(4)  # qform_code, sform_code
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING, "allukan"):
        image = read_image(path)
    assert "does not say how the patient lies (sform and qform are 0)" in caplog.text
    assert image.spacing_mm == pytest.approx((3, 0.8, 0.7))
    oracle = nib.load(path)
    np.testing.assert_allclose((image.geometry.affine @ [0, 0, 0, 1])[:2], -oracle.affine[:2, 3], atol=1e-5)
    out = path.with_name("out.nii")
    write_labels(out, (image.array[0] > 0).astype(np.uint8), image)
    assert (int(nib.load(out).header["sform_code"]), int(nib.load(out).header["qform_code"])) == (0, 0)
    assert (np.asanyarray(nib.load(out).dataobj) == (numbers("int16") > 0)).all()
    content[76 + 4 : 76 + 16] = bytes(12)  # pixdim
    path.write_bytes(content)
    refused(path, "has no usable geometry")


def test_matrices_that_are_no_geometry(nifti):
    path = nifti(numbers("int16"), name="x.nii")
    content = bytearray(path.read_bytes())
    content[280:284] = np.array(np.nan, "<f4").tobytes()  # srow_x
    path.write_bytes(content)
    refused(path, "has no usable geometry")


def test_units_other_than_mm_are_turned_into_mm(nifti):
    assert read_image(nifti(numbers("int16"), xyzt_units=3)).spacing_mm == pytest.approx((0.003, 0.0008, 0.0007))
    assert read_image(nifti(numbers("int16"), xyzt_units=1)).spacing_mm == pytest.approx((3000, 800, 700))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [([0, 0.5], "it holds 0.5"), ([0, -1], "it holds -1"), ([0, np.nan], "it holds nan"), ([0, np.inf], "it holds inf")],
)
def test_labels_that_are_none(nifti, values, sentence):
    array = np.resize(np.array(values, np.float32), (4, 5, 6))
    refused(nifti(array), f"must hold whole numbers from 0 upwards: {sentence}", read_labels)


def test_whole_floats_are_labels(nifti):
    found = read_labels(nifti(np.resize(np.array([0, 7], np.float64), (4, 5, 6)))).array
    assert found.dtype == np.uint8
    assert set(found.ravel()) == {0, 7}


def test_labels_lie_on_their_image(nifti):
    image = read_image(nifti(numbers("int16")))
    refused(
        nifti(numbers("uint8", (7, 6, 4)), name="l.nii.gz"), "does not lie on its image .*: 4×6×7 voxels", read_labels, like=image
    )
    refused(nifti(numbers("uint8"), oblique((0.7, 0.8, 3.5)), "l.nii.gz"), "mm elsewhere", read_labels, like=image)
    near = oblique()
    near[:3, 3] += 0.03
    assert read_labels(nifti(numbers("uint8"), near, "l.nii.gz"), like=image).array.dtype == np.uint8
    coloured = numbers("uint8", (7, 6, 5, 3))
    sitk.WriteImage(sitk.GetImageFromArray(coloured, isVector=True), str(image.source.paths[0].with_name("c.mha")))
    refused(image.source.paths[0].with_name("c.mha"), "has 3 channels", read_labels)


def test_kinds_that_are_not_read_are_named(tmp_path):
    for content, sentence in [
        (b"version https://git-lfs.github.com/spec/v1", "holds a pointer of Git LFS"),
        (b"\x89HDF\r\n", "holds MINC or another kind of HDF5 and is not read"),
        (gzip.compress(b"x" * 600), "holds a packed file that is no NIfTI"),
        (gzip.compress(b"\0" * 128 + b"DICM" + b"\0" * 400), "holds a packed DICOM file"),
        (b"\x5c\x01\0\0" + bytes(344), r"ANALYZE 7\.5, in which left and right"),
        (b"", "is of no kind that is read"),
        (b"hello", "is of no kind that is read"),
    ]:
        (tmp_path / "x.bin").write_bytes(content)
        refused(tmp_path / "x.bin", sentence)
        assert not is_volume(tmp_path / "x.bin")
    refused(tmp_path / "none.nii", "does not exist")
    assert not is_volume(tmp_path / "none.nii")


def test_tiff_of_times_and_of_pages_that_do_not_fit(tmp_path):
    tifffile.imwrite(tmp_path / "t.tif", numbers("uint16", (3, 7, 6, 5)), imagej=True, metadata={"axes": "TZYX"})
    refused(tmp_path / "t.tif", "is no single volume .axes TZYX")
    with tifffile.TiffWriter(tmp_path / "u.tif") as file:
        for _ in range(3):
            file.write(numbers("uint8", (20, 30)), metadata=None)
        file.write(numbers("uint8", (20, 31)), metadata=None)
    refused(tmp_path / "u.tif", "is no single volume .2 images")


def test_the_image_itself_is_never_overwritten(nifti, series):
    image = read_image(path := nifti(numbers("int16")))
    before = path.read_bytes()
    link = path.with_name("link.nii.gz")
    link.symlink_to(path)
    for target in (path, link):
        with pytest.raises(UserError, match="is the image itself and not overwritten"):
            write_labels(target, np.zeros(image.geometry.shape, int), image)
    assert path.read_bytes() == before


def test_what_is_not_written(nifti, tmp_path):
    image = read_image(nifti(numbers("int16")))
    labels = np.zeros(image.geometry.shape, int)
    for name in ("x.png", "x.jpg", "x", "x.dcm"):
        with pytest.raises(UserError, match=r"take \.nii\.gz"):
            write_labels(tmp_path / name, labels, image)
    with pytest.raises(UserError, match="do not lie on an image"):
        write_labels(tmp_path / "o.nii.gz", labels[1:], image)
    with pytest.raises(UserError, match="must hold whole numbers"):
        write_labels(tmp_path / "o.nii.gz", labels - 1, image)
    assert not list(tmp_path.glob("o*")) + list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["o.nii.gz", "o.nrrd", "o.mha", "o.tif"])
def test_a_write_that_fails_leaves_what_was_there(nifti, tmp_path, monkeypatch, name):
    image = read_image(nifti(numbers("int16")))
    (tmp_path / name).write_bytes(b"before")

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk is full"):
        write_labels(tmp_path / name, np.zeros(image.geometry.shape, int), image)
    assert (tmp_path / name).read_bytes() == b"before"
    assert not list(tmp_path.glob(".*"))


def test_label_maps_in_the_smallest_type(nifti, tmp_path):
    image = read_image(nifti(numbers("int16")))
    for high, dtype in [(255, np.uint8), (256, np.uint16), (70_000, np.uint32)]:
        labels = np.zeros(image.geometry.shape, np.int64)
        labels[0, 0, 0] = high
        for name in ("o.nii.gz", "o.nrrd", "o.mha", "o.tif", "deep/er/o.nii"):
            write_labels(tmp_path / name, labels, image)
            found = read_labels(tmp_path / name, image).array
            assert found.dtype == dtype
            assert (found[0] == labels).all()


def test_nothing_of_the_patient_is_written_with_a_label_map(nifti, tmp_path):
    path = nifti(numbers("int16"), descrip=b"Mrs Miller", aux_file=b"Mrs Miller", db_name=b"Mrs Miller")
    made = nib.load(path)
    made.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Mrs Miller"))
    nib.save(made, tmp_path / "y.nii")
    image = read_image(tmp_path / "y.nii")
    write_labels(tmp_path / "o.nii", np.zeros(image.geometry.shape, int), image)
    assert b"Miller" not in (tmp_path / "o.nii").read_bytes()


def test_arrays_without_a_file_are_written_as_nifti(tmp_path):
    image = Image(np.zeros((1, 4, 5, 6)), Geometry.of_pixels((4, 5, 6), (3, 2, 1)))
    assert label_suffix(image) == ".nii.gz"
    write_labels(tmp_path / "x.nii.gz", np.zeros((4, 5, 6), int), image)
    assert read_labels(tmp_path / "x.nii.gz", image).spacing_mm == (3, 2, 1)
