"""Text files, read and written the same way on every machine: UTF-8, whole or not at all, names in one Unicode form."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from allukan.errors import UserError

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_DELIMITERS = (",", ";", "\t")


def nfc(text: str) -> str:
    """Text in Unicode's composed form, in which names are compared: macOS stores é as e and an accent.

    >>> nfc("e\\u0301") == "\\u00e9"
    True
    """
    return unicodedata.normalize("NFC", text)


def as_path(text: str) -> str:
    """Text that a file holds, as the file system of this machine spells it; the same unless the locale is not UTF-8."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape")) if os.name == "posix" and not text.isascii() else text


def name_text(name: str) -> str | None:
    """The name of a file as text (NFC), whatever the locale; None where its bytes are no UTF-8.

    >>> name_text("scan.v2"), name_text("l\\udce4sion")
    ('scan.v2', None)
    """
    try:
        return nfc(os.fsencode(name).decode("utf-8"))
    except UnicodeError:
        return None


def read_text(path: Path) -> str:
    """Text as UTF-8, or by the byte order mark that Excel, PowerShell and Notepad put first; lines end in ``\\n``.

    Raises ``UserError`` for another encoding, and ``OSError`` like any read.
    """
    return "\n".join(_decoded(path).replace("\r\n", "\n").split("\r"))


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start + 1} cannot be read): save it as UTF-8.") from None
    if "\0" in text:
        raise UserError(f"{path} holds zero bytes, so it is no text, or UTF-16 without its mark: save it as UTF-8.")
    return text


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises like ``read_text``, and ``UserError`` for what is not JSON."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON ({error}).") from None


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file by column, with commas, semicolons (Excel in much of Europe) or tabs; text in NFC.

    The delimiter is the one by which all lines have as many fields as the first. Blank lines and columns are left out. Raises
    ``UserError`` for a line that has too many or too few fields and a column that is there twice, and as ``read_text`` does.
    """
    text = nfc(_decoded(path))
    first, _, rest = text.partition("\n")
    if first.strip().lower() in ("sep=,", "sep=;", "sep=\t", "sep="):  # a hint for Excel
        text = rest
    lines = max((_split(text, delimiter) for delimiter in _DELIMITERS), key=_even)
    header = [name.strip() for name in lines[0]] if lines else []
    named = [i for i, name in enumerate(header) if name]
    if len({header[i] for i in named}) < len(named):
        raise UserError(f"{path} has a column twice: {', '.join(header)}.")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(header):
            raise UserError(f"{path} has {len(line)} fields in row {number} and {len(header)} in its first: mend that row.")
    return [{header[i]: line[i] for i in named} for line in lines[1:]]


def _split(text: str, delimiter: str) -> list[list[str]]:
    try:
        spaced = (
            f"{delimiter} " in text.partition("\n")[0]
        )  # behind every delimiter, as some write; else spaces belong to a value
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=spaced))
    except csv.Error:
        return []
    return [line for line in lines if any(cell.strip() for cell in line)]


def _even(lines: Sequence[Sequence[str]]) -> tuple[bool, int]:
    """How well a delimiter fits."""
    width = len(lines[0]) if lines else 0
    return width > 1 and all(len(line) == width for line in lines), width


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write to, which takes its place at the end, or goes when that fails.

    What is no file (a pipe, ``/dev/stdout``) is written to as it is.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    part = path.with_name(f".{zlib.crc32(os.fsencode(path.name)):08x}.{os.getpid()}.part")  # never longer than a long name
    try:
        yield part
        os.replace(part, path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError) and error.filename in (part, str(part)):
            error.filename = str(path)  # the name that the user knows
        raise


def check_replaceable(path: Path, *starts: str) -> None:
    """Raises ``UserError`` where a file is there that starts otherwise than what is to take its place: it is something else."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        start = file.read(max(map(len, starts)))
    if start and not start.startswith(tuple(text.encode() for text in starts)):
        raise UserError(f"{path} exists and is something else: remove it, or give --out another name.")


def readable(text: str) -> str:
    """Text in which what Python could not decode of the name of a file is decoded as UTF-8, or else spelled out.

    >>> readable("l\\udcc3\\udca4sion"), readable("l\\udce4sion")
    ('läsion', 'l\\\\udce4sion')
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8, whole or not at all; lines end in ``\\n`` everywhere. Raises ``OSError`` like any write."""
    with whole(path) as part:
        part.write_bytes(readable(text).encode("utf-8"))


def write_json(path: Path, content: Any, indent: int = 1) -> None:
    """Write JSON in ASCII, whole or not at all."""
    write_text(path, json.dumps(content, indent=indent) + "\n")


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the same keys as CSV with a header, UTF-8 and commas, whole or not at all."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())
