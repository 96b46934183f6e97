"""Modules that stages of a U-shape are made of, whatever their layers and the order of these."""

from __future__ import annotations

from torch import Tensor, nn


class Residual(nn.Module):
    """shortcut(x) + drop(units(x))."""

    def __init__(self, units: nn.Module, shortcut: nn.Module, drop: nn.Module) -> None:
        super().__init__()
        self.units, self.shortcut, self.drop = units, shortcut, drop

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` → ``(B, C', *S)``."""
        return self.shortcut(x) + self.drop(self.units(x))


class ForkedResidual(nn.Module):
    """s + drop(units(y)) where ``(y, s) = fork(x)``: the first unit and the shortcut of a stage that changes the channels."""

    def __init__(self, fork: nn.Module, units: nn.Module, drop: nn.Module) -> None:
        super().__init__()
        self.fork, self.units, self.drop = fork, units, drop

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` → ``(B, C', *S)``."""
        y, s = self.fork(x)
        return s + self.drop(self.units(y))  # type: ignore[no-any-return]


class Fork(nn.Module):
    """main(h) and side(h) of h = before(x): what ``KAFork`` is to KA layers, for any others."""

    def __init__(self, before: nn.Module, main: nn.Module, side: nn.Module) -> None:
        super().__init__()
        self.before, self.main, self.side = before, main, side

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, *S)`` → ``(B, C', *S)`` and ``(B, C'', *S)``."""
        h = self.before(x)
        return self.main(h), self.side(h)


class TokenBlock(nn.Module):
    """x + drop(chain(norm_in(x))), then norm_out: U-KAN's tokenised block (arXiv 2406.02918, eq. 7).

    The chain is, as often as there are linears, a linear layer on the tokens ``(B, N, C)`` and a mixer of ``(B, C, *S)``.
    """

    def __init__(
        self, linears: list[nn.Module], mixers: list[nn.Module], drop: nn.Module, norm_in: nn.Module, norm_out: nn.Module
    ) -> None:
        super().__init__()
        self.drop, self.norm_in, self.norm_out = drop, norm_in, norm_out
        self.linears, self.mixers = nn.ModuleList(linears), nn.ModuleList(mixers)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, *S)`` → ``(B, C, *S)``."""
        tokens = x.flatten(2).transpose(1, 2)  # (B, N, C)
        y = self.norm_in(tokens)
        for linear, mixer in zip(self.linears, self.mixers, strict=True):
            y = mixer(linear(y).transpose(1, 2).unflatten(2, x.shape[2:])).flatten(2).transpose(1, 2)
        return self.norm_out(tokens + self.drop(y)).transpose(1, 2).unflatten(2, x.shape[2:])
