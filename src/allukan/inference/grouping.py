"""Files that are given one by one, grouped into images as the training did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from allukan.data import bare, channel_names, match_pattern, read_json
from allukan.errors import UserError
from allukan.inference.inputs import NUMBERED, described, file_order, slot
from allukan.inference.predict import InputImage
from allukan.models import ImageFile, ModelCard


@dataclass
class _Group:
    """Files with the name of one image: by their place among those that the model expects, and those beyond."""

    name: Path
    files: dict[int, Path] = field(default_factory=dict)
    beyond: list[Path] = field(default_factory=list)


def group(found: Mapping[Path, Path], card: ModelCard, names: Sequence[str] = ()) -> list[InputImage]:
    """Files and the paths of their results, as in ``find_inputs`` → images.

    An image that lacks a file or has one too many, and a file that is none of those that the model expects, carries that as its
    fault. ``names`` of the channels are those of ``dataset.json`` beside ``imagesTs`` and its like unless given. Raises
    ``UserError`` for two files in one place.
    """
    files, groups, strangers = card.image_files, dict[str, _Group](), list[InputImage]()
    for path, result in found.items():
        at = slot(path.absolute(), files) or _named_otherwise(path.absolute(), files)
        if at is None:
            sentence = f"{path} is none of the files that the model expects: {described(files)}. Rename it, or give a JSON list."
            strangers.append(InputImage(result, (path,), sentence))
            continue
        place, folder, name = at
        member = groups.setdefault(folder + name, _Group(_result(result, name, files)))
        if place in member.files:
            both = f"{path} and {member.files[place]}"
            raise UserError(f"{both} would both be written to {member.name}: predict them into two folders.")
        if place < len(files):
            member.files[place] = path
        else:
            member.beyond.append(path)
    beside = _NamesBeside(names)
    return [_image(member, files, beside) for member in groups.values()] + strangers


def _named_otherwise(path: Path, files: Sequence[ImageFile]) -> tuple[int, str, str] | None:
    """As ``slot``: a number that no file of the model has comes after them all; a single file may have any other name."""
    folder, number = f"{path.parent.as_posix()}/", NUMBERED.fullmatch(bare(path).name)
    if number and all(NUMBERED.fullmatch(file.pattern) for file in files):
        return len(files), folder, number[1]
    return (0, folder, bare(path).name) if len(files) == 1 else None


def _result(result: Path, name: str, files: Sequence[ImageFile]) -> Path:
    """Path of the results of an image, from that of one of its files."""
    for file in files:
        found = match_pattern(result.as_posix(), file.pattern)
        if found and found[1] == name:
            return Path("".join(found))
    return result.with_name(name)


def _image(member: _Group, files: Sequence[ImageFile], names: _NamesBeside) -> InputImage:
    paths = (*(member.files[place] for place in sorted(member.files)), *member.beyond)
    lacking = [file.pattern for place, file in enumerate(files) if place not in member.files]
    if member.beyond or lacking:
        what = f"lacks {', '.join(lacking)}" if lacking else "has a file too many"
        given = ", ".join(map(str, paths))
        return InputImage(member.name, paths, f"image {member.name} ({given}) {what}: the model expects {described(files)}.")
    try:
        order = file_order(paths[0].parent, [file.pattern for file in files], names.of(paths[0].parent), files)
    except UserError as error:
        return InputImage(member.name, paths, str(error))
    return InputImage(member.name, tuple(paths[place] for place in order))


class _NamesBeside:
    """Names of channels as given, else in the ``dataset.json`` beside nnU-Net's ``imagesTs`` and its like, each read once."""

    def __init__(self, given: Sequence[str]) -> None:
        self.given = given
        self.known: dict[Path, tuple[str, ...]] = {}

    def of(self, folder: Path) -> Sequence[str]:
        """Empty for folders of other kinds. Raises ``UserError`` for a description that cannot be read."""
        if self.given:
            return self.given
        if folder not in self.known:
            file = folder.absolute().parent / "dataset.json"
            told = folder.absolute().name.startswith("images") and file.is_file()
            self.known[folder] = channel_names(read_json(file)) if told else ()
        return self.known[folder]
