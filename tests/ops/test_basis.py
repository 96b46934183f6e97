"""Every family of basis functions: values by numpy and scipy, derivatives, outside the grid, every way to compute."""

import math

import numpy as np
import pytest
import torch
from numpy.polynomial.chebyshev import chebvander
from scipy.interpolate import BSpline
from scipy.stats import norm

from allukan.costs import saved_bytes
from allukan.ops import basis_expansion, bspline, shared_spline
from allukan.ops.activations import base_function
from allukan.ops.basis import FAMILIES
from allukan.ops.engines import chunks, dispatch
from allukan.ops.engines.curves import MAX_ROWS, rows_needed
from allukan.ops.phi import Phi
from allukan.ops.spline_autograd import shared_spline_op

OTHERS = [name for name in FAMILIES if name != "bspline"]
GRID = (5, 3, (-3.0, 3.0))
GRIDS = [GRID, (1, 1, (0.0, 1.0)), (1, 2, (-4.0, 9.0)), (4, 2, (-1.0, 2.0)), (3, 4, (-2.0, 2.0))]
NAN, INF = float("nan"), float("inf")
DTYPE = {"reference": torch.float64, "eager": torch.float64, "native": torch.float32}
CLOSE = {"eager": 1e-12, "native": 2e-5}
FAST = ("eager", "native")


def centres(m, lo, hi):
    return np.linspace(lo, hi, m), (hi - lo) / (m - 1)


def rbf(x, m, lo, hi):
    c, h = centres(m, lo, hi)
    return norm.pdf(x[:, None], c, h / math.sqrt(2)) * h * math.sqrt(math.pi)


def rswaf(x, m, lo, hi):
    c, h = centres(m, lo, hi)
    return 1 / np.cosh((x[:, None] - c) / h) ** 2


def wavelet(x, m, lo, hi):
    """1, and the second derivative of the Gaussian: (z² - 1) times it, by Hermite's polynomials."""
    h = (hi - lo) / (m - 1)
    z = (x[:, None] - np.arange(lo + h / 2, hi, h)) / h
    second = np.polynomial.hermite_e.hermeval(z, [0, 0, 1]) * norm.pdf(z) * math.sqrt(2 * math.pi)
    return np.hstack([np.ones((len(x), 1)), -2 / (math.sqrt(3) * math.pi**0.25) * second])


def chebyshev(x, m, lo, hi):
    return chebvander(np.tanh(3 * np.interp(x, [2 * lo - hi, 2 * hi - lo], [-3, 3])), m - 1)


def fourier(x, m, lo, hi):
    theta = np.interp(x, [lo, hi], [-math.pi / 2, math.pi / 2])
    waves = [np.ones_like(x)] + [f(k * theta) for k in range(1, m) for f in (np.sin, np.cos)]
    return np.stack(waves[:m], 1)


def rational(x, m, lo, hi):
    u = np.interp(x, [lo, hi], [-2, 2])
    n = max(k for k in range(m) if k % 2 == 0)
    return np.vander(u, m, increasing=True) / (1 + u**n)[:, None]


def splines(x, m, lo, hi, order):
    knots = bspline.knots(m - order, order, (lo, hi)).numpy()
    each = [BSpline.basis_element(knots[i : i + order + 2], extrapolate=False)(x) for i in range(m)]
    return np.nan_to_num(np.stack(each, 1))


