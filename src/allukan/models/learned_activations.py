"""Activations that convolutional networks learn, to compare KA layers with: PReLU, Swish and rational ones."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SILU = (  # P and Q - 1 of the nearest rational to SiLU on [-5, 5]; off by at most 6e-5 there, by 0.1 at ±10
    (1.8952173e-05, 0.5, 0.24992431, 0.052651863, 0.0055390176, 0.00024336577),
    (0.0, 0.10530373, 0.0, 0.00048673154),
)


class Learned(nn.Module, ABC):
    """An activation with parameters of its own: one for all of x (``channels=None``), or one a channel.

    ``last`` says that channels are the last dimension, as of tokens ``(B, N, C)``, instead of the second one.
    """

    def __init__(self, channels: int | None = None, last: bool = False) -> None:
        super().__init__()
        self.channels, self.last = channels, last

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)``, with ``last`` ``(B, *S, C)`` → the same shape."""
        return self.curve(x.movedim(-1, 1)).movedim(1, -1) if self.last else self.curve(x)

    @abstractmethod
    def curve(self, x: Tensor) -> Tensor:
        """Of ``(B, C, *S)``."""

    def extra_repr(self) -> str:
        """Whose activation it is."""
        return "one a layer" if self.channels is None else f"one a channel of {self.channels}"


class PReLU(Learned):
    """max(0, x) + a min(0, x), from a = 0.25 (He et al., arXiv 1502.01852).

    >>> PReLU()(torch.tensor([[-2.0, 3.0]])).tolist()
    [[-0.5, 3.0]]
    """

    def __init__(self, channels: int | None = None, last: bool = False) -> None:
        super().__init__(channels, last)
        self.slope = nn.Parameter(torch.full((channels or 1,), 0.25))

    def curve(self, x: Tensor) -> Tensor:
        """Of ``(B, C, *S)``."""
        return F.prelu(x, self.slope.to(x.dtype))


class Swish(Learned):
    """x σ(β x), from β = 1, which is SiLU (Ramachandran et al., arXiv 1710.05941).

    >>> x = torch.randn(2, 3, 4)
    >>> torch.allclose(Swish(3)(x), F.silu(x))
    True
    """

    def __init__(self, channels: int | None = None, last: bool = False) -> None:
        super().__init__(channels, last)
        self.slope = nn.Parameter(torch.ones(channels or 1))

    def curve(self, x: Tensor) -> Tensor:
        """Of ``(B, C, *S)``."""
        return x * torch.sigmoid(x * _beside(self.slope.to(x.dtype), x))


class Rational(Learned):
    """P(x) / (1 + |Q(x)|), P of degree 5, Q of degree 4 without constant, from the least-squares fit to SiLU on [-5, 5].

    The safe Padé activation unit of Molina et al. (arXiv 1907.06732). Computed in float32 at least: x⁵ overflows half precision.

    >>> x = torch.linspace(-5, 5, 101).view(1, 1, -1)
    >>> torch.allclose(Rational()(x), F.silu(x), rtol=0, atol=1e-4)
    True
    """

    def __init__(self, channels: int | None = None, last: bool = False) -> None:
        super().__init__(channels, last)
        above, below = (torch.tensor(side).expand(channels or 1, -1) for side in _SILU)
        self.numerator, self.denominator = nn.Parameter(above.clone()), nn.Parameter(below.clone())

    def curve(self, x: Tensor) -> Tensor:
        """Of ``(B, C, *S)``."""
        t = x.to(torch.promote_types(x.dtype, torch.float32))
        below = 1 + (t * _polynomial(self.denominator, t)).abs()
        return (_polynomial(self.numerator, t) / below).to(x.dtype)


def _polynomial(coefficients: Tensor, t: Tensor) -> Tensor:
    """Σ_j c_j t^j by Horner's rule; c ``(A, degree + 1)``."""
    *lower, value = (_beside(c, t) for c in coefficients.unbind(1))
    for c in reversed(lower):
        value = c + t * value
    return value


def _beside(parameter: Tensor, x: Tensor) -> Tensor:
    """``(A,)`` in the shape in which it meets the channels of ``(B, C, *S)``."""
    return parameter.view(-1, *[1] * (x.ndim - 2))


LEARNED: dict[str, type[Learned]] = {"prelu": PReLU, "swish": Swish, "rational": Rational}
ACTIVATIONS = ("base", *(f"{name}{whose}" for name in LEARNED for whose in ("", "-channel")))


def learned_activation(name: str, channels: int, last: bool) -> Learned:
    """An activation of ``ACTIVATIONS`` but "base"; those named "-channel" are one a channel.

    >>> learned_activation("swish-channel", 8, last=False)
    Swish(one a channel of 8)
    """
    kind, _, whose = name.partition("-")
    return LEARNED[kind](channels if whose else None, last)
