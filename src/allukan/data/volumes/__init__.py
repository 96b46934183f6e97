"""Images with their geometry: one value for pictures and volumes, and the files of clinics and laboratories."""

from allukan.data.decode import VOLUME_SUFFIXES
from allukan.data.volumes.geometry import CANONICAL, Axes, Geometry
from allukan.data.volumes.image import Image, Source
from allukan.data.volumes.kinds import is_volume
from allukan.data.volumes.reading import read_image, read_labels
from allukan.data.volumes.resampling import resample, resize_labels
from allukan.data.volumes.segmentation import check_segmentation, write_segmentation
from allukan.data.volumes.writing import label_suffix, write_labels

__all__ = [
    "CANONICAL",
    "VOLUME_SUFFIXES",
    "Axes",
    "Geometry",
    "Image",
    "Source",
    "check_segmentation",
    "is_volume",
    "label_suffix",
    "read_image",
    "read_labels",
    "resample",
    "resize_labels",
    "write_labels",
    "write_segmentation",
]
