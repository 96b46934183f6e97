"""Every fast implementation against the reference (and scipy): values, every gradient, shapes, types and the torch machinery."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from allukan.costs import saved_bytes
from allukan.ops import bspline, shared_spline
from allukan.ops.activations import BASES, base_function
from allukan.ops.spline_autograd import shared_spline_backward_op, shared_spline_op

GRID = (-3.0, 3.0)
FAST = ("eager", "native")
ALL = ("reference", "aten", *FAST)
# the arithmetic of an implementation, and how far it may be from the reference in float64 (relative RMS): float32 has 6e-8 a
# rounding, and gradients of parameters are sums in which much cancels
DTYPE = {"reference": torch.float64, "aten": torch.float64, "eager": torch.float64, "native": torch.float32}
CLOSE = {"aten": 1e-12, "eager": 1e-12, "native": 2e-5}
LEAKY = "leaky_relu:0.1"
# shape, activations, blocks
CASES = [
    ((), 1, 1),
    ((5,), 1, 1),
    ((2, 3, 7), 1, 1),
    ((2, 6, 5, 3), 4, 2),
    ((3, 4, 5), 4, 4),
    ((1, 2, 3, 4, 5), 3, 1),
    ((2, 3), 6, 3),
]


def inputs(shape, a, order=3, dtype=torch.float64, requires_grad=True):
    x = (2 * torch.randn(shape, dtype=torch.float64)).to(dtype)
    coef, weight = torch.randn(a, 5 + order, dtype=torch.float64).to(dtype), torch.randn(a, dtype=torch.float64).to(dtype)
    return tuple(t.requires_grad_(requires_grad) for t in (x, coef, weight))


def rms(a, b):
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm().clamp(min=1e-12))


def value_and_gradients(tensors, g, **options):
    tensors = [t.detach().clone().requires_grad_() for t in tensors]
    out = shared_spline(*tensors, GRID, **options)
    return [out, *torch.autograd.grad(out, tensors, g.to(out.dtype))]


@pytest.mark.parametrize("impl", ["aten", *FAST])
@pytest.mark.parametrize(("shape", "a", "blocks"), CASES)
@pytest.mark.parametrize("input_grad", ["exact", "free"])
def test_fast_is_the_reference(impl, shape, a, blocks, input_grad):
    for order, base in [(1, "silu"), (2, "tanh"), (3, "silu"), (3, "gelu"), (3, "relu"), (3, "identity"), (2, LEAKY)]:
        tensors = inputs(shape, a, order, torch.float32)
        options = {"spline_order": order, "base": base, "input_grad": input_grad, "blocks": blocks}
        wide = [t.detach().double() for t in tensors]
        g = torch.randn_like(shared_spline(*tensors, GRID, impl="reference", **options))
        expected = value_and_gradients(wide, g, impl="reference", **options)
        mine = value_and_gradients([t.detach().to(DTYPE[impl]) for t in tensors], g, impl=impl, **options)
        for got, wanted in zip(mine, expected, strict=True):
            assert got.shape == wanted.shape
            assert rms(got, wanted) < CLOSE[impl]
        assert rms(mine[0], expected[0]) < max(CLOSE[impl] / 50, 1e-12)


@pytest.mark.parametrize("impl", ["aten", *FAST])
@settings(max_examples=25, deadline=None, database=None)
@given(data=st.data())
def test_fast_is_the_reference_for_any_shape(impl, data):
    blocks, per_block, activations = (data.draw(st.integers(1, 3)) for _ in range(3))
    shape = (data.draw(st.integers(0, 3)), blocks * per_block, *data.draw(st.lists(st.integers(1, 5), max_size=3)))
    order = data.draw(st.integers(1, 3 if impl == "native" else 5))
    tensors = inputs(shape, blocks * activations, order, DTYPE[impl])
    options = {"spline_order": order, "blocks": blocks, "input_grad": data.draw(st.sampled_from(["exact", "free"]))}
    g = torch.randn_like(shared_spline(*tensors, GRID, impl="reference", **options))
    expected = value_and_gradients(tensors, g, impl="reference", **options)
    for mine, theirs in zip(value_and_gradients(tensors, g, impl=impl, **options), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e2 * CLOSE[impl], atol=1e2 * CLOSE[impl])


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_values_are_scipys(order):
    x, coef, weight = inputs((400,), 1, order, requires_grad=False)
    x = x.clamp(-2.999, 2.999)
    knots = bspline.knots(5, order, GRID).numpy()
    expected = torch.from_numpy(BSpline(knots, coef[0].numpy(), order)(x.numpy())) + weight * x * x.sigmoid()
    for impl in ("reference", "auto", "eager"):
        torch.testing.assert_close(shared_spline(x, coef, weight, GRID, order, impl=impl), expected)
    if order <= 3:
        out = shared_spline(*(t.float() for t in (x, coef, weight)), GRID, order, impl="native")
        torch.testing.assert_close(out, expected.float(), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("impl", FAST)
def test_coefficient_gradient_in_float32_is_that_of_float64(impl):
    """A reduction of 200,000 elements into 9 numbers: partial sums keep it exact to a few roundings."""
    tensors, g = inputs((2, 10, 100, 100), 1, dtype=torch.float32), torch.randn(2, 10, 100, 100)
    wide = value_and_gradients([t.double() for t in tensors], g, impl="reference")
    for mine, theirs in zip(value_and_gradients(tensors, g, impl=impl), wide, strict=True):
        assert rms(mine, theirs) < 1e-5


@pytest.mark.parametrize("impl", ["reference", "aten", "eager"])
@pytest.mark.parametrize(("base", "order"), [*((base, 3) for base in (*BASES, LEAKY)), ("silu", 2)])
def test_gradients_are_finite_differences(impl, base, order):
    x, coef, weight = inputs((2, 4, 3), 2, order)
    x = (x.detach() + 0.0137).requires_grad_()  # away from knots and from the kink of relu

    def function(*tensors):
        return shared_spline(*tensors, GRID, order, base=base, blocks=2, impl=impl)

    assert torch.autograd.gradcheck(function, (x, coef, weight))


@pytest.mark.parametrize("impl", ALL)
def test_grad_free_lets_the_input_see_the_base_only(impl):
    x, coef, weight = inputs((50,), 1, dtype=DTYPE[impl])
    out = shared_spline(x, coef, weight, GRID, input_grad="free", impl=impl)
    (gx,) = torch.autograd.grad(out.sum(), x)
    (expected,) = torch.autograd.grad((weight * torch.nn.functional.silu(x)).sum(), x)
    torch.testing.assert_close(gx, expected)


@pytest.mark.parametrize("impl", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_computes_in_float32(impl, dtype):
    tensors = inputs((3, 50), 1, dtype=dtype)
    out = shared_spline(*tensors, GRID, impl=impl)
    assert out.dtype == dtype
    wide = shared_spline(*(t.detach().double() for t in tensors), GRID, impl="reference")
    assert rms(out, wide) < 2 * torch.finfo(dtype).eps
    out.sum().backward()
    assert [t.grad.dtype for t in tensors] == [dtype] * 3


@pytest.mark.parametrize("impl", ["aten", *FAST])
def test_autocast_leaves_the_arithmetic_alone(impl):
    tensors = inputs((3, 50), 1, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = shared_spline(*tensors, GRID, impl=impl)
        half = shared_spline(tensors[0].bfloat16(), *tensors[1:], GRID, impl=impl)
    assert rms(out, shared_spline(*(t.detach().double() for t in tensors), GRID, impl="reference")) < 1e-6
    assert torch.equal(half, shared_spline(tensors[0].bfloat16().float(), *tensors[1:], GRID, impl=impl).bfloat16())


@pytest.mark.parametrize("impl", ["aten", *FAST])
def test_odd_layouts(impl):
    x, coef, weight = inputs((2, 3, 5, 4), 1, dtype=DTYPE[impl], requires_grad=False)
    expected = shared_spline(x, coef, weight, GRID, impl="reference")
    last = x.to(memory_format=torch.channels_last).requires_grad_()
    out = shared_spline(last, coef, weight, GRID, impl=impl)
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, expected, check_stride=False)
    (grad,) = torch.autograd.grad(out, last, torch.ones_like(x))
    (wanted,) = torch.autograd.grad(shared_spline(x.requires_grad_(), coef, weight, GRID, impl="reference").sum(), x)
    torch.testing.assert_close(grad, wanted, check_stride=False)
    for view in (x[:, :, ::2], x.transpose(1, 3), x[..., 1:3].expand(2, 3, 5, 2), x[:, :1].expand_as(x)):
        wanted = shared_spline(view.contiguous(), coef, weight, GRID, impl="reference")
        torch.testing.assert_close(shared_spline(view, coef, weight, GRID, impl=impl), wanted, check_stride=False)


@pytest.mark.parametrize("impl", ALL)
@pytest.mark.parametrize(("shape", "a", "blocks"), [((0, 4, 3), 4, 2), ((2, 0, 3), 1, 1), ((0,), 1, 1), ((2, 4, 0), 2, 1)])
def test_empty_batches(impl, shape, a, blocks):
    x, coef, weight = inputs(shape, a, dtype=DTYPE[impl])
    out = shared_spline(x, coef, weight, GRID, blocks=blocks, impl=impl)
    assert out.numel() == 0
    out.sum().backward()
    assert coef.grad.abs().sum() == 0


@pytest.mark.parametrize("impl", ALL)
def test_nan_stays_where_it_is_and_the_far_outside_is_the_base(impl):
    x = torch.tensor([float("nan"), 0.3, 1e30, -5e3, 40.0])
    coef, weight = torch.randn(1, 8), torch.tensor([2.0])
    out = shared_spline(x, coef, weight, GRID, impl=impl)
    assert out.isnan().tolist() == [True, False, False, False, False]
    torch.testing.assert_close(out[2:], 2 * torch.nn.functional.silu(x[2:].double()).float())


@pytest.mark.parametrize("impl", ALL)
@pytest.mark.parametrize("base", ["silu", "identity", "relu", "tanh", LEAKY])
def test_huge_and_infinite_inputs_meet_the_base_only(impl, base):
    """Also where torch's own base says NaN (SiLU at -inf): the spline adds nothing to it."""
    x = torch.tensor([3e38, -3e38, 1e30, -1e30, -100.0, float("inf"), -float("inf")], requires_grad=True)
    coef, weight = torch.randn(1, 8), torch.ones(1)
    out = shared_spline(x, coef, weight, GRID, base=base, impl=impl)
    wide = x.detach().double().requires_grad_()  # at the edge of float32 torch's own kernels differ between CPUs
    expected = base_function(base)(wide)
    slope, steepness = torch.autograd.grad(out.sum(), x)[0], torch.autograd.grad(expected.sum(), wide)[0]
    for mine, theirs in [(out, expected.float()), (slope, steepness.float())]:
        if impl == "native":  # knows the limits of SiLU where torch says NaN
            assert not mine.isnan().any()
            mine, theirs = mine[~theirs.isnan()], theirs[~theirs.isnan()]
        torch.testing.assert_close(mine, theirs, equal_nan=True)


