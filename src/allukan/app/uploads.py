"""What a visitor sends, checked before anything is read, and laid out as the images that a model takes."""

from __future__ import annotations

import gzip
import mmap
import re
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from zipfile import BadZipFile, ZipFile, ZipInfo

from numpy.typing import NDArray

from allukan.data import read_volume
from allukan.data.volumes import Image
from allukan.data.volumes.kinds import kind_of
from allukan.errors import UserError
from allukan.inference import InputImage, find_images
from allukan.inference.inputs import stack_files
from allukan.models import ModelCard

MEGABYTE = 2**20
UNPACKED = 4  # times what may be sent is what it may unpack to
ENTRIES = 5000  # of an archive: a CT has up to 2000 slices
_CHUNK = 16 * MEGABYTE
_ENCRYPTED = 1  # the bit of an entry's flags
# Where NRRD and MetaImage name the files of their voxels, anywhere: ITK passes over what it does not know, in other letters too
_VOXELS = re.compile(rb"data ?file\s*[:=]\s*([^\r\n]*)", re.IGNORECASE)


def received(files: Sequence[Path], folder: Path, limit: int) -> Path:
    """Uploaded ``files`` of together at most ``limit`` bytes as one input of ``find_images``: a file, or a folder in ``folder``.

    A zip is unpacked. Raises ``UserError`` for nothing, too much, a zip beside other files, a JSON list, which names files of
    this machine, and an archive that is none, that unpacks to more than ``UNPACKED`` × ``limit`` or names files outside of it.
    """
    if not files:
        raise UserError("no file was given: choose an image, a volume or a zip of DICOM slices.")
    _check_size(sum(path.stat().st_size for path in files), limit)
    archives = [path for path in files if path.suffix.lower() == ".zip"]
    if archives and len(files) > 1:
        raise UserError(f"{archives[0].name} came with other files: send a zip alone.")
    for path in files:
        if path.suffix.lower() == ".gz":
            _check_gzip(path, limit)
    if archives:
        return _unzipped(archives[0], folder, limit)
    if len(files) == 1 and files[0].suffix.lower() == ".json":
        raise UserError(f"{files[0].name} is a list of files and no image: send the image itself.")
    return files[0] if len(files) == 1 else _together(files, folder)


def only_image(given: Path, card: ModelCard) -> InputImage:
    """The one image in what was received; ``UserError`` for several, for one that lacks a file, and one of files not sent."""
    found = find_images([given], card)
    if len(found) > 1:
        raise UserError(f"{len(found)} images were given: send one at a time, or apply allukan predict to all of them.")
    if found[0].fault:
        raise UserError(found[0].fault)
    for path in found[0].files if card.spatial_dims == 3 else ():
        if kind_of(path) in ("nrrd", "meta"):
            _check_voxels(path)
    return found[0]


def read_whole(image: InputImage, card: ModelCard) -> NDArray | Image:
    """The picture ``(H, W, C)`` or volume that the files of an image are together; ``UserError`` where they cannot be read."""
    if card.spatial_dims == 2:
        return stack_files(image.files, card)
    return read_volume(image.files, [file.channels for file in card.image_files])


def _check_size(size: int, limit: int, what: str = "the upload") -> None:
    if size > limit:
        raise UserError(f"{what} has more than {limit / MEGABYTE:.4g} MB, the most that is taken: send less.")


def _together(files: Sequence[Path], folder: Path) -> Path:
    """Copies in one folder; a browser knows no other folders than that."""
    folder.mkdir(parents=True)
    for path in files:
        if (folder / path.name).exists():
            raise UserError(f"two files are called {path.name}: rename one.")
        shutil.copyfile(path, folder / path.name)
    return folder


def _check_voxels(path: Path) -> None:
    """Voxels that are not in the file are in one beside it, by its name: a header could name any file of this machine."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        names = {found[1].strip().decode("latin-1") for found in _VOXELS.finditer(content)}
    for name in names:
        several = name.upper().startswith("LIST") or "%" in name  # names that follow, or are made of a pattern
        if several or PureWindowsPath(name).name != name:
            raise UserError(f"{path.name} names voxels in other files than itself and one beside it: save it as one file.")


def _check_gzip(path: Path, limit: int) -> None:
    """Unpack it once without keeping anything: what it says about its size is of the last 4 GB alone."""
    size = 0
    try:
        with gzip.open(path) as packed:
            while part := packed.read(_CHUNK):
                size += len(part)
                _check_size(size, UNPACKED * limit, f"{path.name}, unpacked,")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"{path.name} is damaged or no gzip archive: send it again.") from None


def _unzipped(path: Path, folder: Path, limit: int) -> Path:
    """In a folder of its name, after which results are called."""
    target = folder / (path.stem.strip(". ") or "images")
    try:
        with ZipFile(path) as archive:
            _check_entries(path, archive.infolist(), limit)
            archive.extractall(target)  # no entry gives more bytes than it declares
    except (BadZipFile, EOFError, zlib.error, OSError, RuntimeError, ValueError) as error:  # as damaged ones raise
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path.name} is damaged or no zip archive: pack it again.") from None
    return target


def _check_entries(path: Path, entries: Sequence[ZipInfo], limit: int) -> None:
    if len(entries) > ENTRIES:
        raise UserError(f"{path.name} holds {len(entries)} files and at most {ENTRIES} are taken: send one series.")
    _check_size(sum(entry.file_size for entry in entries), UNPACKED * limit, f"{path.name}, unpacked,")
    for entry in entries:
        name = entry.filename
        if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or ".." in PureWindowsPath(name).parts:
            raise UserError(f"{path.name} names a file outside of itself, {name!r}: pack a folder.")
        if entry.flag_bits & _ENCRYPTED:
            raise UserError(f"{path.name} is encrypted: pack it without a password.")
