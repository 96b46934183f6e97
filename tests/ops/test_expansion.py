"""The expanded basis against the Cox–de Boor reference."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from allukan.costs import saved_bytes
from allukan.nn import KALinear, Spline
from allukan.ops import basis_expansion, bspline
from allukan.ops.activations import BASES, base_function
from allukan.ops.engines.dispatch import ENGINES
from allukan.ops.phi import Phi

GRID = (5, 3, (-3.0, 3.0))
GRIDS = [GRID, (1, 1, (0.0, 1.0)), (4, 2, (-1.0, 2.0)), (3, 4, (-2.0, 2.0)), (6, 5, (-1.0, 1.0))]
NAN, INF = float("nan"), float("inf")


def rms(found, wanted):
    return float((found.detach() - wanted.detach()).norm() / wanted.detach().norm())


def naive(x, grid=GRID, base="silu", input_grad="exact"):
    """(B, C, *S) → (B, C, M + 1, *S) → (B, C·(M + 1), *S)."""
    seen = x if input_grad == "exact" else x.detach()
    return torch.cat([base_function(base)(x).unsqueeze(-1), bspline.basis(seen, *grid)], -1).movedim(-1, 2).flatten(1, 2)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 7), (2, 1, 3, 5), (1, 2, 2, 3, 1), (0, 3, 4)], ids=str)
@pytest.mark.parametrize("input_grad", ["exact", "free"])
def test_values_and_gradients_are_the_references(grid, shape, input_grad):
    x = (2 * torch.randn(shape, dtype=torch.float64)).requires_grad_()
    out, expected = basis_expansion(x, *grid, base="tanh", input_grad=input_grad), naive(x, grid, "tanh", input_grad)
    torch.testing.assert_close(out, expected)
    g = torch.randn_like(expected)
    (mine,), (theirs,) = (torch.autograd.grad(y, x, g) for y in (out, expected))
    torch.testing.assert_close(mine, theirs, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("base", [*BASES, "leaky_relu:0.1"])
def test_gradient_is_a_finite_difference(base):
    x = (torch.randn(2, 3, 4, dtype=torch.float64) + 0.0137).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: basis_expansion(t, *GRID, base=base), x)


def test_only_the_input_is_saved():
    x = torch.randn(2, 8, 16, 16, requires_grad=True)
    assert saved_bytes(lambda: basis_expansion(x, *GRID)) == x.nbytes


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_rounded_float32(dtype):
    x = torch.randn(2, 3, 50).to(dtype).requires_grad_()
    out = basis_expansion(x, *GRID)
    assert torch.equal(out, basis_expansion(x.float(), *GRID).to(dtype))
    out.sum().backward()
    assert x.grad.dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(basis_expansion(x, *GRID), out)


def test_nan_stays_in_its_place_and_infinity_meets_the_base_only():
    x = torch.tensor([[NAN, 0.3, 3e38, -3e38, INF]]).unsqueeze(-1)
    out = basis_expansion(x, *GRID, base="identity").view(5, -1)
    assert out.isnan().any(-1).tolist() == [True, False, False, False, False]
    assert torch.equal(out[2:, 0], x[0, 2:, 0])
    assert not out[2:, 1:].any()


def test_functional_transforms():
    x = torch.randn(4, 2, 3, 5, dtype=torch.float64)

    def loss(sample):
        return basis_expansion(sample, *GRID).square().sum()

    each = torch.stack([torch.func.grad(loss)(sample) for sample in x])
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(x), each)
    small = x[0, :, :1]
    jacobian = torch.func.jacrev(lambda t: basis_expansion(t, *GRID))(small)
    torch.testing.assert_close(jacobian, torch.autograd.functional.jacobian(lambda t: basis_expansion(t, *GRID), small))


def test_second_derivatives_are_refused():
    x = torch.randn(2, 3, 4, requires_grad=True)
    (first,) = torch.autograd.grad(basis_expansion(x, *GRID).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        first.sum().backward()


@pytest.mark.parametrize(
    ("x", "options", "word"),
    [
        (torch.zeros(3), {}, "x must be"),
        (torch.zeros(2, 3, dtype=torch.int64), {}, "floating point"),
        (torch.zeros(2, 3), {"base": "sine"}, "sine"),
        (torch.zeros(2, 3), {"input_grad": "maybe"}, "input_grad 'maybe'"),
        (torch.zeros(2, 3), {"grid_size": 0}, "grid_size"),
        (torch.zeros(2, 3), {"spline_order": 0}, "spline_order"),
        (torch.zeros(2, 3), {"grid_range": (1.0, 0.0)}, "grid_range"),
    ],
)
def test_wrong_arguments_get_one_sentence(x, options, word):
    with pytest.raises(ValueError, match=word) as caught:
        basis_expansion(x, **{"grid_size": 5, "spline_order": 3, "grid_range": (-1.0, 1.0), **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("basis", ["bspline", "rbf"])
@pytest.mark.parametrize("impl", ["eager", "native", "aten", "reference"])
def test_the_engine_that_is_asked_for_runs(impl, basis, monkeypatch):
    """By name: the same values and gradients, and the compiled loops only where they are meant."""
    if impl == "native":
        pytest.importorskip("allukan.ops.engines.native", reason="numba does not work here")
    x = torch.randn(2, 3, 50)
    wide = x.double().requires_grad_()
    wanted = basis_expansion(wide, *GRID, basis=basis, impl="reference")
    (slope,) = torch.autograd.grad(wanted.square().sum(), wide)
    runs = []
    if "native" in ENGINES:
        real = ENGINES["native"].expand
        monkeypatch.setattr(ENGINES["native"], "expand", lambda *a: runs.append(1) or real(*a))
    given = x.clone().requires_grad_()
    found = basis_expansion(given, *GRID, basis=basis, impl=impl)
    assert rms(found, wanted) < 1e-5
    assert rms(torch.autograd.grad(found.square().sum(), given)[0], slope) < 1e-5
    assert bool(runs) == (impl == "native")


@pytest.mark.parametrize("sharing", ["output", "edge"])
def test_a_layer_of_the_reference_has_second_derivatives(sharing):
    layer = KALinear(2, 2, spline=Spline(sharing=sharing, impl="reference"), dtype=torch.float64)
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(layer, x)
    layer.spline = replace(layer.spline, impl="auto")
    (slope,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        slope.sum().backward()


def test_triton_has_no_expanded_basis():
    with pytest.raises(ValueError, match="no kernel for the expanded basis"):
        KALinear(2, 2, spline=Spline(sharing="edge", impl="triton"))(torch.randn(1, 2))


class Made(TorchDispatchMode):
    """Counts tensors that are made of numbers on the host: a GPU waits for each."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func._schema.name == "aten::lift_fresh"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("basis", ["bspline", "chebyshev", "rbf"])
def test_no_table_is_sent_to_the_device(basis):
    engine, phi, x = ENGINES["eager"], Phi(5, 3, (-3.0, 3.0), basis), torch.randn(5, 4)
    with Made() as made:
        torch.tensor([1.0])
        wide = engine.expand(x, phi)
        engine.expand_backward(wide, x, phi)
    assert made.count == 1