@pytest.mark.parametrize("impl", ["aten", *FAST])
def test_no_output_is_left_unwritten(impl, monkeypatch):
    """Uninitialised memory full of NaN: whatever is not written shows."""
    real_empty, real_like, real_new = torch.empty, torch.empty_like, torch.Tensor.new_empty

    def poison(t):
        return t.fill_(float("nan")) if t.is_floating_point() else t

    monkeypatch.setattr(torch, "empty", lambda *a, **k: poison(real_empty(*a, **k)))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: poison(real_like(*a, **k)))
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *a, **k: poison(real_new(*a, **k)))
    for shape, a, blocks in [*CASES, ((1, 1, 70001), 1, 1)]:
        tensors = inputs(shape, a, dtype=torch.float32)
        out = shared_spline(*tensors, GRID, blocks=blocks, impl=impl)
        gradients = torch.autograd.grad(out.sum(), tensors)
        assert all(t.isfinite().all() for t in (out, *gradients))


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("input_grad", ["exact", "free"])
def test_only_the_input_is_saved(impl, input_grad):
    x, coef, weight = inputs((2, 8, 16, 16), 1, dtype=torch.float32)
    parameters = torch.nn.ParameterList([coef, weight])
    saved = saved_bytes(lambda: shared_spline(x, *parameters, GRID, input_grad=input_grad, impl=impl), parameters)
    assert saved == x.nbytes


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize(("shape", "a", "blocks"), [((2, 3, 4), 1, 1), ((2, 4, 3), 4, 2)])
def test_opcheck(impl, shape, a, blocks):
    tensors = inputs(shape, a, dtype=torch.float32)
    options = (*GRID, 3, "bspline", "silu", True, blocks, impl)
    torch.library.opcheck(shared_spline_op, (*tensors, *options))
    g = torch.randn(2, a * shape[1] // blocks, shape[2])
    plain = tuple(t.detach() for t in tensors)
    torch.library.opcheck(shared_spline_backward_op, (g, *plain, *options), test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("impl", ["aten", *FAST])
def test_compile_sees_no_graph_break(impl):
    x, coef, weight = inputs((2, 3, 8), 1, dtype=torch.float32)

    def function(*tensors):
        return (shared_spline(*tensors, GRID, impl=impl) * 2).sum()

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for mine, theirs in zip(
        torch.autograd.grad(compiled(x, coef, weight), (x, coef, weight)),
        torch.autograd.grad(function(x, coef, weight), (x, coef, weight)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_functional_transforms():
    x, coef, weight = inputs((4, 3, 5), 1, requires_grad=False)

    def loss(x, coef):
        return shared_spline(x, coef, weight, GRID).square().sum()

    per_sample = torch.func.vmap(torch.func.grad(loss, argnums=1), in_dims=(0, None))(x, coef)
    each = torch.stack([torch.func.grad(loss, argnums=1)(sample, coef) for sample in x])
    torch.testing.assert_close(per_sample, each)
    ensemble = torch.randn(3, 1, 8, dtype=torch.float64)
    torch.testing.assert_close(
        torch.func.vmap(loss, in_dims=(None, 0))(x, ensemble), torch.stack([loss(x, member) for member in ensemble])
    )


def test_second_derivatives_exist_where_operators_are_composed_and_are_refused_elsewhere():
    x, coef, weight = inputs((6,), 1)
    first = torch.autograd.grad(shared_spline(x, coef, weight, GRID, impl="reference").sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), x)[0]
    assert second.isfinite().all()
    composed = torch.autograd.grad(shared_spline(x, coef, weight, GRID, impl="aten").sum(), x, create_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(composed.sum(), x)[0], second)
    for impl in FAST:
        x, coef, weight = inputs((6,), 1, dtype=DTYPE[impl])
        first = torch.autograd.grad(shared_spline(x, coef, weight, GRID, impl=impl).sum(), x, create_graph=True)[0]
        with pytest.raises(RuntimeError, match="impl='reference'"):
            first.sum().backward()


def test_threads_and_repetition_do_not_change_a_bit():
    tensors, g = inputs((1, 2, 90001), 1, dtype=torch.float32), torch.randn(1, 2, 90001)
    runs = [value_and_gradients(tensors, g, impl="native") for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


X, C, W = torch.zeros(2, 4, 3), torch.zeros(2, 8), torch.zeros(2)
WRONG = [
    ({"coef": torch.zeros(8)}, "coef must be"),
    ({"coef": torch.zeros(0, 8), "base_weight": torch.zeros(0)}, "coef must be"),
    ({"coef": torch.zeros(2, 8, dtype=torch.int64)}, "coef must be floating point"),
    ({"coef": torch.zeros(2, 8, device="meta")}, "coef is on meta"),
    ({"base_weight": torch.zeros(2, device="meta")}, "base_weight is on meta"),
    ({"blocks": 0}, "blocks=0"),
    ({"blocks": -1}, "blocks=-1"),
    ({"coef": torch.zeros(1, 8), "base_weight": torch.zeros(1), "blocks": 2}, "blocks=2"),
    ({"grid_range": (0.0, 1.0, 2.0)}, "grid_range"),
    ({"base_weight": torch.zeros(3)}, "base_weight"),
    ({"coef": torch.zeros(2, 3)}, "grid"),
    ({"x": torch.zeros(2, 4, 3, dtype=torch.int64)}, "floating point"),
    ({"x": torch.zeros(4)}, "channels"),
    ({"blocks": 3}, "blocks=3"),
    ({"input_grad": "maybe"}, "input_grad 'maybe'"),
    ({"base": "sine"}, "base activation 'sine'"),
    ({"impl": "magic"}, "impl 'magic'"),
    ({"spline_order": 0}, "order"),
    ({"grid_range": (1.0, 1.0)}, "grid"),
    ({"impl": "native", "spline_order": 4, "coef": torch.zeros(2, 9)}, "spline_order 4"),
    ({"impl": "native", "x": X.to("meta"), "coef": C.to("meta"), "base_weight": W.to("meta")}, "runs on a CPU"),
]


@pytest.mark.parametrize(("change", "word"), WRONG, ids=[str(i) for i in range(len(WRONG))])
def test_wrong_arguments_get_one_sentence(change, word):
    arguments = {"x": X, "coef": C, "base_weight": W, **change}
    with pytest.raises(ValueError, match=word) as caught:
        shared_spline(**arguments)
    assert "\n" not in str(caught.value)


def test_reference_and_native_agree_on_the_borders_of_the_grid():
    """At every knot the pieces meet: the same value from both sides up to rounding."""
    knots = bspline.knots(5, 3, GRID)
    coef, weight = torch.randn(1, 8), torch.zeros(1)
    for knot, impl in itertools.product(knots, ALL):
        near = torch.stack([knot - 1e-6, knot, knot + 1e-6]).to(DTYPE[impl])
        values = shared_spline(near, coef.to(DTYPE[impl]), weight.to(DTYPE[impl]), GRID, impl=impl)
        assert (values - values[1]).abs().max() < 1e-5