ORACLES = {"rbf": rbf, "rswaf": rswaf, "wavelet": wavelet, "chebyshev": chebyshev, "fourier": fourier, "rational": rational}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_values_are_those_of_numpy_and_scipy(name, grid):
    size, order, (lo, hi) = grid
    x = torch.linspace(1.9 * lo - 0.9 * hi, 1.9 * hi - 0.9 * lo, 301, dtype=torch.float64)
    oracle = (lambda *a: splines(*a, order)) if name == "bspline" else ORACLES[name]
    expected = torch.from_numpy(oracle(x.numpy(), size + order, lo, hi))
    torch.testing.assert_close(FAMILIES[name].values(x, *grid), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_derivatives_are_finite_differences(name, grid):
    lo, hi = grid[2]
    x = torch.linspace(2 * lo - hi, 2 * hi - lo, 254, dtype=torch.float64) + 1e-3  # at no border, where some have a kink
    step = 1e-6 * (hi - lo)
    ahead, behind = (FAMILIES[name].values(x + d, *grid) for d in (step, -step))
    found = FAMILIES[name].derivative(x, *grid)
    torch.testing.assert_close(found, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-6 / (hi - lo))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_outside_the_ends_everything_is_finite_and_constant(name, grid):
    functions = FAMILIES[name]
    start, stop = functions.ends(*grid)
    far = torch.tensor([1.0, 10.0, 1e30, INF], dtype=torch.float64)
    for x in (stop + far, start - far):
        end = functions.values(torch.tensor([stop if x[0] > stop else start], dtype=torch.float64), *grid)
        torch.testing.assert_close(functions.values(x, *grid), end.expand(4, -1), rtol=0, atol=1e-8)
        torch.testing.assert_close(
            functions.derivative(x, *grid), torch.zeros(4, sum(grid[:2]), dtype=torch.float64), rtol=0, atol=1e-6
        )
    for end in (start, stop, *grid[2]):  # no jump anywhere
        near = functions.values(torch.tensor([end - 1e-9, end, end + 1e-9], dtype=torch.float64), *grid)
        assert (near - near[1]).abs().max() < 1e-6
    nothing = torch.tensor([NAN], dtype=torch.float64)
    assert functions.values(nothing, *grid).isnan().all()
    assert functions.derivative(nothing, *grid).isnan().all()


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("grid", [GRID, (1, 1, (-1.0, 0.5)), (9, 4, (-1.0, 2.0))], ids=str)
def test_no_function_bends_more_than_its_width_says(name, grid):
    """The step of the CPU's tables follows from it: the fourth derivative is at most width⁻⁴, by five-point differences."""
    lo, hi = grid[2]
    width = FAMILIES[name].width(*grid)
    h = width / 64
    x = torch.linspace(lo + 3 * h, hi - 3 * h, 4001, dtype=torch.float64)
    parts = [c * FAMILIES[name].values(x + k * h, *grid) for k, c in zip(range(-2, 3), (1, -4, 6, -4, 1), strict=True)]
    bend = float((sum(parts) / h**4).abs().max() * width**4)
    assert bend < 3


def inputs(shape, a, dtype=torch.float64):
    tensors = (
        2 * torch.randn(shape, dtype=torch.float64),
        torch.randn(a, 8, dtype=torch.float64),
        torch.randn(a, dtype=torch.float64),
    )
    return tuple(t.to(dtype).requires_grad_() for t in tensors)


def rms(a, b):
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm().clamp(min=1e-12))


def value_and_gradients(tensors, g, **options):
    tensors = [t.detach().clone().requires_grad_() for t in tensors]
    out = shared_spline(*tensors, GRID[2], **options)
    return [out, *torch.autograd.grad(out, tensors, g.to(out.dtype))]


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("basis", OTHERS)
@pytest.mark.parametrize(("shape", "a", "blocks"), [((2, 3, 7), 1, 1), ((2, 6, 5, 3), 4, 2), ((3, 4, 5), 4, 4), ((9000,), 1, 1)])
@pytest.mark.parametrize("input_grad", ["exact", "free"])
def test_fast_is_the_reference(impl, basis, shape, a, blocks, input_grad):
    tensors = inputs(shape, a, torch.float32)
    options = {"basis": basis, "base": "tanh", "input_grad": input_grad, "blocks": blocks}
    g = torch.randn_like(shared_spline(*tensors, GRID[2], impl="reference", **options))
    expected = value_and_gradients([t.detach().double() for t in tensors], g, impl="reference", **options)
    mine = value_and_gradients([t.detach().to(DTYPE[impl]) for t in tensors], g, impl=impl, **options)
    for got, wanted in zip(mine, expected, strict=True):
        assert got.shape == wanted.shape
        assert rms(got, wanted) < CLOSE[impl]
    assert rms(mine[0], expected[0]) < max(CLOSE[impl] / 50, 1e-12)


