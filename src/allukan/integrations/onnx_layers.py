"""KA layers as ONNX wants them: norm, a look-up of a dozen nodes, and the linear map that follows."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from allukan.integrations.tables import Table, tabulate
from allukan.nn import KAConv, KALayer, KALinear
from allukan.nn.fork import KAFork
from allukan.nn.norm import normalised
from allukan.ops.layer import compose

OPSET = 18  # the lowest that torch.onnx.export(dynamo=True) writes, and all that is needed


@torch.library.custom_op("allukan::look_up", mutates_args=())
def look_up(u: Tensor, value: Tensor, slope: Tensor, first: Tensor | None, rows: int) -> Tensor:
    """value[r] + slope[r]·u of every u, r = ⌊u⌋ within the ``rows`` of its table; float32.

    value and slope ``(A·rows,)``; ``first``, where there are several tables, is the first row of each and broadcasts against u.
    """
    row = u.clamp(0, rows - 1).long()
    row = row if first is None else row + first
    return value[row] + slope[row] * u


@look_up.register_fake
def _(u: Tensor, value: Tensor, slope: Tensor, first: Tensor | None, rows: int) -> Tensor:
    return torch.empty_like(u) if first is None else u.new_empty(torch.broadcast_shapes(u.shape, first.shape))


def look_up_nodes(u: Any, value: Any, slope: Any, first: Any, rows: int) -> Any:
    """``look_up`` in ONNX; for onnxruntime ``GatherElements`` in one dimension is 70 times as fast as ``Gather``."""
    from onnxscript import INT32
    from onnxscript import opset18 as op

    row = op.Cast(op.Clip(u, op.Constant(value_float=0.0), op.Constant(value_float=rows - 1.0)), to=INT32.dtype)
    row = row if first is None else op.Add(row, op.Cast(first, to=INT32.dtype))
    flat, shape = op.Reshape(row, op.Constant(value_ints=[-1])), op.Shape(row)
    of_row, along = (op.Reshape(op.GatherElements(table, flat, axis=0), shape) for table in (value, slope))
    return op.Add(of_row, op.Mul(along, u))


TRANSLATIONS: dict[Any, Any] = {torch.ops.allukan.look_up.default: look_up_nodes}


class TabulatedUnit(nn.Module):
    """What a KA layer computes, with a table in the place of its activations; the scale of the table goes into its norm."""

    first: Tensor | None

    def __init__(self, layer: KALayer, table: Table) -> None:
        super().__init__()
        phi, (count, rows) = layer.phi, table.value.shape
        self.layer, self.phi, self.rows = layer, phi, rows
        scaled = _scaled(layer.norm, 1 / table.step, table.zero)
        self.norm: nn.Module | None = layer.norm if scaled is None else scaled
        self.affine = (1 / table.step, float(table.zero)) if scaled is None else None
        self.register_buffer("value", table.value.flatten())
        self.register_buffer("slope", table.slope.flatten())
        first = (torch.arange(count) * rows) if count > 1 else None
        self.register_buffer("first", first if first is None or phi.expanded else first.view(phi.blocks, count // phi.blocks, 1))
        self.weight = nn.Parameter(_weight(layer), requires_grad=False)
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Any:
        """As the layer."""
        if not isinstance(self.layer, KALinear):
            return self._mix(self._activate(self.layer.pad(normalised(self.norm, x))))
        if self.first is None and (self.norm is None or isinstance(self.norm, nn.LayerNorm)):  # on any dimensions
            return self._mix(self._activate(x if self.norm is None else self.norm(x)))
        rows = x.reshape(-1, self.layer.in_features)
        return self._mix(self._activate(normalised(self.norm, rows))).view(*x.shape[:-1], self.layer.out_features)

    def _activate(self, x: Tensor) -> Tensor:
        u = x if self.affine is None else x.float() * self.affine[0] + self.affine[1]
        if self.first is None:
            return self._look_up(u, None).to(x.dtype)
        one = [1] * (x.ndim - 2)
        if self.phi.expanded:
            return self._look_up(u.unsqueeze(2), self.first.view(-1, *one)).flatten(1, 2).to(x.dtype)
        blocks = u.unflatten(1, (self.phi.blocks, 1, u.shape[1] // self.phi.blocks))
        return self._look_up(blocks, self.first.view(*self.first.shape, *one)).flatten(1, 3).to(x.dtype)

    def _look_up(self, u: Tensor, first: Tensor | None) -> Tensor:
        return torch.ops.allukan.look_up(u, self.value, self.slope, first, self.rows)  # type: ignore[no-any-return]

    def _mix(self, h: Tensor) -> Any:
        y = self.layer.linear.forward(h, self.weight, self.bias)
        return (y, self.layer.side(h)) if isinstance(self.layer, KAFork) else y


def _weight(layer: KALayer) -> Tensor:
    """Of the linear map; behind the expanded basis with the coefficients in it."""
    weight = layer.weight.detach()
    if not layer.phi.expanded:
        return weight
    return compose(layer.coef.detach(), layer.base_weight.detach(), weight, layer.phi.edges)


def _scaled(norm: Any, scale: float, shift: float) -> nn.Module | None:
    """A norm whose output is scale·y + shift; None where there is none to do it, or in half precision."""
    if norm is None or norm.weight is None or norm.bias is None or norm.weight.dtype is not torch.float32:
        return None
    norm = copy.deepcopy(norm)
    with torch.no_grad():
        norm.weight.mul_(scale)
        norm.bias.mul_(scale).add_(shift)
    return norm  # type: ignore[no-any-return]


def tabulated(network: nn.Module) -> tuple[nn.Module, int, tuple[str, ...]]:
    """The network with a table in every KA layer that a table can hold, in place; how many those layers are, and which have none.

    >>> from allukan.nn import KAConv2d
    >>> tabulated(nn.Sequential(KAConv2d(3, 8, 3)).requires_grad_(False))[1:]
    (1, ())
    """
    tables, kept = dict[Any, Table | None](), list[str]()
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, KAConv | KALinear)]
    for name, layer in layers:
        key = layer.phi if layer.phi.expanded else layer  # the basis is the same in all such layers
        if key not in tables:
            tables[key] = tabulate(layer.phi, layer.coef, layer.base_weight)
        table = tables[key]
        if table is None:
            kept.append(name)
        elif not name:
            return TabulatedUnit(layer, table), 1, ()
        else:
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, TabulatedUnit(layer, table))
    return network, len(layers), tuple(kept)
