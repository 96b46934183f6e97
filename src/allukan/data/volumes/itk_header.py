"""What ITK does not say of an NRRD or MetaImage: whether its packed voxels are whole, and whether it states a size at all."""

from __future__ import annotations

import zlib
from pathlib import Path

_LONGEST = 1 << 20
_CHUNK = 1 << 14  # bytes, which become 16 MB at most
_EITHER = 47  # for zlib: gzip or zlib, whichever it is
_UNITS = ("space units", "units", "distanceunits")
_NO_OTHER = {"mm", "millimeters", "millimeter", "?", "???", "none", "s", "sec", "seconds", "ms"}
_SIZES = ("spacings", "space directions", "elementspacing", "elementsize", "transformmatrix")


class Header:
    """The lines of a header, by their names in lower case, and where in the file they end."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.fields, self.end = path, dict[str, str](), 0
        with path.open("rb") as file:
            while (line := file.readline(_LONGEST)) and file.tell() < _LONGEST:
                name, _, value = line.decode("latin-1").partition(":" if kind == "nrrd" else "=")
                self.fields.setdefault(name.strip().lower(), value.strip())
                self.end = file.tell()
                if (kind == "nrrd" and not line.strip()) or name.strip().lower() == "elementdatafile":
                    return

    @property
    def in_mm(self) -> bool:
        """Whether it states a size; without one ITK makes voxels of 1 mm."""
        return any(name in self.fields for name in _SIZES)

    @property
    def units(self) -> set[str]:
        """Units of the axes other than mm, of which ITK takes no notice; a time beside them does not count."""
        named = " ".join(self.fields.get(name, "") for name in _UNITS)
        return set(named.replace('"', " ").split()) - _NO_OTHER

    @property
    def is_packed(self) -> bool:
        """With zlib, in either format."""
        return self.fields.get("encoding", "") in ("gz", "gzip") or self.fields.get("compresseddata", "").lower() == "true"

    @property
    def is_raw(self) -> bool:
        """Neither packed in some way nor written as text."""
        text = self.fields.get("binarydata", "").lower() == "false"
        return not self.is_packed and not text and self.fields.get("encoding", "raw") == "raw"

    def check_packed(self) -> None:
        """Raises ``zlib.error`` or ``ValueError`` where packed voxels do not fit their checksum, which ITK does not look at."""
        names = (self.fields.get(name, "") for name in ("elementdatafile", "data file", "datafile"))
        name = next((name for name in names if name not in ("", "LOCAL")), self.path.name)
        data = self.path.parent / name
        if self.is_packed and data.is_file() and not {"line skip", "byte skip"} & self.fields.keys():
            _check_stream(data, self.end if data == self.path else 0)


def _check_stream(path: Path, start: int) -> None:
    stream = zlib.decompressobj(_EITHER)
    with path.open("rb") as file:
        file.seek(start)
        while not stream.eof:
            if not (chunk := file.read(_CHUNK)):
                raise ValueError("its packed voxels are cut short")
            stream.decompress(chunk)
