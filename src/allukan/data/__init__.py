"""Datasets: layouts, readers, preparation, splits, checks and synthetic ultrasound."""

from allukan.data.case_survey import survey
from allukan.data.channels import channel_names, file_channels, file_patterns, match_pattern, names_of_files
from allukan.data.check import Check, Finding, check_dataset
from allukan.data.dataset import FOREGROUND, Case, Dataset, GivenSplit
from allukan.data.decode import IMAGE_SUFFIXES, PICTURE_SUFFIXES, VOLUME_SUFFIXES
from allukan.data.drawing import make_splits
from allukan.data.duplicates import near_duplicates
from allukan.data.folds import make_folds
from allukan.data.groups import load_groups
from allukan.data.images import (
    as_bytes,
    as_trained,
    count_deep,
    deep_note,
    fit_channels,
    read_image,
    read_values,
    resize_image,
    scaled_note,
    write_image,
)
from allukan.data.intensities import Intensity, standardised
from allukan.data.layouts import open_dataset
from allukan.data.masks import IGNORED, read_masks, split_ignored
from allukan.data.names import (
    MASK_FOLDERS,
    alike,
    bare,
    is_image,
    is_picture,
    is_volume,
    not_read,
    on_disk,
    search,
    unread,
)
from allukan.data.pairing import Problem, read_json
from allukan.data.phantoms import phantom, write_phantoms
from allukan.data.planning import SplitPlan, given_parts, plan_splits
from allukan.data.preparation import Prepared, prepare, read_case
from allukan.data.roles import has_mask_word, mask_owner, owned
from allukan.data.splits import Splits
from allukan.data.volume_cases import (
    Volumes,
    as_input,
    check_volume,
    prepare_volumes,
    read_volume,
    read_volume_case,
    resampled,
)
from allukan.options import DRAWN, LabelRules, parse_ignore

__all__ = [
    "DRAWN",
    "FOREGROUND",
    "IGNORED",
    "IMAGE_SUFFIXES",
    "MASK_FOLDERS",
    "PICTURE_SUFFIXES",
    "VOLUME_SUFFIXES",
    "Case",
    "Check",
    "Dataset",
    "Finding",
    "GivenSplit",
    "Intensity",
    "LabelRules",
    "Prepared",
    "Problem",
    "SplitPlan",
    "Splits",
    "Volumes",
    "alike",
    "as_bytes",
    "as_input",
    "as_trained",
    "bare",
    "channel_names",
    "check_dataset",
    "check_volume",
    "count_deep",
    "deep_note",
    "file_channels",
    "file_patterns",
    "fit_channels",
    "given_parts",
    "has_mask_word",
    "is_image",
    "is_picture",
    "is_volume",
    "load_groups",
    "make_folds",
    "make_splits",
    "mask_owner",
    "match_pattern",
    "names_of_files",
    "near_duplicates",
    "not_read",
    "on_disk",
    "open_dataset",
    "owned",
    "parse_ignore",
    "phantom",
    "plan_splits",
    "prepare",
    "prepare_volumes",
    "read_case",
    "read_image",
    "read_json",
    "read_masks",
    "read_values",
    "read_volume",
    "read_volume_case",
    "resampled",
    "resize_image",
    "scaled_note",
    "search",
    "split_ignored",
    "standardised",
    "survey",
    "unread",
    "write_image",
    "write_phantoms",
]
