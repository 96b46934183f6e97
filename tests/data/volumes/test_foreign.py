"""Files that no one here made: all that pydicom and nibabel bring along, read as these read them or refused in a sentence.

The table of docs/evidence/formats-read.md is made here; ``RENEW_FORMATS=1 python -m pytest tests/data/volumes/test_foreign.py``
writes it.
"""

import os
import warnings
from collections import defaultdict
from contextlib import suppress
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.pixels import apply_color_lut, apply_rescale

from allukan.data.volumes import read_image
from allukan.errors import UserError

PAGE = Path(__file__).parents[3] / "docs" / "evidence" / "formats-read.md"
PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
NIBABEL = Path(nib.__file__).parent
TEXTS = {".txt", ".json", ".dump", ".icc", ".py", ".pyc", ".m", ".rst", ".md"}
BACK = np.eye(4)[[2, 1, 0, 3]]
LPS = np.diag([-1, -1, 1, 1])


def found_in(*folders):
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [path for path in files if path.suffix not in TEXTS and path.name not in ("README", ".gitignore")]


DICOM = found_in(PYDICOM)
OTHERS = found_in(NIBABEL / "tests" / "data", NIBABEL / "nicom" / "tests" / "data")


def short(path):
    return path.relative_to(PYDICOM if path in DICOM else NIBABEL).as_posix()


@cache
def outcome(path):
    """The image, or the sentence without the path."""
    try:
        return read_image(path)
    except UserError as error:
        return str(error).replace(str(path), "…")


@cache
def header(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path, force=True)


@cache
def by_pydicom(path):
    """Values as pydicom gives them, channels last; None where it has no codec."""
    made = header(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = made.pixel_array
    except Exception:  # of many kinds: it cannot
        return None
    if made.PhotometricInterpretation == "PALETTE COLOR":
        return apply_color_lut(values, made)
    return apply_rescale(values, made)


@cache
def by_gdcm(path):
    if path.name == "SC_rgb_jpeg.dcm":
        return None  # which takes GDCM 12 seconds
    try:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))
    except RuntimeError:
        return None


def same(array, other):
    """Whether ``(C, …)`` holds the values of ``(…, C)`` or ``(…)``."""
    flat = np.moveaxis(array, 0, -1)
    return (
        other is not None
        and other.size == flat.size
        and np.allclose(flat.ravel(), other.ravel(), rtol=1e-6, atol=1e-6, equal_nan=True)
    )


@cache
def oracles(path):
    """Which libraries give the values that we give: names."""
    image = outcome(path)
    if image.source.kind == "nifti":
        seen = {"nibabel": np.asanyarray(nib.load(path).dataobj).T, "ITK": None}
        with suppress(RuntimeError):
            seen["ITK"] = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    else:
        seen = {"pydicom": by_pydicom(path), "GDCM": by_gdcm(path)}
    return [name for name, values in seen.items() if same(image.array, values)]


@pytest.mark.parametrize("path", DICOM + OTHERS, ids=short)
def test_it_is_read_as_its_own_library_reads_it_or_refused(path):
    image = outcome(path)
    if isinstance(image, str):
        assert image.startswith("…")
        assert image.endswith(".")
        assert "\n" not in image
        return
    assert oracles(path)
    if image.source.kind == "nifti":
        np.testing.assert_allclose(LPS @ image.geometry.affine @ BACK, nib.load(path).affine, atol=1e-5)
        return
    made = header(path)
    if by_pydicom(path) is not None and made.PhotometricInterpretation != "MONOCHROME1":  # which pydicom leaves as stored
        assert "pydicom" in oracles(path)
    if "ImagePositionPatient" in made:  # the formula of the standard, PS3.3 C.7.6.2.1.1
        along, down = np.reshape(np.array(made.ImageOrientationPatient, float), (2, 3))
        place = np.array(made.ImagePositionPatient, float) + 2 * along * made.PixelSpacing[1] + 3 * down * made.PixelSpacing[0]
        np.testing.assert_allclose((image.geometry.affine @ [0, 3, 2, 1])[:3], place, atol=1e-3)
        assert image.array.shape[1:] == (1, made.Rows, made.Columns)
    elif "PixelSpacing" in made:
        assert image.spacing_mm == tuple(made.PixelSpacing)


