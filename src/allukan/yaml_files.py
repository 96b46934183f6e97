"""YAML as people write it, read and written the same way everywhere."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from allukan.errors import UserError
from allukan.files import read_text, write_text


class _Loader(yaml.SafeLoader):
    """PyYAML's, but a key that stands twice is an error, "on" as a key is a word, and 1e-4 is a number, as in YAML 1.2."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:bool":
                key.tag = "tag:yaml.org,2002:str"
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.YAMLError(f"{key.value!r} in line {key.start_mark.line + 1} is there already")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789"))


def read_value(text: str) -> Any:
    """One YAML value, read as in a file. Raises ``ValueError`` for what is none.

    >>> read_value("1e-4"), read_value("[1, two]")
    (0.0001, [1, 'two'])
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML mapping; ``UserError`` when it is not there or not one, and for a key that stands twice."""
    try:
        raw = read_value(read_text(Path(path)))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path} is not valid YAML: {error}.") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path} must hold 'option: value' lines, got {type(raw).__name__}.")
    return raw


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write a YAML mapping, whole or not at all, its keys in the order given."""
    write_text(path, yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True))
