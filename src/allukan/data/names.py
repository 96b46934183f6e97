"""Names of files: which of them are no data at all, which would be data in another format, which cause trouble elsewhere."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from itertools import chain
from pathlib import Path

from allukan.data.dataset import Dataset
from allukan.data.decode import IMAGE_SUFFIXES, PICTURE_SUFFIXES, VOLUME_SUFFIXES, damage_told
from allukan.errors import UserError
from allukan.files import as_path, name_text, nfc

_SYSTEM = frozenset(  # of macOS, Windows and network drives; hidden ones need no list
    {"__macosx", "icon\r", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"}
    | {"lost+found", "@eadir", "#recycle", "@recycle", "@tmp", "#snapshot", "__pycache__"}
)
_BESIDE = frozenset(  # what people keep beside images and nobody takes for one
    {".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".ini", ".log", ".html", ".pdf", ".xlsx"}
)
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "originals", "original")  # the first is the name of our own layout
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "segmentations", "segmentation"),
    *("ground truth", "ground_truth", "ground-truth", "groundtruth", "gt"),
    *(MANUAL_FOLDERS := ("manual1", "1st_manual")),  # as vessels come, where ``mask`` is the field of view
)
_VOXELS = (".raw", ".zraw", ".raw.gz")
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_FOREIGN = re.compile(r'[<>:"|?*\\\x00-\x1f]|[. ]$')  # which Windows has in no name


def is_data(path: Path) -> bool:
    """False for hidden and system files and folders, by their own name; the folders above do not matter."""
    return not path.name.startswith(".") and path.name.lower() not in _SYSTEM


def visible(folder: Path) -> list[Path]:
    """What is in a folder, sorted, without what ``is_data`` leaves out."""
    return sorted(path for path in folder.iterdir() if is_data(path))


def may_look(folder: Path) -> list[Path]:
    """As ``visible``; nothing where it may not be looked at: what is not this dataset is no reason to stop."""
    try:
        return visible(folder)
    except OSError:
        return []


def is_image(path: Path) -> bool:
    """A picture by its suffix; a link that leads nowhere counts, so that it is missed and not overlooked."""
    return path.suffix.lower() in IMAGE_SUFFIXES and (path.is_file() or not path.exists())


def is_slice(path: Path) -> bool:
    """A file of DICOM by its suffix, which may be a picture, one slice, or a volume of many frames."""
    return suffix(path) == ".dcm" and not path.is_dir()


def is_picture(path: Path) -> bool:
    """What a model of pictures may be given: as ``is_image``, or a file of DICOM."""
    return is_image(path) or is_slice(path)


def has_frames(path: Path) -> bool:
    """Whether a file of DICOM says that it holds several; False for what cannot be read, which is told when it is."""
    from allukan.data.volumes.dicom_picture import frames  # which imports this module

    try:
        with damage_told(path):
            return frames(path) > 1
    except UserError:
        return False


def is_volume(path: Path) -> bool:
    """A file by its suffix, as ``is_image``; a folder if it holds slices of DICOM."""
    if path.is_dir():
        from allukan.data.volumes.kinds import is_volume as holds_slices  # which goes by content, and imports this module

        return holds_slices(path)
    return suffix(path) in VOLUME_SUFFIXES


def search(folder: Path) -> Iterator[Path]:
    """Every file below a folder, sorted, hidden and system ones left out; links to folders are followed, each folder once."""
    seen: set[str] = set()
    for where, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(where)) in seen:
            folders.clear()
            continue
        seen.add(real)
        kept = [(Path(where, name).is_symlink(), name) for name in folders if is_data(Path(name))]
        folders[:] = [name for _, name in sorted(kept)]  # a folder before the links to it
        yield from (Path(where, name) for name in sorted(files) if is_data(Path(name)))


def case_id(path: Path) -> str:
    """The name without its suffix, in NFC; bytes that are no text are spelled out, as in ``\\xe4``.

    >>> case_id(Path("a/scan.v2.png")), case_id(Path("e\\u0301.png")) == "\\u00e9"
    ('scan.v2', True)
    """
    stem = bare(path).name
    return name_text(stem) or os.fsencode(stem).decode("utf-8", "backslashreplace")


def suffix(path: Path) -> str:
    """In lower case, with what it packs: ``.nii.gz``."""
    found = [part.lower() for part in path.suffixes[-2:]]
    return "".join(found if found[-1:] in ([".gz"], [".bz2"], [".xz"]) else found[-1:])


def bare(path: Path) -> Path:
    """Without its suffix; a folder has none.

    >>> bare(Path("a/scan.v2.nii.gz")).as_posix()
    'a/scan.v2'
    """
    return path if path.is_dir() else path.with_name(path.name[: len(path.name) - len(suffix(path))])


def unread(paths: Iterable[Path], known: frozenset[str] = IMAGE_SUFFIXES) -> list[str]:
    """A sentence for each kind of file that might be an image and is not among the ``known``, which are read."""
    paths = list(paths)
    headers = {bare(path) for path in paths if suffix(path) in (".mhd", ".nhdr")}  # whose voxels are in another file
    read = {path for path in paths if suffix(path) in _VOXELS and bare(path) in headers}
    others = [path for path in paths if suffix(path) not in known | _BESIDE and path not in read and not path.is_dir()]
    kinds = {path: kind if re.search("[a-z]", kind := suffix(path)) else "" for path in others}  # IM.001 has no suffix
    return [
        f"{_sentence(kind, count, next(path for path in others if kinds[path] == kind))} to {_target(known)}."
        for kind, count in sorted(Counter(kinds.values()).items())
    ]


def _target(known: frozenset[str]) -> str:
    return "NIfTI" if known == VOLUME_SUFFIXES else "PNG or TIFF"


def _sentence(kind: str, count: int, example: Path) -> str:
    one = count == 1
    how = f"{'ends' if one else 'end'} in {kind}, which" if kind else f"{'has' if one else 'have'} no suffix and"
    subject = f"{count} file{'' if one else 's'} in {example.parent}, as {example.name},"
    return f"{subject} {how} {'is' if one or kind else 'are'} not read: convert {'it' if one else 'them'}"


def on_disk(path: Path) -> Path:
    """``path``, or what is there by the same name in another Unicode form or with the slashes of Windows."""
    path = Path(as_path(str(path)))
    if path.exists():
        return path
    if "\\" in str(path) and (slashed := on_disk(Path(str(path).replace("\\", "/")))).exists():
        return slashed
    parent = path.parent if path.parent.exists() or path.parent == path else on_disk(path.parent)
    wanted = name_text(path.name)
    found = [entry for entry in parent.iterdir() if name_text(entry.name) == wanted] if wanted and parent.is_dir() else []
    return found[0] if len(found) == 1 else path


def notes(dataset: Dataset) -> list[tuple[str, str]]:
    """What is left out of a dataset, and names that other systems cannot keep apart or write: (where, sentence)."""
    files = [path for case in dataset.cases for path in (*case.images, *chain(*case.masks))]
    folders = sorted({path.parent for path in files}) if dataset.layout != "decathlon" else []
    known = VOLUME_SUFFIXES if dataset.spatial_dims == 3 else PICTURE_SUFFIXES
    found = [
        (str(folder), sentence) for folder in folders for sentence in (*unread(visible(folder), known), *_nested(folder, folders))
    ]
    if lossy := [path for case in dataset.cases for path in chain(*case.masks) if suffix(path) in (".jpg", ".jpeg")]:
        found.append((str(lossy[0].parent), f"{len(lossy)} masks, as {lossy[0]}, are JPEGs: from 128 upwards is foreground."))
    for what, names in (("images", dataset.ids), ("classes", dataset.classes if dataset.layout == "folders" else ())):
        found += [(first, f"{what} {first!r} and {second!r} {_SAME}") for first, second in alike(names)]
        odd = [name for name in names if any(_DEVICE.fullmatch(part) or _FOREIGN.search(part) for part in name.split("/"))]
        if odd:
            sentence = f"{len(odd)} of the names of {what}, as {odd[0]!r}, cannot be written on Windows: rename them."
            found.append((odd[0], sentence))
    return found


def _nested(folder: Path, searched: Container[Path]) -> list[str]:
    inner = [path for path in visible(folder) if path.is_dir() and path not in searched]
    deeper = [path for path in inner if any(map(is_image, search(path)))]
    return [f"{path} is a folder within the folder of the images, and not searched: move its images up." for path in deeper]


_SAME = "differ only in upper and lower case, which are one file on Windows and macOS: rename one."


def alike(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ only in upper and lower case.

    >>> alike(["a", "B", "A", "b"])
    [('a', 'A'), ('B', 'b')]
    """
    first: dict[str, str] = {}
    return [(first[key], name) for name in names if first.setdefault(key := nfc(name).casefold(), name) != name]


def not_read(path: Path, known: frozenset[str] = IMAGE_SUFFIXES) -> str:
    """The sentence for one file whose suffix says that it is not among the ``known``, which are read; empty where it is."""
    if suffix(path) in known:
        return ""
    what = f"ends in {suffix(path)}, which is" if path.suffix else "has no suffix and is"
    return f"{path} {what} not read: convert it to {_target(known)}."


def odd_name(path: Path) -> str:
    """The sentence for a name that cannot be an id: no text, or with a line break in it; empty for all others."""
    if name_text(path.name) is None:
        return f"the name of {path} is no UTF-8 text: rename the file."
    if any(unicodedata.category(character) == "Cc" for character in path.name):
        return f"the name {path.name!r} in {path.parent} holds a line break or another control character: rename the file."
    return ""