@pytest.mark.parametrize("basis", OTHERS)
@pytest.mark.parametrize("grid", [(1, 1, (-0.3, 0.6)), (12, 3, (-1.0, 1.0)), (3, 2, (-40.0, 60.0)), (2, 5, (5.0, 9.0))], ids=str)
def test_tables_are_good_on_any_grid(basis, grid):
    size, order, ends = grid
    coef, weight = torch.randn(1, size + order), torch.randn(1)
    near = ends[0] + (ends[1] - ends[0]) * (2 * torch.rand(4000) - 0.5)
    for x in (near, 20 * torch.randn(500)):
        out = shared_spline(x, coef, weight, ends, order, basis=basis, impl="native")
        wide = shared_spline(x.double(), coef.double(), weight.double(), ends, order, basis=basis, impl="reference")
        assert rms(out, wide) < 2e-6
    assert rows_needed(grid, basis, "silu") < MAX_ROWS


@pytest.mark.parametrize("impl", ["reference", "eager"])
@pytest.mark.parametrize("basis", OTHERS)
def test_gradients_are_finite_differences(impl, basis):
    x, coef, weight = inputs((2, 4, 3), 2)
    assert torch.autograd.gradcheck(lambda *t: shared_spline(*t, GRID[2], basis=basis, blocks=2, impl=impl), (x, coef, weight))
    assert torch.autograd.gradcheck(lambda t: basis_expansion(t, *GRID, basis=basis), x)


@pytest.mark.parametrize("basis", OTHERS)
def test_the_reference_has_second_derivatives(basis):
    x, coef, weight = (t.detach() for t in inputs((6,), 1))
    x.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda t: shared_spline(t, coef, weight, GRID[2], basis=basis, impl="reference"), x)


@pytest.mark.parametrize("impl", ["reference", *FAST])
@pytest.mark.parametrize("basis", OTHERS)
def test_nan_stays_where_it_is_and_infinity_is_finite_and_alive(impl, basis):
    x = torch.tensor([NAN, 0.3, 1e30, -1e30, 40.0, -40.0, INF, -INF], requires_grad=True)
    coef, weight = torch.randn(1, 8), torch.ones(1)
    options = {"base": "leaky_relu:0.1", "basis": basis, "impl": impl}
    out = shared_spline(x, coef, weight, GRID[2], **options)
    (slope,) = torch.autograd.grad(out.sum(), x)
    assert out.isnan().tolist() == [True, *[False] * 7]
    assert slope[1:].isfinite().all()
    ends = shared_spline(torch.tensor([40.0, -40.0]), coef, torch.zeros(1), GRID[2], **options)
    torch.testing.assert_close(out[2:6], base_function("leaky_relu:0.1")(x)[2:6] + ends.repeat(2))
    torch.testing.assert_close(slope[2:6], torch.tensor([1.0, 0.1, 1.0, 0.1]))  # the base branch


@pytest.mark.parametrize("basis", OTHERS)
@pytest.mark.parametrize("input_grad", ["exact", "free"])
def test_the_expanded_form_is_the_reference(basis, input_grad):
    x = (2 * torch.randn(2, 3, 5, 4, dtype=torch.float64)).requires_grad_()

    def naive(x):
        seen = x if input_grad == "exact" else x.detach()
        return (
            torch.cat([base_function("gelu")(x).unsqueeze(-1), FAMILIES[basis].values(seen, *GRID)], -1)
            .movedim(-1, 2)
            .flatten(1, 2)
        )

    expected = naive(x)
    g = torch.randn_like(expected)
    (theirs,) = torch.autograd.grad(expected, x, g)
    for dtype, close in ((torch.float64, 1e-12), (torch.float32, 2e-6)):
        narrow = x.detach().to(dtype).requires_grad_()
        out = basis_expansion(narrow, *GRID, basis=basis, base="gelu", input_grad=input_grad)
        (mine,) = torch.autograd.grad(out, narrow, g.to(dtype))
        assert rms(out, expected) < close
        assert rms(mine, theirs) < 10 * close


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("basis", OTHERS)
def test_only_the_input_is_saved(impl, basis):
    x, coef, weight = inputs((2, 8, 16, 16), 1, torch.float32)
    parameters = torch.nn.ParameterList([coef, weight])
    assert saved_bytes(lambda: shared_spline(x, *parameters, GRID[2], basis=basis, impl=impl), parameters) == x.nbytes
    assert saved_bytes(lambda: basis_expansion(x, *GRID, basis=basis)) == x.nbytes


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("basis", OTHERS)
def test_half_precision_computes_in_float32(impl, dtype, basis):
    tensors = inputs((3, 50), 1, dtype)
    with torch.autocast("cpu", torch.bfloat16):
        out = shared_spline(*tensors, GRID[2], basis=basis, impl=impl)
    wide = shared_spline(*(t.detach().double() for t in tensors), GRID[2], basis=basis, impl="reference")
    assert out.dtype == dtype
    assert rms(out, wide) < 2 * torch.finfo(dtype).eps