def test_what_is_refused_has_no_image_that_pydicom_shows():
    """Refusing all would pass the test above: what is refused although pydicom reads it, is named here."""
    refused = [path for path in DICOM if isinstance(outcome(path), str) and by_pydicom(path) is not None]
    kinds = ("a dose", "a segmentation", "a film?")
    assert all(any(kind in outcome(path) for kind in kinds) for path in refused), refused
    assert sum(not isinstance(outcome(path), str) for path in DICOM) >= 70
    readable = [path for path in OTHERS if path.name.endswith((".nii", ".nii.gz", ".dcm"))]
    assert [p.name for p in readable if isinstance(outcome(p), str) and "volumes" not in outcome(p)] == ["csa_slice_norm.dcm"]


def test_gdcm_alone_would_be_wrong_without_a_word():
    """Why DICOM is not read with SimpleITK; once this fails, look again."""
    assert len(wrong_in_gdcm()) >= 5


def wrong_in_gdcm():
    """Files of plain numbers or RGB of which GDCM gives other values than pydicom."""
    plain = [path for path in DICOM if header(path).get("PhotometricInterpretation") in ("MONOCHROME2", "RGB")]
    both = [
        path for path in plain if header(path).BitsAllocated > 1 and by_pydicom(path) is not None and by_gdcm(path) is not None
    ]
    return [path for path in both if not np.allclose(by_pydicom(path).ravel(), by_gdcm(path).ravel())]


def described(path):
    image = outcome(path)
    if isinstance(image, str):
        return f"refused: {image}", ""
    size = "×".join(map(str, image.geometry.shape)) + (f", {len(image.array)} channels" if len(image.array) > 1 else "")
    spacing = "×".join(f"{value:.4g}" for value in image.spacing_mm) + " mm" if image.geometry.in_mm else "no size"
    return f"read: {image.array.dtype} {size}, {spacing}, {image.geometry.orientation}", ", ".join(oracles(path))


def table(files):
    rows = defaultdict(list)
    for path in files:
        rows[described(path)].append(short(path))
    lines = ["| files | outcome | values equal those of |", "| --- | --- | --- |"]
    for (text, equal), names in rows.items():
        several = f" and {len(names) - 6} more" if len(names) > 7 else ""
        listed = ", ".join(f"`{name}`" for name in (names[:6] if several else names))
        lines.append(f"| {listed}{several} | {text} | {equal} |")
    return "\n".join(lines)


def page():
    counts = {name: [isinstance(outcome(path), str) for path in files] for name, files in (("d", DICOM), ("n", OTHERS))}
    wrong = ", ".join(f"`{short(path)}`" for path in wrong_in_gdcm())
    return f"""# Files that no one here made

Every image file of pydicom {pydicom.__version__} ({len(DICOM)} files, {counts["d"].count(False)} read) and nibabel
{nib.__version__} ({len(OTHERS)} files, {counts["n"].count(False)} read): either read, with the values that one of the
libraries named gives and in the place that the header says, or refused in one sentence. Written and checked by the tests:
`RENEW_FORMATS=1 python -m pytest tests/data/volumes/test_foreign.py`.

Size and spacing are in the order of the array, (D, H, W) or (H, W), and so is the orientation: SPL grows towards head, back and
left.

**Why not GDCM.** SimpleITK {sitk.__version__} reads DICOM with GDCM. Of the files here it gives, without a word, other
values than pydicom for {wrong}.
So headers and pixels are read with pydicom, and JPEG, JPEG-LS and JPEG 2000 are decoded with imagecodecs, as those of TIFF.

## pydicom

{table(DICOM)}

## nibabel

{table(OTHERS)}
"""


def test_the_page_is_current():
    written = page()
    if os.environ.get("RENEW_FORMATS"):
        PAGE.write_text(written, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == written
