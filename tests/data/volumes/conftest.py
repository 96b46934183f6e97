"""Volumes and DICOM series, made as the tests need them, by other libraries than those under test where there are two."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
OBLIQUE = np.array([[0.96, -0.28, 0], [0.28 * 0.8, 0.96 * 0.8, -0.6], [0.28 * 0.6, 0.96 * 0.6, 0.8]])  # a rotation


def oblique(spacing=(0.7, 0.8, 3.0), origin=(-91.5, 12.25, 40.0), order=(0, 1, 2), signs=(1, 1, 1)):
    """A matrix (i, j, k, 1) → RAS whose axes are permuted and flipped."""
    matrix = np.eye(4)
    matrix[:3, :3] = (OBLIQUE * spacing)[:, list(order)] * signs
    matrix[:3, 3] = origin
    return matrix


def numbers(dtype, shape=(7, 6, 5), seed=0):
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random.normal(0, 100, shape).astype(dtype)
    low, high = (-1024, 3071) if dtype == "int16" else (0, 255)
    return random.integers(low, high, shape, endpoint=True).astype(dtype)


class Series:
    """A CT of ``count`` slices of 5×6 pixels, 0.5×0.75 mm, 3 mm apart: files to change by hand and to save."""

    def __init__(self, folder: Path, count: int = 6, uid: str | None = None):
        self.folder, self.uid = folder, uid or generate_uid()
        self.values = np.random.default_rng(1).integers(-1024, 3072, (count, 5, 6))
        self.slices = [self._slice(i) for i in range(count)]

    def _slice(self, number):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = generate_uid()
        made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        made.SOPClassUID, made.SOPInstanceUID, made.Modality = CTImageStorage, meta.MediaStorageSOPInstanceUID, "CT"
        made.SeriesInstanceUID, made.StudyInstanceUID, made.FrameOfReferenceUID = self.uid, "1.2.3.1", "1.2.3.2"
        made.PatientID, made.PatientName, made.PatientBirthDate, made.PatientSex = "1", "A^B", "", ""
        made.StudyDate = made.StudyTime = made.StudyID = made.AccessionNumber = made.ReferringPhysicianName = ""
        made.SeriesDescription, made.SeriesNumber, made.InstanceNumber = "thorax", 2, number + 1
        made.ImageType, made.PositionReferenceIndicator = ["ORIGINAL", "PRIMARY", "AXIAL"], ""
        made.ImageOrientationPatient, made.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-10, 20, 30 + 3 * number]
        made.PixelSpacing, made.SliceThickness = [0.5, 0.75], 3
        made.Rows, made.Columns, made.SamplesPerPixel, made.PhotometricInterpretation = 5, 6, 1, "MONOCHROME2"
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
        made.RescaleSlope, made.RescaleIntercept = 1, -1024
        made.PixelData = (self.values[number] + 1024).astype("<u2").tobytes()
        return made

    def save(self, names=None):
        self.folder.mkdir(parents=True, exist_ok=True)
        for number, made in enumerate(self.slices):
            made.save_as(self.folder / (names[number] if names else f"IM{number:03d}"), enforce_file_format=True)
        return self.folder


@pytest.fixture
def series(tmp_path):
    return Series(tmp_path / "ct")


@pytest.fixture
def nifti(tmp_path):
    """Writes a NIfTI with nibabel: array (i, j, k), matrix in RAS."""

    def write(array, affine=None, name="x.nii.gz", kind=nib.Nifti1Image, **fields):
        image = kind(array, oblique() if affine is None else affine)
        for field, value in fields.items():
            image.header[field] = value
        nib.save(image, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def pydicom_data():
    return Path(pydicom.__file__).parent / "data" / "test_files"
