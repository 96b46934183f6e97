"""Models by name: one literal dictionary."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from allukan.errors import UserError
from allukan.models.allukan import AllUKAN

MODELS: dict[str, Callable[..., nn.Module]] = {
    "allukan-tiny": partial(AllUKAN, size="tiny", layer="ka"),
    "allukan-small": partial(AllUKAN, size="small", layer="ka"),
    "allukan-base": partial(AllUKAN, size="base", layer="ka"),
    "convtwin-tiny": partial(AllUKAN, size="tiny", layer="conv"),
    "convtwin-small": partial(AllUKAN, size="small", layer="conv"),
    "convtwin-base": partial(AllUKAN, size="base", layer="conv"),
    "edgekan-tiny": partial(AllUKAN, size="tiny", layer="edge"),
    "edgekan-small": partial(AllUKAN, size="small", layer="edge"),
    "edgekan-base": partial(AllUKAN, size="base", layer="edge"),
}


def build_model(name: str, *, in_channels: int, out_channels: int, spatial_dims: int = 2, **options: Any) -> nn.Module:
    """A new model with logits ``(B, out_channels, *S)``; ``options`` go to its class (``spline``, ``norm`` …).

    Raises ``UserError`` for a name that is not in ``MODELS``.

    >>> type(build_model("convtwin-tiny", in_channels=1, out_channels=2)).__name__
    'AllUKAN'
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"unknown model {name!r}: {hint}choose one of {', '.join(MODELS)}.")
    return MODELS[name](in_channels=in_channels, out_channels=out_channels, spatial_dims=spatial_dims, **options)
