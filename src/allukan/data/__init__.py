"""Datasets: layouts, readers, preparation, splits, checks and synthetic ultrasound."""

from allukan.data.check import Check, Finding, check_dataset
from allukan.data.dataset import Case, Dataset
from allukan.data.groups import load_groups
from allukan.data.images import IMAGE_SUFFIXES, fit_channels, read_image, resize_image, write_image
from allukan.data.layouts import open_dataset
from allukan.data.masks import read_masks
from allukan.data.names import alike, is_image, not_read, search, unread
from allukan.data.near_duplicates import near_duplicates
from allukan.data.phantoms import phantom, write_phantoms
from allukan.data.prepare import Prepared, count_channels, prepare, read_case
from allukan.data.splits import Splits, make_splits

__all__ = [
    "IMAGE_SUFFIXES",
    "Case",
    "Check",
    "Dataset",
    "Finding",
    "Prepared",
    "Splits",
    "alike",
    "check_dataset",
    "count_channels",
    "fit_channels",
    "is_image",
    "load_groups",
    "make_splits",
    "near_duplicates",
    "not_read",
    "open_dataset",
    "phantom",
    "prepare",
    "read_case",
    "read_image",
    "read_masks",
    "resize_image",
    "search",
    "unread",
    "write_image",
    "write_phantoms",
]
