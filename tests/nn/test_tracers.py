"""Whoever traces a layer gets what the layer computes, on inputs and sizes other than the example's, or one clear sentence."""

import io
import itertools
import logging

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

import allukan.costs  # noqa: F401  # formulas for the counter
from allukan.errors import UserError
from allukan.nn import (
    KAConv1d,
    KAConv2d,
    KAConv3d,
    KALinear,
    Spline,
    SplineActivation,
    SprecherLinear,
    StackedKANConv2d,
    StackedKANLinear,
)
from allukan.ops.basis import FAMILIES

SHARINGS = ("layer", "input", 2, "output", "edge")
# no two sizes alike, as make_fx takes sizes that are alike for one
LAYERS = {  # with an example and an input of another size
    **{
        f"conv2d {s}": (lambda s=s: KAConv2d(2, 4, 3, padding=1, spline=Spline(sharing=s)), (7, 2, 9, 11), (5, 2, 6, 13))
        for s in SHARINGS
    },
    **{
        f"linear {s}": (lambda s=s: KALinear(4, 6, spline=Spline(sharing=s, input_grad="free")), (7, 4), (5, 4)) for s in SHARINGS
    },
    **{
        f"{basis} {s}": (lambda s=s, basis=basis: KALinear(4, 6, spline=Spline(sharing=s, basis=basis)), (7, 5, 4), (9, 11, 4))
        for s, basis in itertools.product(("layer", 2, "edge"), [name for name in FAMILIES if name != "bspline"])
    },
    "conv1d": (lambda: KAConv1d(4, 6, 4, padding="same", spline=Spline(base="gelu")), (7, 4, 9), (5, 4, 13)),
    "conv3d": (
        lambda: KAConv3d(4, 6, 3, groups=2, stride=2, padding=1, padding_mode="reflect", spline=Spline(sharing=2, base="tanh")),
        (7, 4, 5, 9, 11),
        (5, 4, 6, 5, 8),
    ),
    "activation": (SplineActivation, (7, 4), (5, 2)),
    "sprecher": (lambda: SprecherLinear(4, 5), (7, 4), (9, 4)),
    "stacked linear": (lambda: StackedKANLinear(4, 5), (7, 4), (9, 4)),
    "stacked conv": (lambda: StackedKANConv2d(2, 3, 3, padding=1), (7, 2, 9, 11), (5, 2, 6, 13)),
}


@pytest.fixture(params=LAYERS)
def traced(request):
    """A layer with parameters of no special values, its example and another input."""
    make, shape, other = LAYERS[request.param]
    torch.manual_seed(0)
    layer = make()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer, 2 * torch.randn(shape), 2 * torch.randn(other)


@pytest.mark.parametrize("grad", [False, True])
def test_a_saved_trace_computes_the_same_for_any_size(traced, grad):
    layer, x, other = traced
    file = io.BytesIO()
    with torch.set_grad_enabled(grad):
        torch.jit.save(torch.jit.trace(layer, (x,)), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    assert "allukan" not in str(loaded.inlined_graph).replace("allukan.nn", "").replace("/allukan/", "")
    for given in (x, x.flip(0), other):
        torch.testing.assert_close(loaded(given), layer(given), rtol=1e-5, atol=1e-5)


def test_a_frozen_trace_computes_the_same(traced):
    layer, x, _ = traced
    frozen = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(layer.eval(), (x,))))
    torch.testing.assert_close(frozen(x.flip(0)), layer(x.flip(0)), rtol=1e-5, atol=1e-5)


def pure(layer):
    """(parameters, x) → y."""
    return lambda parameters, x: torch.func.functional_call(layer, parameters, (x,))


@pytest.mark.parametrize("mode", ["real", "fake", pytest.param("symbolic", marks=pytest.mark.slow)])
def test_make_fx_computes_the_same_for_inputs_that_it_has_not_seen(traced, mode):
    layer, x, other = traced
    parameters = dict(layer.named_parameters())
    graph = make_fx(pure(layer), tracing_mode=mode)(parameters, x)
    assert not [n for n in graph.graph.nodes if "allukan" in str(n.target)]
    for given in (-x, x.flip(0), *([other] if mode == "symbolic" else [])):
        torch.testing.assert_close(graph(parameters, given), layer(given), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("impl", ["auto", "eager", "native"])
def test_make_fx_of_a_gradient_computes_the_same(sharing, impl):
    layer = KAConv2d(2, 4, 3, spline=Spline(sharing=sharing, impl=impl))
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters, x):
        return pure(layer)(parameters, x).square().sum()

    def backward(parameters, x):
        leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
        return torch.autograd.grad(loss(leaves, x), list(leaves.values()))

    x, other = torch.randn(2, 2, 5, 4), torch.randn(2, 2, 5, 4)
    for function in (lambda p, x: tuple(torch.func.grad(loss)(p, x).values()), backward):
        found = make_fx(function)(parameters, x)(parameters, other)
        for mine, wanted in zip(found, backward(parameters, other), strict=True):
            torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("sharing", SHARINGS)
