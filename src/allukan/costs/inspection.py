"""Layer by layer: what a network computes, holds and keeps for the backward pass. It runs on shapes alone, whatever the size."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from allukan.costs.accounting import saved_bytes_by
from allukan.costs.flops import NOTHING, Cost, as_spline, ka_cost, norm_cost, shared_cost, side_cost, sprecher_cost
from allukan.costs.operators import operator_cost
from allukan.nn import KAFork, KALayer, SplineActivation, SprecherLinear, StackedKANConv, StackedKANLinear
from allukan.ops.engines import chunks

IN_BETWEEN = "in between"
STACKED = (StackedKANConv, StackedKANLinear)  # KA layers in name: they are counted operator by operator


@dataclass(frozen=True)
class Layer:
    """One layer, or one stage of several.

    Attributes:
        name: as in ``named_modules``; "in between" is what the network's own ``forward`` does: pooling, resizing, skips.
        stage: the child of the network that it belongs to, and within a list of modules the member.
        kind: "KAConv2d 3×3", "BatchNorm2d" …; for a stage the number of its layers of either kind.
        sharing: of the activations of a KA layer: "layer", a number, "output" or "edge"; empty for others.
        activations: how many activations it has.
        output: shape.
        parameters: trainable values; one that several layers share counts in the first.
        cost: FLOPs of one forward and one backward pass.
        saved_bytes: kept for the backward pass; a storage that several layers keep counts in the first.
    """

    name: str
    stage: str
    kind: str = ""
    sharing: str = ""
    activations: int = 0
    output: tuple[int, ...] = ()
    parameters: int = 0
    cost: Cost = NOTHING
    saved_bytes: int = 0


@dataclass(frozen=True)
class Inspection:
    """The layers of a network, in the order in which they run, and the output shapes of all modules, for one input shape."""

    model: str
    input: tuple[int, ...]
    layers: tuple[Layer, ...]
    outputs: Mapping[str, tuple[int, ...]]

    def stages(self) -> list[Layer]:
        """The layers summed up by stage."""
        found: dict[str, list[Layer]] = {}
        for layer in self.layers:
            found.setdefault(layer.stage, []).append(layer)
        return [_sum(name, layers, self.outputs) for name, layers in found.items()]

    def total(self) -> Layer:
        """All layers summed up."""
        return replace(_sum(IN_BETWEEN, self.layers, self.outputs), name="total", stage="total")

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        rows = {"stages": self.stages(), "layers": self.layers}
        lists = {name: [asdict(row) for row in found] for name, found in rows.items()}
        return {"model": self.model, "input": list(self.input), "total": asdict(self.total()), **lists}


def _sum(name: str, layers: Sequence[Layer], outputs: Mapping[str, tuple[int, ...]]) -> Layer:
    ka = [layer for layer in layers if layer.sharing]
    return Layer(
        name,
        name,
        kind=layers[0].kind if len(layers) == 1 else f"{len(ka)} of {len(layers)} KA" if ka else f"{len(layers)} layers",
        sharing=", ".join(dict.fromkeys(layer.sharing for layer in ka)),
        activations=sum(layer.activations for layer in ka),
        output=outputs.get(name, ()),
        parameters=sum(layer.parameters for layer in layers),
        cost=sum((layer.cost for layer in layers), NOTHING),
        saved_bytes=sum(layer.saved_bytes for layer in layers),
    )


def inspect_model(model: nn.Module, shape: Sequence[int]) -> Inspection:
    """Every layer's parameters, FLOPs and saved bytes for an input of ``shape`` ``(B, C, *S)``, in training mode and float32.

    The model itself is neither run nor changed: a copy without memory is, so that 512² or 256³ cost nothing. FLOPs follow
    the conventions of ``costs/flops.py`` (KA layers) and ``costs/operators.py`` (everything else). Saved bytes are exact
    but where a device hands on another memory layout and so saves a copy (known: 3D U-KAN, 0.7 %).

    Raises:
        ValueError or RuntimeError: whatever the model itself raises for a shape that it refuses.

    >>> from allukan.nn import KALinear
    >>> found = inspect_model(nn.Sequential(KALinear(4, 3), nn.LayerNorm(3)), (2, 4))
    >>> [(layer.name, layer.kind, layer.parameters, layer.cost.forward.linear) for layer in found.layers]
    [('0', 'KALinear', 24, 48), ('1', 'LayerNorm', 6, 0)]
    """
    shadow = _without_memory(model)
    with FakeTensorMode(allow_non_fake_inputs=True), _one_block():
        shadow.to_empty(device="cpu")
        recorder = _Recorder(shadow)
        x = torch.empty(tuple(shape), dtype=torch.float64)
        with saved_bytes_by(recorder.current, shadow.parameters(), _bytes_in_float32) as saved, recorder.hooks(), recorder:
            shadow(x)
    return Inspection(type(model).__name__, tuple(shape), tuple(_layers(model, recorder, saved)), recorder.outputs)


def _without_memory(model: nn.Module) -> nn.Module:
    """A copy in training mode whose tensors have shapes and nothing else.

    Such tensors need splines in plain torch, not loops over memory: those are asked for, and float64, which has no other.
    """
    shadow = copy.deepcopy(model).to("meta", torch.float64).train()
    for module in shadow.modules():
        if isinstance(module, KALayer | SplineActivation | SprecherLinear):
            module.spline = replace(module.spline, impl="eager")
    return shadow


def _bytes_in_float32(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes() // (2 if tensor.is_floating_point() else 1)


@contextmanager
def _one_block() -> Iterator[None]:
    """Splines handle a feature map in chunks that fit the cache; where nothing is computed, one chunk takes as long as any."""
    before, chunks.CHUNK = chunks.CHUNK, 1 << 62
    try:
        yield
    finally:
        chunks.CHUNK = before


class _Recorder(TorchDispatchMode):
    """Sees every operator and knows in which module; KA layers are counted whole, by their formula."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.names = {module: name or IN_BETWEEN for name, module in model.named_modules()}
        self.inner = {norm for module in self.names if (norm := _norm_within(module)) is not None}
        self.costs: dict[str, Cost] = {}
        self.outputs: dict[str, tuple[int, ...]] = {}
        self.stack: list[nn.Module] = []

    def current(self) -> str:
        """Name of the innermost module."""
        return self.names[self.stack[-1]]

    def hooks(self) -> ExitStack:
        """Follow the modules of the model, until closed; a norm with a hook would no longer be part of its unit's operation."""
        stack = ExitStack()
        for module in self.names.keys() - self.inner:
            stack.callback(module.register_forward_pre_hook(self._enter).remove)
            stack.callback(module.register_forward_hook(self._leave).remove)
        return stack

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.stack.append(module)
        self.costs.setdefault(self.current(), NOTHING)

    def _leave(self, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        first = out[0] if isinstance(module, KAFork) else out
        self._add(module, first, _whole_cost(module, args[0], first) if _counted_whole(module) else NOTHING)
        if (norm := _norm_within(module)) is not None:
            self._add(norm, args[0], norm_cost(args[0], first))
        if isinstance(module, KAFork):
            self._add(module.side, out[1], side_cost(module, out[1]))
        self.stack.pop()

    def _add(self, module: nn.Module, out: Any, cost: Cost) -> None:
        name = self.names[module]
        self.costs[name] = self.costs.get(name, NOTHING) + cost
        self.outputs[name] = tuple(out.shape) if isinstance(out, Tensor) else ()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not _counted_whole(self.stack[-1]):
            cost = operator_cost(func, args, kwargs or {}, out)
            self.costs[self.current()] += as_spline(cost) if isinstance(self.stack[-1], STACKED) else cost
        return out


def _counted_whole(module: nn.Module) -> bool:
    """Whether a formula says what the module costs; the operators that it calls are then not looked at."""
    return isinstance(module, KALayer | SplineActivation | SprecherLinear) and not isinstance(module, STACKED)


def _norm_within(module: nn.Module) -> nn.Module | None:
    """The norm of a unit, which is not called: the layer normalises itself."""
    return module.norm if isinstance(module, KALayer) and _counted_whole(module) else None


def _whole_cost(module: nn.Module, x: Tensor, out: Tensor) -> Cost:
    if isinstance(module, KALayer):
        return ka_cost(module, x, out)
    if isinstance(module, SprecherLinear):
        return sprecher_cost(module, x)
    assert isinstance(module, SplineActivation)
    s = module.spline
    return shared_cost(x.numel(), 1, s.grid_size, s.spline_order, s.basis, s.base, exact=s.input_grad == "exact")


def _layers(model: nn.Module, recorder: _Recorder, saved: dict[str, int]) -> list[Layer]:
    """Every module that computes, holds or keeps something: in the order of the run, those that never ran at the end."""
    modules = {name or IN_BETWEEN: module for name, module in model.named_modules()}
    parameters = _own_parameters(modules)
    layers = []
    for name in sorted(modules, key=[*list(recorder.costs)[1:], IN_BETWEEN, *modules].index):
        cost, kept = recorder.costs.get(name, NOTHING), saved.get(name, 0)
        if parameters[name] or kept or cost != NOTHING:
            module, shape = modules[name], recorder.outputs.get(name, ())
            layers.append(Layer(name, _stage(model, name), *_describe(module), shape, parameters[name], cost, kept))
    return layers


def _own_parameters(modules: dict[str, nn.Module]) -> dict[str, int]:
    seen: set[nn.Parameter] = set()
    counts = {}
    for name, module in modules.items():
        own = {p for p in module.parameters(recurse=False) if p.requires_grad} - seen
        counts[name] = sum(p.numel() for p in own)
        seen |= own
    return counts


def _stage(model: nn.Module, name: str) -> str:
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if rest and isinstance(getattr(model, first), nn.ModuleList | nn.ModuleDict) else first


def _describe(module: nn.Module) -> tuple[str, str, int]:
    """Kind with the kernel, sharing and number of activations."""
    kind = type(module).__name__
    kernel = getattr(module, "kernel_size", ())
    if isinstance(kernel, tuple) and kernel:
        stride = getattr(module, "stride", 1)
        kind += " " + "×".join(map(str, kernel))
        kind += " depthwise" if 1 < getattr(module, "groups", 1) == getattr(module, "in_channels", 0) else ""
        if isinstance(stride, tuple) and max(stride) > 1:
            kind += f" stride {'×'.join(map(str, stride if len(set(stride)) > 1 else stride[:1]))}"
    if isinstance(module, KALayer | SplineActivation):
        return kind, str(module.spline.sharing), len(module.coef)
    if isinstance(module, SprecherLinear):
        return kind, "layer", 1
    return kind, "", 0
