"""The option ``convert`` of networks that are not ours: turned into Kolmogorov–Arnold layers before they are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from allukan.errors import UserError, full_stop, shown
from allukan.models.allukan import ka_layers
from allukan.models.factory import is_ours
from allukan.nn import Spline, convert

CONVERT = "convert"
_EXAMPLE_3D = 64  # voxels a side, which every network takes that halves its input five times


def asks_for_conversion(model: str, options: Mapping[str, Any]) -> bool:
    """Whether ``options`` of the model hold ``convert: true``.

    Raises ``UserError`` for another value than true or false, and for a model of ours.
    """
    wanted = options.get(CONVERT, False)
    if not isinstance(wanted, bool):
        raise UserError(f"option {CONVERT} must be true or false, got {shown(wanted)}.")
    if CONVERT in options and is_ours(model):
        raise UserError(
            f"{model!r} is one of our networks, Kolmogorov–Arnold already or the twin of one that is: leave {CONVERT} out."
        )
    return wanted


def without_conversion(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the network itself is built with; ``spline`` is that of the conversion where there is one.

    >>> without_conversion({"convert": True, "spline": {"grid_size": 8}, "norm": "batch"})
    {'norm': 'batch'}
    >>> without_conversion({"convert": False, "spline": {}})
    {'spline': {}}
    """
    ours = (CONVERT, "spline") if options.get(CONVERT) else (CONVERT,)
    return {name: value for name, value in options.items() if name not in ours}


def converted(network: nn.Module, model: str, options: Mapping[str, Any], shape: Sequence[int]) -> nn.Module:
    """The network as KA layers, the same function with the same weights; ``shape`` ``(C, *S)`` is that of its images.

    The example on which ``convert`` sees who reads what is drawn from a fixed seed, so that the same network becomes the same
    again. Raises ``UserError`` for one that has KA layers already and for one that cannot be converted.
    """
    if ka_layers(network):
        raise UserError(f"{model!r} has Kolmogorov–Arnold layers already: leave {CONVERT} out.")
    sides = shape[1:] if len(shape) == 3 else [_EXAMPLE_3D] * (len(shape) - 1)
    example = torch.randn(1, shape[0], *sides, generator=torch.Generator().manual_seed(0))
    try:
        return convert(network, example, Spline().updated(options.get("spline")))[0]
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{model!r} cannot be converted: {full_stop(' '.join(str(error).split()))}") from error
