"""Normalisation in the Triton kernels against torch's norms and the reference spline in float64: on a GPU or interpreted."""

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("triton", reason="triton is not installed")

from allukan.ops import normalise, shared_spline
from allukan.ops.engines import triton_engine, triton_norm, triton_tiles
from allukan.ops.layer import Mapped, ka_layer, norm_functions
from allukan.ops.linear_maps import Convolution
from allukan.ops.normalise import ChannelNorm, InputGradient, Norm, Statistics
from allukan.ops.phi import Phi

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter is numpy, which remarks on inf and NaN
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GRID, EPS = (-3.0, 3.0), 1e-5
KINDS = {"batch": ChannelNorm(0, False, EPS), "instance": ChannelNorm(0, True, EPS), "group": ChannelNorm(2, True, EPS)}
# largest relative RMS error: as in test_triton, and the gradient of x is rounded once more on its way through that of u
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2.0**-9, torch.bfloat16: 2.0**-6}
# lines shorter and longer than a tile (512, 1024), channels and batch around the sizes of tiles
SHAPES = [(3, 4, 3, 5), (2, 4, 8, 8), (1, 4, 1030), (2, 4, 3, 2, 3)]
SHARINGS = [(2, 1), (2, 2), (4, 2)]  # activations, blocks


def inputs(shape, activations, dtype=torch.float64):
    """x with means that are large beside the spread, coef, w, γ, β."""
    sizes = shape, (activations, 8), (activations,), (shape[1],), (shape[1],)
    x, *others = (torch.randn(size, dtype=torch.float64) for size in sizes)
    return [t.to(DEVICE, dtype) for t in (2 * x + 5, *others)]


def torchs(kind, x, gamma, beta):
    if kind == "batch":
        return F.batch_norm(x, None, None, gamma, beta, True, 0.1, EPS)
    if kind == "instance":
        return F.instance_norm(x, None, None, gamma, beta, True, 0.1, EPS)
    return F.group_norm(x, 2, gamma, beta, EPS)


def wanted(tensors, g, kind, phi):
    """φ(norm(x)) and the gradients of all tensors, in float64."""
    x, coef, weight, gamma, beta = leaves = [t.detach().double().requires_grad_() for t in tensors]
    options = {"input_grad": "exact" if phi.exact else "free", "blocks": phi.blocks, "impl": "reference"}
    out = shared_spline(torchs(kind, x, gamma, beta), coef, weight, GRID, phi.spline_order, **options)
    return [out, *torch.autograd.grad(out, leaves, g.double())]


def ours(tensors, g, kind, phi):
    """The same by the engine's functions, in the order in which a layer calls them."""
    x, coef, weight, gamma, beta = tensors
    how, norm = KINDS[kind], triton_engine.NORM
    found = norm.statistics(x, how)
    to = norm.affine(found, gamma, beta, how, x.shape[1])
    out = triton_engine.forward(x, coef, weight, phi, to)
    inner, grad_coef, grad_weight, sums = triton_engine.backward(g.to(x.dtype), x, coef, weight, phi, to)
    of_input = norm.input_gradient(sums, found, gamma, how, x.shape[1])
    return [out, norm.apply_gradient(inner, x, of_input), grad_coef, grad_weight, of_input.gamma, of_input.beta]


def assert_right(tensors, kind, phi):
    x = tensors[0]
    g = torch.randn(len(x), x.shape[1] * len(tensors[1]) // phi.blocks, *x.shape[2:], device=DEVICE).to(x.dtype)
    mine, theirs = ours(tensors, g, kind, phi), wanted(tensors, g, kind, phi)
    assert [t.dtype for t in mine[:4]] == [x.dtype] * 4
    for a, b in zip(mine, theirs, strict=True):
        assert a.shape == b.shape
        assert float((a.double() - b.detach()).norm() / b.detach().norm().clamp(min=1e-9)) < TOLERANCE[x.dtype]
    return mine


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_norm_at_odd_sizes(kind, shape):
    assert_right(inputs(shape, 1), kind, Phi(5, 3, GRID))


@pytest.mark.parametrize(("kind", "exact"), zip(KINDS, [True, False, True], strict=True))
@pytest.mark.parametrize(("activations", "blocks"), SHARINGS)
def test_every_sharing(kind, activations, blocks, exact):
    assert_right(inputs((3, 4, 3, 5), activations), kind, Phi(5, 3, GRID, exact=exact, blocks=blocks))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("shape", "activations", "blocks"), [((3, 4, 3, 5), 1, 1), ((2, 40, 5, 3), 1, 1), ((2, 8, 3, 5), 4, 2), ((2, 4, 9, 15), 2, 1)]
)
def test_channels_last_stays(kind, shape, activations, blocks):
    x, *others = inputs(shape, activations)
    out, grad_x, *_ = assert_right([x.to(memory_format=torch.channels_last), *others], kind, Phi(5, 3, GRID, blocks=blocks))
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert grad_x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_strided_input_and_gradients_and_lines_of_one_element():
    x, *others = inputs((3, 5, 4, 6), 2)
    for view in (x.transpose(1, 3), x[:, :4, ::2], x[:, :4].to(memory_format=torch.channels_last)[..., ::3]):
        count = view.shape[1]
        assert_right(
            [view, *others[:2], *(torch.randn(count, dtype=torch.float64, device=DEVICE) for _ in range(2))],
            "batch",
            Phi(5, 3, GRID),
        )
    phi, tensors = Phi(5, 3, GRID, blocks=2), inputs((3, 4, 2, 5), 2)
    strided = torch.randn(3, 2, 5, 4, dtype=torch.float64, device=DEVICE).permute(0, 3, 1, 2)
    for a, b in zip(ours(tensors, strided, "group", phi), wanted(tensors, strided, "group", phi), strict=True):
        torch.testing.assert_close(a, b.detach())
    assert_right(inputs((37, 6), 3), "batch", Phi(5, 3, GRID, blocks=3))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_every_type(dtype, kind, last):
    x, *others = inputs((2, 4, 9, 7), 2, dtype)
    x = x.to(memory_format=torch.channels_last if last else torch.contiguous_format)
    assert_right([x, *others], kind, Phi(5, 3, GRID))


