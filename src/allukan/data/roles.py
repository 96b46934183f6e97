"""What the names of files say of them: which is the mask of which image."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from typing import NamedTuple

_HANDS = r"manual\d|\d(?:st|nd|rd)_?(?:manual|ho)"  # of DRIVE, HRF and CHASE
_WORDS = rf"masks?|seg|segmentations?|labels?|labelmap|gt|ground_?truth|anno|annotations?|{_HANDS}"
_KINDS = ("image", "images", "img", "imaging", "volume", "vol", "scan", "original", "ct", "training", "test")
_IMAGES = tuple(how(word) for word in _KINDS for how in (str.lower, str.capitalize, str.upper))
_MASK = re.compile(_WORDS, re.IGNORECASE)
_LAST = re.compile(rf"(.+?)([_.-])({_WORDS})(?:_(\d+))?", re.IGNORECASE)
_AMONG = re.compile(rf"(?:^|[^a-z])(?:{_WORDS}|ground[ -]truth)(?:[^a-z]|$)")
_FIRST = re.compile(rf"({_WORDS})([_-]|(?=\d))(.+)", re.IGNORECASE)


class Owner(NamedTuple):
    """The image that a mask is named after, the word that says so (``mask`` of ``ID_mask``) and the number of the mask."""

    image: str
    word: str = ""
    number: str = ""


def is_mask_word(name: str) -> bool:
    """Whether a name says nothing but that it is a mask.

    >>> is_mask_word("Segmentation"), is_mask_word("a_mask")
    (True, False)
    """
    return _MASK.fullmatch(name) is not None


def has_mask_word(name: str) -> bool:
    """Whether a word of a name says that it is of masks.

    >>> has_mask_word("ISIC2018_Task1_Training_GroundTruth"), has_mask_word("train_masks"), has_mask_word("unmasked")
    (True, True, False)
    """
    return _AMONG.search(name.casefold()) is not None


def mask_owner(name: str, images: Container[str]) -> Owner:
    """The image that a mask is named after; without words itself.

    >>> tuple(mask_owner("a_mask_1", {"a"})), tuple(mask_owner("a_mask", {"a", "a_mask"})), tuple(mask_owner("b-GT", {"a"}))
    (('a', 'mask', '1'), ('a_mask', '', ''), ('b-GT', '', ''))
    >>> mask_owner("label0001", {"img0001"}).image, mask_owner("segmentation-7", {"volume-7", "scan-7"}).image
    ('img0001', 'volume-7')
    >>> mask_owner("a.seg", {"a"}).image, mask_owner("21_manual1", {"21_training"}).image
    ('a', '21_training')
    """
    if name in images:
        return Owner(name)
    return next((owner for owner in _owners(name) if owner.image in images), Owner(name))


def owned(name: str, names: Container[str]) -> bool:
    """Whether a name is that of a mask of another of these names.

    >>> owned("a_mask_1", {"a", "a_mask_1"}), owned("a_mask", {"a_mask", "b"}), owned("Mask_3", {"Mask_3", "Image_3"})
    (True, False, True)
    """
    return any(owner.image in names for owner in _owners(name))


def _owners(name: str) -> Iterator[Owner]:
    """The names that an image of this mask may have, if it is one."""
    if last := _LAST.fullmatch(name):
        base, between, word, number = last.groups(default="")
        yield Owner(base, word.lower(), number)
        yield from (Owner(base + between + image, word.lower(), number) for image in _IMAGES)
    if first := _FIRST.fullmatch(name):
        word, between, rest = first.groups()
        yield from (Owner(image + between + rest, word.lower()) for image in _IMAGES)
        if between:
            yield Owner(rest, word.lower())
    if is_mask_word(name):
        yield from (Owner(image, name.lower()) for image in _IMAGES)
