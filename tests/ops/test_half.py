"""A KA layer in half precision is finite where a convolution is, and as exact as the type allows."""

import contextlib
import copy

import pytest
import torch
from torch import nn

from allukan.nn import KAConv2d, KALinear, Spline, SplineActivation, SprecherLinear, StackedKANConv2d, StackedKANLinear

SHARINGS = ("layer", "input", 2, "output", "edge")
ENGINES = ("auto", "eager", "aten", "reference")
LARGEST = torch.finfo(torch.float16).max


def error(found, wanted):
    found, wanted = found.detach().double(), wanted.detach().double()
    return float((found - wanted).norm() / wanted.norm().clamp(min=1e-6))


def both(layer, x, g, way):
    """Output and gradients of x and the parameters: in half precision and in float64."""
    dtype = torch.bfloat16 if way == "bfloat16" else torch.float16
    half = copy.deepcopy(layer) if way.startswith("autocast") else copy.deepcopy(layer).to(dtype)
    wide = copy.deepcopy(half).double()
    results = []
    for model, kind in ((half, torch.float32 if way == "autocast of float32" else dtype), (wide, torch.float64)):
        given = x.to(dtype).to(kind).requires_grad_()
        context = torch.autocast("cpu", dtype) if way.startswith("autocast") and model is half else contextlib.nullcontext()
        with context:
            y = model(given)
        y.backward(g.to(dtype).to(y.dtype))
        results.append([y.detach(), given.grad, *(p.grad for p in model.parameters())])
    return results


@pytest.mark.parametrize("impl", ENGINES)
@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("way", ["float16", "bfloat16", "autocast", "autocast of float32"])
def test_as_exact_as_the_type_from_1_to_30000(impl, sharing, way):
    layer = KAConv2d(4, 6, 3, padding=1, spline=Spline(sharing=sharing, impl="auto" if sharing in ("output", "edge") else impl))
    layer.half().float()  # parameters that float16 holds
    for magnitude in (1.0, 100.0, 3e4):
        x = (2 * torch.rand(2, 4, 6, 6) - 1) * magnitude
        found, wanted = both(layer, x, torch.randn(2, 6, 6, 6), way)
        tolerance = 2e-2 if way == "bfloat16" else 3e-3
        assert wanted[0].abs().max() < LARGEST
        for i, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
            if theirs.abs().max() < LARGEST:
                assert mine.isfinite().all()
                assert i > 2 or error(mine, theirs) < tolerance  # the others are sums in which much cancels


@pytest.mark.parametrize("recompute", [False, True])
def test_finite_wherever_a_convolution_is(recompute):
    layer = KAConv2d(3, 4, 3, padding=1, spline=Spline(recompute=recompute)).half()
    plain = nn.Conv2d(3, 4, 3, padding=1).half()
    x = torch.full((1, 3, 5, 5), 3e4, dtype=torch.float16)
    for size in (3e4, 6e4):
        given = x / 3e4 * size
        assert plain(nn.functional.silu(given)).isfinite().all()
        y, wanted = layer(given), copy.deepcopy(layer).double()(given.double())
        fits = wanted.abs() < LARGEST
        assert y[fits].isfinite().all()
        assert fits.float().mean() > 0.3
        assert error(y[fits], wanted[fits]) < 2e-3


def test_large_weights_need_more_room_and_get_it():
    layer = KALinear(8, 2, bias=False).half()
    with torch.no_grad():
        layer.base_weight.fill_(300.0)
        layer.weight.mul_(1e-3)
    x = torch.full((2, 8), 5e4, dtype=torch.float16)
    assert error(layer(x), copy.deepcopy(layer).double()(x.double())) < 2e-3


@pytest.mark.parametrize("impl", ["auto", "eager"])
def test_gradients_as_large_as_those_of_a_scaled_loss(impl):
    """6e4 arrives; what leaves is a third of it, and what lies between has to fit, too."""
    layer = KAConv2d(8, 2, 1, bias=False, spline=Spline(impl=impl)).half()
    nn.init.constant_(layer.weight, 0.2)
    found, wanted = both(
        layer, torch.randn(1, 8, 2, 2), torch.full((1, 2, 2, 2), 6e4) * torch.tensor([1, 0.5]).view(1, 2, 1, 1), "float16"
    )
    assert wanted[1].abs().max() < LARGEST
    assert error(found[1], wanted[1]) < 2e-3


@pytest.mark.parametrize("sharing", SHARINGS)
def test_float32_is_what_it_was(sharing):
    """No factor, so not a bit of difference, and no operator more."""
    from allukan.ops.layer import _headroom

    layer, x = KAConv2d(4, 6, 3, spline=Spline(sharing=sharing)), torch.randn(2, 4, 5, 5)
    assert _headroom(x, layer.base_weight) is None
    assert _headroom(x.bfloat16(), layer.base_weight) is None
    assert _headroom(x.half(), layer.base_weight) in (4.0, 1.0)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (SplineActivation, ()),
        (SprecherLinear, (4, 4)),
        (StackedKANLinear, (4, 3)),
        (StackedKANConv2d, (4, 3, 3)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_other_layers_too(kind, arguments, dtype):
    half = kind(*arguments).to(dtype)
    for magnitude in (1.0, 100.0, 3e4):
        x = ((2 * torch.rand(2, 4, 4, 4) - 1) * magnitude).to(dtype)
        y, wanted = half(x), copy.deepcopy(half).double()(x.double())
        assert y.dtype is dtype
        fits = wanted.abs() < 0.99 * torch.finfo(dtype).max
        assert fits.float().mean() > 0.5
        assert error(y[fits], wanted[fits]) < (2e-2 if dtype is torch.bfloat16 else 2e-3)


def test_compiled_it_is_finite_too():
    layer = KALinear(4, 3).half()
    x = torch.full((2, 4), 3e4, dtype=torch.float16)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert error(compiled(x), copy.deepcopy(layer).double()(x.double())) < 2e-3


def test_so_it_is_by_the_kernels_for_cuda():
    """Through Triton's interpreter, or on a GPU."""
    engine = pytest.importorskip("allukan.ops.engines.triton_engine", reason="triton is not installed")
    device = "cpu" if engine.INTERPRETED else "cuda"
    layer = KALinear(4, 3, spline=Spline(impl="triton"), dtype=torch.float16).to(device)  # of weights that give no infinity
    x = torch.full((2, 4), 3e4, dtype=torch.float16, device=device)
    wanted = KALinear(4, 3, device=device, dtype=torch.float64)
    wanted.load_state_dict(layer.state_dict())
    assert error(layer(x), wanted(x.double())) < 2e-3
