"""How the labels of a dataset are to be read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Gt

from allukan.options.sets import Help, Must, option_set

Ignore = Annotated[
    Annotated[int, Gt(0)] | Literal["none"] | None,
    Must("the value of the label, from 1 upwards, or none"),
    Help("value of the label that counts in no loss and no score, or none", default="as dataset.json says"),
]
Foreground = Annotated[bool, Help("every label as one class")]


@option_set("option", "option ")
class LabelRules:
    """How the user wants labels to be read. Raises ``UserError`` for an ``ignore`` that is no value from 1 upwards."""

    ignore: Ignore = None
    foreground: Foreground = False

    @property
    def value(self) -> int | None:
        """The value to ignore, if one was given."""
        return self.ignore if isinstance(self.ignore, int) else None


def parse_ignore(value: Any) -> Any:
    """A number in a text as a number, anything else as it is: for the command line.

    >>> parse_ignore("255"), parse_ignore("none")
    (255, 'none')
    """
    return int(value) if isinstance(value, str) and value.isdecimal() else value