@pytest.mark.parametrize("last", [False, True])
def test_sums_of_a_run_of_tiles_stay_in_registers(last, monkeypatch):
    """Many tiles for few programs: lines of 3000 elements come in several runs of several tiles."""
    monkeypatch.setattr(triton_tiles, "_lines", triton_tiles._lines.__wrapped__)  # keeps nothing
    monkeypatch.setattr(triton_tiles, "_LONGEST", 4)
    monkeypatch.setattr(triton_tiles, "multiprocessors", lambda device: 0)
    x, *others = inputs((1, 4, 60, 50), 1)
    x = x.to(memory_format=torch.channels_last if last else torch.contiguous_format)
    lines = triton_tiles.lines(x, 1, 1, last, 512, 8)
    assert lines.steps > 1
    assert lines.runs > 1
    assert_right([x, *others], "group", Phi(5, 3, GRID))


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "last", "size"), [((2, 4, 3, 5), True, 5), ((3, 4, 5), False, 40)])
def test_more_sums_than_registers_and_64_bit_offsets(shape, last, size, monkeypatch):
    """A pass for the input and one for the sums; and the same bits with wide offsets."""
    x, _, weight, *others = inputs(shape, 5)
    x = x.to(memory_format=torch.channels_last) if last else x
    tensors = [x, torch.randn(5, size + 3, dtype=torch.float64, device=DEVICE), weight, *others]
    assert_right(tensors, "group", Phi(size, 3, GRID))
    g = torch.randn(len(x), 5 * x.shape[1], *x.shape[2:], dtype=torch.float64, device=DEVICE)
    narrow = ours(tensors, g, "group", Phi(size, 3, GRID))
    monkeypatch.setattr(triton_tiles, "_lines", triton_tiles._lines.__wrapped__)
    monkeypatch.setattr(triton_tiles, "WIDE_FROM", 0)
    assert triton_tiles.lines(x, 1, 1, last, 512, 8).shape["WIDE"]
    assert all(torch.equal(a, b) for a, b in zip(ours(tensors, g, "group", Phi(size, 3, GRID)), narrow, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_repetition_does_not_change_a_bit_and_nothing_is_left_unwritten(kind, monkeypatch):
    tensors, g = inputs((3, 4, 5, 7), 2, torch.float32), torch.randn(3, 8, 5, 7, device=DEVICE)
    first = ours(tensors, g, kind, Phi(5, 3, GRID))
    real_empty, real_like, real_new = torch.empty, torch.empty_like, torch.Tensor.new_empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: real_empty(*a, **k).fill_(float("nan")))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: real_like(*a, **k).fill_(float("nan")))
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *a, **k: real_new(*a, **k).fill_(float("nan")))
    assert all(torch.equal(a, b) for a, b in zip(first, ours(tensors, g, kind, Phi(5, 3, GRID)), strict=True))


@pytest.mark.parametrize("weights", ["γ, β", "γ", "β", ""])
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_those_of_plain_torch(kind, weights):
    """Also without γ and β, for 20 samples (a program takes 16 at a time) and more channels than a program takes."""
    for shape in ((20, 6, 5), (2, 140, 3)):
        x, _, _, gamma, beta = inputs(shape, 1)
        gamma, beta = gamma if "γ" in weights else None, beta if "β" in weights else None
        how, sums = KINDS[kind], torch.randn(3, shape[0] * shape[1], 2, dtype=torch.float64, device=DEVICE)
        mine, theirs = [], []
        for module, results in ((triton_norm, mine), (normalise, theirs)):
            found = module.statistics(x, how)
            assert found.of == x.numel() // found.mean.numel()
            of_input = module.input_gradient(sums, found, gamma, how, shape[1])
            results += [*found[:2], *module.affine(found, gamma, beta, how, shape[1]), *of_input]
            results.append(module.apply_gradient(x + 1, x, of_input))
        torch.testing.assert_close(mine, theirs)


