"""The unit normalise → φ → mix as one operation, against torch's norms, reference spline and convolution in float64."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from allukan.costs import saved_bytes
from allukan.ops import normalise, shared_spline
from allukan.ops.engines.dispatch import ENGINES, available
from allukan.ops.layer import Mapped, compose, ka_layer, norm_functions
from allukan.ops.linear_maps import Convolution
from allukan.ops.normalise import ChannelNorm, Norm, RowNorm, Statistics
from allukan.ops.phi import Phi
from allukan.ops.spline_autograd import normalised_spline_op

EPS = 1e-5
KINDS = {
    "batch": ChannelNorm(0, False, EPS),
    "instance": ChannelNorm(0, True, EPS),
    "group": ChannelNorm(2, True, EPS),
    "layer": RowNorm(EPS),
}
RUNNING = available(Phi(5, 3, (-3.0, 3.0)), "cpu", torch.float32)
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
# activations, blocks of channels, groups of the convolution
SHARINGS = [(1, 1, 1), (4, 4, 1), (2, 1, 2)]


def torchs(kind, x, gamma, beta):
    if kind == "batch":
        return F.batch_norm(x, None, None, gamma, beta, True, 0.1, EPS)
    if kind == "instance":
        return F.instance_norm(x, None, None, gamma, beta, True, 0.1, EPS)
    if kind == "group":
        return F.group_norm(x, 2, gamma, beta, EPS)
    return F.layer_norm(x.movedim(1, -1), (x.shape[1],), gamma, beta, EPS).movedim(-1, 1)


def tensors(shape, activations, blocks, groups, out=6):
    """x, coef, w, λ, bias, γ, β; means that are large beside the spread."""
    c, n = shape[1], len(shape) - 2
    sizes = [shape, (activations, 8), (activations,), (out, c * activations // blocks // groups, *[3] * n), (out,), (c,), (c,)]
    made = [torch.randn(size, dtype=torch.float64) for size in sizes]
    made[0] = 2 * made[0] + 5
    return [t.requires_grad_() for t in made]


def wanted(given, kind, phi, groups):
    x, coef, base_weight, weight, bias, gamma, beta = given
    options = {"input_grad": "exact" if phi.exact else "free", "blocks": phi.blocks, "impl": "reference"}
    h = shared_spline(torchs(kind, x, gamma, beta), coef, base_weight, phi.grid_range, phi.spline_order, **options)
    return CONVOLUTIONS[x.ndim - 2](h, weight, bias, padding=1, groups=groups)


def ours(given, kind, phi, groups):
    x, coef, base_weight, weight, bias, gamma, beta = given
    n, how = x.ndim - 2, KINDS[kind]
    linear = Convolution((1,) * n, (1,) * n, (1,) * n, groups, (0,) * n)
    found = None if kind == "layer" else norm_functions(x, phi).statistics(x, how)
    return ka_layer(x, coef, base_weight, phi, Norm(how, gamma, beta, found), (Mapped(linear, weight, bias),))[0]


def single(given):
    return [t.detach().float().requires_grad_() for t in given]


def compare(mine, theirs, limit=5e-5):
    for a, b in zip(mine, theirs, strict=True):
        assert a.shape == b.shape
        assert float((a.detach().double() - b.detach()).norm() / b.detach().norm().clamp(min=1e-9)) < limit


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("activations", "blocks", "groups"), SHARINGS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("impl", RUNNING)
def test_values_and_every_gradient(impl, kind, activations, blocks, groups, exact):
    for shape, recompute in itertools.product([(3, 4, 7, 5), (2, 4, 33, 40), (3, 4, 9), (2, 4, 3, 4, 5)], [True, False]):
        phi = Phi(5, 3, (-3.0, 3.0), exact=exact, blocks=blocks, impl=impl, recompute=recompute)
        given = tensors(shape, activations, blocks, groups)
        y = wanted(given, kind, phi, groups)
        g = torch.randn_like(y)
        narrow = single(given)
        out = ours(narrow, kind, phi, groups)
        compare([out, *torch.autograd.grad(out, narrow, g.float())], [y, *torch.autograd.grad(y, given, g)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sharing", ["output", "edge"])
def test_the_expanded_form_too(kind, sharing):
    phi = Phi(5, 3, (-3.0, 3.0), expanded=True, edges=sharing == "edge")
    given = tensors((2, 4, 7, 5), 1, 1, 1)
    count = 6 if sharing == "output" else given[3].numel()
    given[1:3] = [torch.randn(count, 8, dtype=torch.float64).requires_grad_(), torch.randn(count).double().requires_grad_()]
    x, coef, base_weight, weight, bias, gamma, beta = given
    terms = ENGINES["eager"].expand(torch.zeros(1, 1, 1), phi).shape[2]
    u = torchs(kind, x, gamma, beta)
    basis = torch.cat([F.silu(u).unsqueeze(2), phi.values(u).movedim(-1, 2)], 2).flatten(1, 2)
    assert basis.shape[1] == 4 * terms
    y = F.conv2d(basis, compose(coef, base_weight, weight, phi.edges), bias, padding=1)
    g = torch.randn_like(y)
    narrow = single(given)
    out = ours(narrow, kind, phi, 1)
    compare([out, *torch.autograd.grad(out, narrow, g.float())], [y, *torch.autograd.grad(y, given, g)])


@pytest.mark.parametrize("kind", ["batch", "group", "layer"])
def test_several_maps_share_one_activation(kind):
    phi, given = Phi(5, 3, (-3.0, 3.0)), tensors((2, 4, 7, 5), 1, 1, 1)
    side = torch.randn(3, 4, 1, 1, dtype=torch.float64).requires_grad_()
    x, coef, base_weight, weight, bias, gamma, beta = given
    h = shared_spline(torchs(kind, x, gamma, beta), coef, base_weight, phi.grid_range, 3, impl="reference")
    first, second = F.conv2d(h, weight, bias, padding=1), F.conv2d(h, side)
    a, b = torch.randn_like(first), torch.randn_like(second)
    theirs = torch.autograd.grad([first, second], [*given, side], [a, b])
    *narrow, side = single([*given, side])
    x, coef, base_weight, weight, bias, gamma, beta = narrow
    how = KINDS[kind]
    norm = Norm(how, gamma, beta, None if kind == "layer" else norm_functions(x, phi).statistics(x, how))
    one, small = Convolution((1, 1), (1, 1), (1, 1)), Convolution((1, 1), (0, 0), (1, 1))
    y, s = ka_layer(x, coef, base_weight, phi, norm, (Mapped(one, weight, bias), Mapped(small, side, None)))
    mine = torch.autograd.grad([y, s], [*narrow, side], [a.float(), b.float()])
    compare([y, s, *mine], [first, second, *theirs])


@pytest.mark.parametrize("impl", RUNNING)
def test_given_statistics_are_constants(impl):
    """A trained network's: x has no part in them."""
    phi, given = Phi(5, 3, (-3.0, 3.0), impl=impl), tensors((2, 4, 7, 5), 1, 1, 1)
    mean, var = torch.randn(4, dtype=torch.float64) + 5, torch.rand(4, dtype=torch.float64) + 0.5
    x, coef, base_weight, weight, bias, gamma, beta = given
    u = F.batch_norm(x, mean, var, gamma, beta, False, 0.1, EPS)
    y = F.conv2d(shared_spline(u, coef, base_weight, phi.grid_range, 3, impl="reference"), weight, bias, padding=1)
    g = torch.randn_like(y)
    theirs = torch.autograd.grad(y, given, g)
    narrow = single(given)
    x, coef, base_weight, weight, bias, gamma, beta = narrow
    norm = Norm(ChannelNorm(0, False, EPS, fixed=True), gamma, beta, Statistics(mean.float()[None], var.float()[None], 0))
    out = ka_layer(x, coef, base_weight, phi, norm, (Mapped(Convolution((1, 1), (1, 1), (1, 1)), weight, bias),))[0]
    compare([out, *torch.autograd.grad(out, narrow, g.float())], [y, *theirs])