def test_chunks_do_not_change_the_result(monkeypatch):
    tensors, g = inputs((3, 4, 50), 4), torch.randn(3, 8, 50)
    options = {"basis": "rbf", "blocks": 2, "impl": "eager"}
    whole = value_and_gradients(tensors, g, **options)
    monkeypatch.setattr(chunks, "CHUNK", 100)
    for mine, theirs in zip(value_and_gradients(tensors, g, **options), whole, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(("impl", "basis"), [("native", "chebyshev"), ("eager", "rational")])
def test_compilers_and_transforms_take_it(impl, basis):
    tensors = inputs((2, 4, 3), 4, torch.float32)
    options = (*GRID[2], 3, basis, "silu", True, 2, impl)
    torch.library.opcheck(shared_spline_op, (*tensors, *options))

    def function(x, coef, weight):
        spline = shared_spline(x, coef, weight, GRID[2], basis=basis, blocks=2, impl=impl)
        return spline.sum() + basis_expansion(x, *GRID, basis=basis).square().sum()

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for mine, theirs in zip(
        torch.autograd.grad(compiled(*tensors), tensors), torch.autograd.grad(function(*tensors), tensors), strict=True
    ):
        torch.testing.assert_close(mine, theirs)
    x, coef, weight = (t.detach() for t in inputs((4, 3, 5), 1, torch.float32))

    def loss(coef, x):
        return shared_spline(x, coef, weight, GRID[2], basis=basis, impl=impl).square().sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(coef, x)
    torch.testing.assert_close(per_sample, torch.stack([torch.func.grad(loss)(coef, sample) for sample in x]))


def test_triton_refuses_by_name_and_auto_says_why_it_is_eager(monkeypatch, caplog):
    pytest.importorskip("triton", reason="triton is not installed")
    from allukan.ops.engines import triton_engine

    x, coef, weight = (t.detach() for t in inputs((5,), 1, torch.float32))
    monkeypatch.setattr(dispatch, "_chosen", dispatch._chosen.__wrapped__)
    monkeypatch.setattr(triton_engine, "INTERPRETED", True)
    with pytest.raises(ValueError, match=r"impl='triton' cannot run: .*'rbf'") as caught:
        shared_spline(x, coef, weight, GRID[2], basis="rbf", impl="triton")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(triton_engine, "INTERPRETED", False)
    dispatch._log_once.cache_clear()
    with caplog.at_level("WARNING", logger="allukan"):
        assert dispatch.choose(Phi(*GRID, "rbf"), "cuda", torch.float32) == "eager"
    assert "no basis 'rbf'" in caplog.text


def test_native_has_no_limit_of_order_but_one_of_rows():
    assert dispatch.choose(Phi(2, 7, (-3.0, 3.0), "fourier"), "cpu", torch.float32) == "native"
    assert dispatch.choose(Phi(500, 3, (-3.0, 3.0), "chebyshev"), "cpu", torch.float32) == "eager"
    with pytest.raises(ValueError, match="rows"):
        dispatch.choose(Phi(500, 3, (-3.0, 3.0), "chebyshev", impl="native"), "cpu", torch.float32)


def test_an_unknown_basis_is_refused():
    x, coef, weight = inputs((5,), 1)
    for call in (
        lambda: shared_spline(x, coef, weight, basis="spline"),
        lambda: basis_expansion(x.view(1, 5), *GRID, basis="spline"),
    ):
        with pytest.raises(ValueError, match="unknown basis 'spline'; choose one of bspline, rbf") as caught:
            call()
        assert "\n" not in str(caught.value)