def test_given_statistics_are_constants():
    x, coef, weight, gamma, beta = inputs((2, 4, 5, 3), 1)
    how = ChannelNorm(0, False, EPS, fixed=True)
    mean, var = (
        torch.randn(1, 4, dtype=torch.float64, device=DEVICE) + 5,
        torch.rand(1, 4, dtype=torch.float64, device=DEVICE) + 0.5,
    )
    x.requires_grad_()
    norm = Norm(how, gamma, beta, Statistics(mean, var, 0))
    eye = torch.eye(4, dtype=torch.float64, device=DEVICE).view(4, 4, 1, 1)
    same = Mapped(Convolution((1, 1), (0, 0), (1, 1)), eye, None)
    (out,) = ka_layer(x, coef, weight, Phi(5, 3, GRID, impl="triton"), norm, (same,))
    u = F.batch_norm(x, mean[0], var[0], gamma, beta, False, 0.1, EPS)
    theirs = shared_spline(u, coef, weight, GRID, impl="reference")
    torch.testing.assert_close(out, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), x)[0] for y in (out, theirs)))


def test_statistics_in_half_precision_are_computed_with_in_float32():
    mean, var = torch.randn(1, 4, device=DEVICE).bfloat16(), torch.rand(1, 4, device=DEVICE).bfloat16() + 0.5
    gamma, how = torch.randn(4, device=DEVICE).bfloat16(), ChannelNorm(0, False, EPS, fixed=True)
    mine = triton_norm.affine(Statistics(mean, var, 0), gamma, None, how, 4)
    torch.testing.assert_close(mine, normalise.affine(Statistics(mean.float(), var.float(), 0), gamma.float(), None, how, 4))


@pytest.mark.parametrize("kind", ["batch", "group"])
def test_a_whole_layer(kind):
    x, coef, weight, gamma, beta = tensors = [t.requires_grad_() for t in inputs((2, 4, 5, 3), 2)]
    phi, kernel = Phi(5, 3, GRID, impl="triton"), torch.randn(6, 8, 3, 3, dtype=torch.float64, device=DEVICE)
    norm = Norm(KINDS[kind], gamma, beta, norm_functions(x, phi).statistics(x, KINDS[kind]))
    (out,) = ka_layer(x, coef, weight, phi, norm, (Mapped(Convolution((1, 1), (1, 1), (1, 1)), kernel, None),))
    theirs = F.conv2d(shared_spline(torchs(kind, x, gamma, beta), coef, weight, GRID, impl="reference"), kernel, padding=1)
    torch.testing.assert_close(out, theirs)
    mine, expected = (torch.autograd.grad(y.square().sum(), tensors) for y in (out, theirs))
    torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_survive_a_mean_that_is_large_beside_the_spread(kind):
    x = torch.randn(3, 4, 37, 5, device=DEVICE) + torch.tensor([0.0, 1e3, -1e4, 1.0], device=DEVICE).view(1, 4, 1, 1)
    mine, wide = triton_norm.statistics(x, KINDS[kind]), normalise.statistics(x.double(), KINDS[kind])
    torch.testing.assert_close(mine.mean.double(), wide.mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(mine.var.double(), wide.var, rtol=1e-5, atol=1e-5)


def test_empty_batches_and_nan():
    how, phi = KINDS["batch"], Phi(5, 3, GRID)
    x, coef, weight, gamma, beta = inputs((0, 4, 3), 1)
    assert all(t.shape[0] in (0, 1, 4, 8) for t in ours([x, coef, weight, gamma, beta], x, "instance", phi))
    x = inputs((2, 4, 3), 1)[0]
    x[1, 2, 1] = float("nan")
    found = triton_norm.statistics(x, how)
    assert found.mean.isnan().tolist() == found.var.isnan().tolist() == [[False, False, True, False]]


def test_the_gradient_of_x_is_written_over_that_of_u():
    x, g = torch.randn(2, 3, 5, device=DEVICE), torch.randn(2, 3, 5, device=DEVICE)
    one = torch.ones(1, 3, device=DEVICE)
    expected, place = 2 * g + x + 1, g.data_ptr()
    mine = triton_norm.apply_gradient(g, x, InputGradient(2 * one, one, one, one[0], one[0]))
    torch.testing.assert_close(mine, expected)
    assert mine.data_ptr() == place