@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
@pytest.mark.parametrize("impl", RUNNING)
def test_statistics_survive_a_mean_that_is_large_beside_the_spread(impl, kind):
    how, x = KINDS[kind], torch.randn(3, 4, 37, 11) + torch.tensor([0.0, 1e3, -1e4, 1.0]).view(1, 4, 1, 1)
    wide = x.double().reshape(3, how.groups or 4, -1)
    var, mean = torch.var_mean(wide, (2,) if how.samples else (0, 2), correction=0)
    found = ENGINES[impl].NORM.statistics(x, how)
    torch.testing.assert_close(found.mean.double().flatten(), mean.flatten(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.var.double().flatten(), var.flatten(), rtol=1e-5, atol=1e-5)
    assert found.of == x.numel() // mean.numel()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_the_input_is_kept(kind):
    given = single(tensors((2, 4, 32, 32), 1, 1, 1))
    x, small = given[0], sum(t.nbytes for t in given[1:]) + 5 * 4 * 2 * 4
    phi = Phi(5, 3, (-3.0, 3.0), recompute=True)
    kept = saved_bytes(lambda: ours(given, kind, phi, 1))
    assert x.nbytes <= kept <= x.nbytes + small


def test_threads_change_no_more_than_rounding():
    given, phi = single(tensors((2, 4, 65, 64), 1, 1, 1)), Phi(5, 3, (-3.0, 3.0))
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        out = ours(given, "batch", phi, 1)
        results.append([out, *torch.autograd.grad(out.square().sum(), given)])
    torch.set_num_threads(threads)
    for other in results[1:]:
        compare(other, [t.double() for t in results[0]], 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_half(dtype):
    given = [t.detach().to(dtype).requires_grad_() for t in tensors((2, 4, 16, 16), 1, 1, 1)]
    phi = Phi(5, 3, (-3.0, 3.0))
    out = ours(given, "batch", phi, 1)
    wide = [t.detach().double().requires_grad_() for t in given]
    y = wanted(wide, "batch", phi, 1)
    g = torch.randn_like(y)
    assert out.dtype is dtype
    grads = torch.autograd.grad(out, given, g.to(dtype))
    assert all(grad.dtype is dtype for grad in grads)
    compare([out, *grads], [y, *torch.autograd.grad(y, wide, g)], 3e-2 if dtype is torch.bfloat16 else 5e-3)


def test_a_second_derivative_is_refused():
    given = single(tensors((2, 4, 7, 5), 1, 1, 1))
    (grad,) = torch.autograd.grad(ours(given, "batch", Phi(5, 3, (-3.0, 3.0)), 1).sum(), given[0], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        grad.sum().backward()


def test_an_empty_batch_and_a_constant_channel():
    phi = Phi(5, 3, (-3.0, 3.0))
    given = single(tensors((2, 4, 8, 8), 1, 1, 1))
    given[0] = torch.full_like(given[0], 3.0).requires_grad_()
    out = ours(given, "batch", phi, 1)
    assert all(t.isfinite().all() for t in (out, *torch.autograd.grad(out.sum(), given)))
    given[0] = torch.zeros(0, 4, 8, 8, requires_grad=True)
    assert ours(given, "instance", phi, 1).shape == (0, 6, 8, 8)


def test_plain_torch_and_the_loops_are_one_contract():
    names = ("statistics", "track", "affine", "input_gradient", "apply_gradient")
    assert all(callable(getattr(engine.NORM, name)) for engine in ENGINES.values() for name in names)
    assert ENGINES["eager"].NORM is normalise


@pytest.mark.parametrize("kind", ["batch", "instance"])
@pytest.mark.parametrize("impl", RUNNING)
def test_the_operators_describe_themselves(impl, kind):
    x, coef, base_weight, _, _, gamma, beta = single(tensors((2, 4, 6, 5), 1, 1, 1))
    how = KINDS[kind]
    numbers = normalise.affine(normalise.statistics(x.detach(), how), gamma, beta, how, 4).numbers.detach().requires_grad_()
    options = (-3.0, 3.0, 3, "bspline", "silu", True, 1, impl)
    for given in (x, x.detach().movedim(1, -1).contiguous().movedim(-1, 1).requires_grad_()):  # and channels-last
        torch.library.opcheck(normalised_spline_op, (given, coef, base_weight, numbers, *options))
