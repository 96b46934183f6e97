"""One door for everything that people may set: classes of options, checked in one way, and what each of them does in words."""

from allukan.options.labels import LabelRules, parse_ignore
from allukan.options.sets import LARGEST_COUNT, Count, Help, Must, Number, OneOf, Whole, changed, check_names, option_set
from allukan.options.training import (
    AUGMENTATIONS,
    DEFAULT_SIZE,
    DICE_LOSSES,
    DRAWN,
    MACHINE_OPTIONS,
    PROTOCOLS,
    Protocol,
    Seed,
    TrainConfig,
    parse_size,
)
from allukan.options.words import default_of, help_of, kinds_of

__all__ = [
    "AUGMENTATIONS",
    "DEFAULT_SIZE",
    "DICE_LOSSES",
    "DRAWN",
    "LARGEST_COUNT",
    "MACHINE_OPTIONS",
    "PROTOCOLS",
    "Count",
    "Help",
    "LabelRules",
    "Must",
    "Number",
    "OneOf",
    "Protocol",
    "Seed",
    "TrainConfig",
    "Whole",
    "changed",
    "check_names",
    "default_of",
    "help_of",
    "kinds_of",
    "option_set",
    "parse_ignore",
    "parse_size",
]
