"""What there is to predict among files, folders and JSON lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from allukan.errors import UserError
from allukan.files import nfc
from allukan.inference.annotated import without_masks
from allukan.inference.datalist import read_datalist
from allukan.inference.grouping import group
from allukan.inference.predict import InputImage, find_inputs
from allukan.models import ModelCard


def find_images(inputs: Sequence[str | Path], card: ModelCard) -> list[InputImage]:
    """The images among files, folders (searched to any depth) and JSON lists, their files grouped as those of the training were.

    What does not fit the model carries that as its fault, see ``group``. Raises ``UserError`` as ``find_inputs`` and
    ``read_datalist`` do, for two images that would have the same result, and for folders of masks beside those of images.
    """
    images, loose = list[InputImage](), dict[Path, Path]()
    for given in map(Path, inputs):
        if given.suffix.lower() == ".json" and given.is_file():
            images += read_datalist(given, card)
        else:  # one at a time: files of one image may have the same name in two folders
            loose |= {path: result for path, result in find_inputs([given], card.spatial_dims == 3).items() if path not in loose}
    images += group(without_masks(loose, card.image_files), card)
    taken: dict[str, InputImage] = {}
    for image in images:
        other = taken.setdefault(nfc(str(image.name)).casefold(), image)
        if other is not image:
            both = f"{image.files[0]} and {other.files[0]}"
            raise UserError(f"{both} would both be written to {image.name}: predict them into two folders.")
    return images
