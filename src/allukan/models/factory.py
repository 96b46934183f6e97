"""Models by name: one literal dictionary."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from allukan.errors import UserError, shown, suggestion
from allukan.models import borrowed
from allukan.models.allukan import AllUKAN
from allukan.models.foreign import build_foreign, check_name, foreign_options, is_foreign
from allukan.models.ukan import UKAN

MODELS: dict[str, Callable[..., nn.Module]] = {
    "allukan-tiny": partial(AllUKAN, size="tiny", layer="ka", preset="default", activation="base"),
    "allukan-small": partial(AllUKAN, size="small", layer="ka", preset="default", activation="base"),
    "allukan-base": partial(AllUKAN, size="base", layer="ka", preset="default", activation="base"),
    "allukan-paper-tiny": partial(AllUKAN, size="tiny", layer="ka", preset="paper", activation="base"),
    "allukan-paper-small": partial(AllUKAN, size="small", layer="ka", preset="paper", activation="base"),
    "allukan-paper-base": partial(AllUKAN, size="base", layer="ka", preset="paper", activation="base"),
    "convtwin-tiny": partial(AllUKAN, size="tiny", layer="conv", preset="default"),
    "convtwin-small": partial(AllUKAN, size="small", layer="conv", preset="default"),
    "convtwin-base": partial(AllUKAN, size="base", layer="conv", preset="default"),
    "edgekan-tiny": partial(AllUKAN, size="tiny", layer="edge", preset="default", activation="base"),
    "edgekan-small": partial(AllUKAN, size="small", layer="edge", preset="default", activation="base"),
    "edgekan-base": partial(AllUKAN, size="base", layer="edge", preset="default", activation="base"),
    "stackedkan-tiny": partial(AllUKAN, size="tiny", layer="stacked", preset="default", activation="base"),
    "stackedkan-small": partial(AllUKAN, size="small", layer="stacked", preset="default", activation="base"),
    "stackedkan-base": partial(AllUKAN, size="base", layer="stacked", preset="default", activation="base"),
    "ukan": partial(UKAN, layer="kan"),
    "ukan-linear": partial(UKAN, layer="linear", spline=None),
    "ukan-sakan": partial(UKAN, layer="sakan"),
    "ukan-sprecher": partial(UKAN, layer="sprecher"),
    "unet": borrowed.unet,
    "unetpp": borrowed.unetpp,
    "attention-unet": borrowed.attention_unet,
    "plainconv": borrowed.plainconv,
    "resenc": borrowed.resenc,
}
_COMMON = ("in_channels", "out_channels", "spatial_dims")


def build_model(name: str, *, in_channels: int, out_channels: int, spatial_dims: int = 2, **options: Any) -> nn.Module:
    """A new model with logits ``(B, out_channels, *S)``; ``options`` are those of ``model_options``.

    A name with a colon, ``package.module:function``, is imported and called. Raises ``UserError`` for another name that is not
    in ``MODELS``, an option that the model does not have and a missing package.

    >>> type(build_model("convtwin-tiny", in_channels=1, out_channels=2)).__name__
    'AllUKAN'
    """
    shape = {"in_channels": in_channels, "out_channels": out_channels, "spatial_dims": spatial_dims}
    if is_foreign(name):
        return build_foreign(name, **shape, **options)
    known = model_options(name)
    for option in options:
        if option not in known:
            raise UserError(f"the model {name!r} has no option {shown(option)}: {suggestion(option, known)}")
    return MODELS[name](**shape, **options)


def check_model(name: str) -> None:
    """``UserError`` for a name that is neither in ``MODELS`` nor reads ``package.module:function``; nothing is imported."""
    if is_foreign(name):
        check_name(name)
    elif name not in MODELS:
        raise UserError(f"unknown model {shown(name)}: {suggestion(name, MODELS)}")


def is_ours(name: str) -> bool:
    """Whether it is a network of this package, and neither borrowed nor foreign.

    >>> is_ours("convtwin-tiny"), is_ours("unet"), is_ours("package.module:function")
    (True, False, False)
    """
    return not is_foreign(name) and isinstance(MODELS[name], partial)


def model_options(name: str) -> tuple[str, ...]:
    """The further options of a model, of a foreign one as far as its signature names them; ``UserError`` for an unknown name.

    >>> model_options("convtwin-tiny")
    ('spline', 'norm', 'topology', 'order', 'activation')
    """
    check_model(name)
    if is_foreign(name):
        return foreign_options(name)
    make = MODELS[name]
    fixed = (*_COMMON, *make.keywords) if isinstance(make, partial) else _COMMON  # what the name says is no option
    return tuple(option for option in inspect.signature(make).parameters if option not in fixed)


def options_of_version(name: str, options: Mapping[str, Any], version: str) -> dict[str, Any]:
    """What builds a network as that version of allukan did: until 0.1 a norm followed every layer of every network.

    >>> options_of_version("convtwin-tiny", {"norm": "group"}, "0.1.0")
    {'order': 'layer-first', 'norm': 'group'}
    >>> options_of_version("unet", {}, "0.1.0"), options_of_version("convtwin-tiny", {}, "0.2.0")
    ({}, {})
    """
    before = version.split(".")[:2] == ["0", "1"] and not is_foreign(name) and "order" in model_options(name)
    return {**({"order": "layer-first"} if before else {}), **options}