def test_aot_and_vmap_under_a_tracer(sharing):
    from functorch.compile import aot_module, nop

    layer = KALinear(4, 6, spline=Spline(sharing=sharing))
    x, other = torch.randn(3, 4), torch.randn(3, 4)
    compiled = aot_module(layer, nop)
    compiled(x)
    torch.testing.assert_close(compiled(other), layer(other), rtol=1e-5, atol=1e-5)
    each = make_fx(torch.func.vmap(layer))(x.unsqueeze(1))
    torch.testing.assert_close(each(other.unsqueeze(1)).squeeze(1), layer(other), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("where", ["fake", "meta"])
def test_without_memory_there_are_shapes_and_gradients(name, where):
    make, shape, _ = LAYERS[name]
    wanted = make()(torch.randn(shape))
    with FakeTensorMode() if where == "fake" else torch.device("meta"):
        layer, x = make(), torch.randn(shape, requires_grad=True)
        y = layer(x)
        y.sum().backward()
    assert (y.shape, y.dtype, y.stride()) == (wanted.shape, wanted.dtype, wanted.stride())
    assert x.grad.shape == x.shape
    assert all(p.grad.shape == p.shape and p.grad.dtype == p.dtype for p in layer.parameters() if p.numel())


def test_what_is_built_without_memory_leaves_the_next_layer_alone():
    spline = Spline(grid_size=13, grid_range=(-1.0, 7.0))  # that nothing else has asked for
    with FakeTensorMode():
        KALinear(3, 4, spline=spline)
    torch.manual_seed(0)
    layer = KALinear(3, 4, spline=spline)
    assert all(p.isfinite().all() and type(p.data) is torch.Tensor for p in layer.parameters())
    assert layer.coef.std() < 1e-5  # a constant spline
    assert layer.coef.abs().min() > 0


def test_a_fake_tensor_outside_of_its_mode_is_fake_all_the_same():
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    x = mode.from_tensor(torch.randn(2, 3))
    assert KALinear(3, 4)(x).shape == (2, 4)


@pytest.mark.parametrize("sharing", SHARINGS)
def test_a_mode_that_counts_operators_changes_no_value(sharing):
    layer, x = KAConv2d(2, 4, 3, spline=Spline(sharing=sharing)), torch.randn(2, 2, 5, 4, requires_grad=True)
    wanted = layer(x)
    gradients = torch.autograd.grad(wanted.sum(), [x, *layer.parameters()])
    with FlopCounterMode(display=False) as counter:
        y = layer(x)
        y.sum().backward()
    found = [x.grad, *(p.grad for p in layer.parameters())]
    assert torch.equal(y, wanted)
    for mine, theirs in zip(found, gradients, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert any("allukan" in str(operator) for operator in counter.get_flop_counts()["Global"])


def test_fx_takes_a_layer_as_one_node():
    model = nn.Sequential(KAConv2d(2, 3, 1), nn.ReLU(), nn.Flatten(2), KALinear(20, 5), SplineActivation(), SprecherLinear(5, 2))
    graph, x = torch.fx.symbolic_trace(model), torch.randn(2, 2, 5, 4)
    assert [n.op for n in graph.graph.nodes].count("call_module") == 6
    assert torch.equal(graph(x), model(x))


@pytest.mark.parametrize("name", ["conv2d layer", "linear edge", "activation", "sprecher", "stacked conv"])
def test_what_reads_the_python_of_a_layer_gets_one_sentence(name, tmp_path):
    make, shape, _ = LAYERS[name]
    refused = [
        (lambda: torch.fx.symbolic_trace(make()), "symbolic_trace takes .* as one node"),
        (lambda: torch.jit.script(make()), "use torch.jit.trace"),
        (lambda: torch.jit.script(nn.Sequential(nn.Linear(2, 2), make())), "use torch.jit.trace"),
    ]
    if not name.startswith("stacked"):
        refused.append(
            (lambda: torch.onnx.export(make(), (torch.randn(shape),), tmp_path / "m.onnx", dynamo=False), "dynamo=True")
        )
    for refuse, word in refused:
        with pytest.raises(UserError, match=word) as caught:
            refuse()
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sharing", ["layer", "edge"])
@pytest.mark.parametrize("impl", ["eager", "reference", "aten"])
def test_the_classic_exporter_is_refused_with_every_engine(impl, sharing, tmp_path):
    layer = KAConv2d(2, 3, 3, spline=Spline(sharing=sharing, impl=impl))
    with pytest.raises(UserError, match="dynamo=True"):
        torch.onnx.export(layer, (torch.randn(1, 2, 8, 8),), tmp_path / "m.onnx", dynamo=False)
    assert not list(tmp_path.iterdir())


def test_a_broken_numba_costs_speed_and_one_line(monkeypatch, caplog):
    from allukan.ops.engines import dispatch

    reason = "the package numba does not work here (ImportError: Numba needs NumPy 2.3 or less)"
    monkeypatch.delitem(dispatch.ENGINES, "native")
    monkeypatch.setitem(dispatch.UNAVAILABLE, "native", reason)
    monkeypatch.setattr(dispatch, "_chosen", dispatch._chosen.__wrapped__)
    dispatch._log_once.cache_clear()
    layer, x = KALinear(3, 4), torch.randn(2, 3)
    with caplog.at_level(logging.WARNING, "allukan"):
        assert dispatch.choose(layer.phi, "cpu", x.dtype) == "eager"
        torch.testing.assert_close(layer(x), KALinear.forward(layer, x))
    assert [r.getMessage() for r in caplog.records] == [
        f"shared_spline runs as impl='eager', impl='native' is faster but cannot run: {reason}"
    ]
    with pytest.raises(ValueError, match="impl='native' cannot run: the package numba does not work here"):
        KALinear(3, 4, spline=Spline(impl="native"))(x)
