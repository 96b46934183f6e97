"""The Triton kernels against the reference in float64: on a GPU where there is one, else through Triton's interpreter."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

from allukan.ops import shared_spline
from allukan.ops.activations import base_function
from allukan.ops.engines import dispatch, triton_engine, triton_tiles
from allukan.ops.phi import Phi
from allukan.ops.spline_autograd import shared_spline_backward_op, shared_spline_op

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter is numpy, which remarks on inf and NaN
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GRID = (-3.0, 3.0)
LEAKY = "leaky_relu:0.1"
KNOWN = [LEAKY if kind == "leaky_relu" else kind for kind in triton_engine.BASE_KINDS]
# largest relative RMS error against float64 on the same inputs
TOLERANCE = {
    torch.float64: 1e-12,  # the same formulas: roundings and the order of sums
    torch.float32: 3e-6,  # u = (x - lo)/h carries a rounding of the size of the grid, e^x and 1/x are good to 3e-7
    torch.float16: 2.0**-10,  # one rounding of the result: 2^-11; Triton's interpreter cuts off instead, which is twice that
    torch.bfloat16: 2.0**-7,  # the same with 8 bits
}
# elements, batch and channels around the sizes of tiles (1024 forward, 512 or less backward)
FLAT = [(), (1,), (3,), (63,), (100,), (1000,), (1023,), (1025,), (2, 3, 7), (2, 1, 41, 50)]
MANY = [
    ((2, 6, 5, 3), 4, 2),
    ((3, 4, 5), 4, 4),
    ((2, 3), 6, 3),
    ((1, 2, 3, 4, 5), 3, 1),
    ((1, 2, 1100), 2, 2),
    ((5, 1, 9), 4, 1),
]


def inputs(shape, a, order=3, dtype=torch.float64, size=5):
    shapes = shape, (a, size + order), (a,)
    x, coef, weight = (torch.randn(s, dtype=torch.float64).to(DEVICE, dtype) for s in shapes)
    return [t.requires_grad_() for t in (2 * x, coef, weight)]


def rms(a, b):
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    return float((a - b).norm() / b.norm().clamp(min=1e-12))


def value_and_gradients(tensors, g, **options):
    tensors = [t.detach().clone().requires_grad_() for t in tensors]  # clone keeps the memory format
    out = shared_spline(*tensors, options.pop("grid", GRID), **options)
    return [out, *torch.autograd.grad(out, tensors, g.to(out.dtype))]


def assert_is_the_reference(tensors, **options):
    dtype = tensors[0].dtype
    wide = [t.detach().double().cpu() for t in tensors]  # torch's hardswish on CUDA has 1/6 in float32 even in float64
    g = torch.randn_like(shared_spline(*wide, options.get("grid", GRID), impl="reference", **without(options))).to(dtype)
    mine = value_and_gradients(tensors, g.to(DEVICE), impl="triton", **options)
    expected = value_and_gradients(wide, g, impl="reference", **options)
    for a, b in zip(mine, expected, strict=True):
        assert a.dtype == dtype
        assert a.shape == b.shape
    (out, grad_x, *sums), (wide_out, wide_grad_x, *wide_sums) = mine, expected
    sums, wide_sums = (
        torch.cat([t.flatten() for t in ts]) for ts in (sums, wide_sums)
    )  # one of them alone may cancel to nothing
    for a, b in ((out, wide_out), (grad_x, wide_grad_x), (sums, wide_sums)):
        assert rms(a, b) < TOLERANCE[dtype]
    return mine


def without(options):
    return {name: value for name, value in options.items() if name != "grid"}


@pytest.mark.parametrize("shape", FLAT, ids=str)
def test_one_activation_at_odd_sizes(shape):
    assert_is_the_reference(inputs(shape, 1))


@pytest.mark.parametrize(("shape", "a", "blocks"), MANY, ids=str)
@pytest.mark.parametrize("input_grad", ["exact", "free"])
def test_many_activations(shape, a, blocks, input_grad):
    assert_is_the_reference(inputs(shape, a), blocks=blocks, input_grad=input_grad)


@pytest.mark.parametrize("base", KNOWN)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_every_base(base, dtype):
    assert_is_the_reference(inputs((100,), 1, dtype=dtype), base=base)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("input_grad", ["exact", "free"])
def test_every_order(order, input_grad):
    assert_is_the_reference(inputs((2, 2, 50), 2, order), spline_order=order, input_grad=input_grad, blocks=2)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("shape", "a", "blocks"), [((1023,), 1, 1), ((2, 4, 9), 2, 1)], ids=str)
def test_every_type(dtype, shape, a, blocks):
    assert_is_the_reference(inputs(shape, a, dtype=dtype), blocks=blocks)


@pytest.mark.parametrize(
    ("size", "order", "grid"), [(1, 3, (0.0, 1.0)), (13, 2, (-4.0, 2.0)), (32, 3, GRID), (64, 1, (-2.0, 5.0))]
)
def test_grids_whose_sums_do_and_do_not_fit_in_registers(size, order, grid):
    assert_is_the_reference(inputs((300,), 1, order, size=size), grid=grid, spline_order=order)


def test_more_activations_than_fit_in_registers():
    assert_is_the_reference(inputs((2, 2, 30), 5), blocks=1)


def test_a_program_walks_over_many_tiles():
    """Sums in float32 over 12 tiles and several programs; the reference sums in float64."""
    workers = triton_tiles.workers(torch.empty(1, 1, 6001, device=DEVICE), {"TILE_ROWS": 1, "COLS": 512}, 8)
    assert DEVICE == "cuda" or 1 < workers < 12
    assert_is_the_reference(inputs((6001,), 1, dtype=torch.float32))


@pytest.mark.parametrize(
    ("shape", "a", "blocks"), [((2, 3, 5, 4), 1, 1), ((2, 8, 5, 3), 3, 1), ((2, 8, 3, 5), 4, 2), ((1, 8, 2, 3, 4), 2, 2)], ids=str
)
def test_channels_last_stays_and_is_not_copied(shape, a, blocks, monkeypatch):
    x, coef, weight = inputs(shape, a)
    memory_format = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    seen = []
    real = triton_engine._forward
    monkeypatch.setattr(triton_engine, "_forward", lambda x, *rest: seen.append(x) or real(x, *rest))
    out, grad_x, *_ = assert_is_the_reference([x.detach().to(memory_format=memory_format), coef, weight], blocks=blocks)
    assert out.is_contiguous(memory_format=memory_format)
    assert grad_x.is_contiguous(memory_format=memory_format)
    last = x.detach().to(memory_format=memory_format)
    shared_spline(last, coef, weight, GRID, blocks=blocks, impl="triton")
    assert seen[-1].data_ptr() == last.data_ptr()
    assert seen[-1].is_contiguous()


def test_short_runs_of_channels_and_strided_input_are_copied_and_right():
    x, coef, weight = inputs((2, 4, 3, 5), 4)
    assert_is_the_reference(
        [x.detach().to(torch.float32).to(memory_format=torch.channels_last), coef.float(), weight.float()], blocks=4
    )
    for view in (x[:, :, ::2], x.transpose(1, 3), x[:, :1].expand_as(x)):
        wanted = shared_spline(view.contiguous(), coef[:2], weight[:2], GRID, impl="reference")
        mine = shared_spline(view, coef[:2], weight[:2], GRID, impl="triton")
        torch.testing.assert_close(mine, wanted, check_stride=False)


@pytest.mark.parametrize("a", [1, 2])
def test_expanded_and_strided_gradients(a):
    tensors = inputs((2, 2, 9), a)
    shape = (2, 2 * a, 9)
    for g in (torch.ones((), dtype=torch.float64).expand(shape), torch.randn(2, 9, 2 * a, dtype=torch.float64).transpose(1, 2)):
        expected = value_and_gradients(tensors, g.contiguous().to(DEVICE), impl="reference")
        for mine, theirs in zip(value_and_gradients(tensors, g.to(DEVICE), impl="triton"), expected, strict=True):
            assert rms(mine, theirs) < 1e-12


@pytest.mark.parametrize("base", KNOWN)
def test_nan_infinity_and_the_far_outside_meet_the_base_only(base):
    points = [3e38, -3e38, 1e30, -1e30, -5e3, 40.0, float("inf"), -float("inf"), float("nan"), 0.3]
    x = torch.tensor(points, device=DEVICE, requires_grad=True)
    coef, weight = torch.randn(1, 8, device=DEVICE), torch.ones(1, device=DEVICE)
    out = shared_spline(x, coef, weight, GRID, base=base, impl="triton")
    wide = x.detach().double().requires_grad_()  # at the edge of float32 torch's own kernels differ between CPUs
    expected = base_function(base)(wide)
    torch.testing.assert_close(out[:-1], expected[:-1].float(), equal_nan=True)  # SiLU at -inf is NaN in torch too
    mine, theirs = torch.autograd.grad(out.sum(), x)[0], torch.autograd.grad(expected.sum(), wide)[0]
    torch.testing.assert_close(mine[:-2], theirs[:-2].float(), equal_nan=True)
    assert out[-2].isnan()
    assert out[-1].isfinite()


def test_no_output_is_left_unwritten(monkeypatch):
    real_empty, real_like, real_new = torch.empty, torch.empty_like, torch.Tensor.new_empty

    def poison(t):
        return t.fill_(float("nan")) if t.is_floating_point() else t

    monkeypatch.setattr(torch, "empty", lambda *a, **k: poison(real_empty(*a, **k)))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: poison(real_like(*a, **k)))
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *a, **k: poison(real_new(*a, **k)))
    for shape, a, blocks, size in [((1025,), 1, 1, 5), ((3, 2, 5), 4, 2, 5), ((9,), 1, 1, 40), ((2, 1, 3), 5, 1, 5)]:
        tensors = inputs(shape, a, dtype=torch.float32, size=size)
        out = shared_spline(*tensors, GRID, blocks=blocks, impl="triton")
        gradients = torch.autograd.grad(out.sum(), tensors)
        assert all(t.isfinite().all() for t in (out, *gradients))


@pytest.mark.parametrize(("shape", "a", "blocks"), [((0, 4, 3), 4, 2), ((2, 0, 3), 1, 1), ((2, 4, 0), 2, 1)])
def test_empty_batches(shape, a, blocks):
    x, coef, weight = inputs(shape, a)
    out = shared_spline(x, coef, weight, GRID, blocks=blocks, impl="triton")
    assert out.numel() == 0
    out.sum().backward()
    assert coef.grad.abs().sum() == 0


def test_repetition_does_not_change_a_bit():
    tensors, g = inputs((2003,), 1, dtype=torch.float32), torch.randn(2003, device=DEVICE)
    runs = [value_and_gradients(tensors, g, impl="triton") for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize(("shape", "a", "blocks"), [((1025,), 1, 1), ((3, 4, 5), 4, 2)])
def test_64_bit_offsets_change_nothing(shape, a, blocks, monkeypatch):
    tensors = inputs(shape, a)
    g = torch.randn_like(shared_spline(*tensors, GRID, blocks=blocks, impl="reference"))
    narrow = value_and_gradients(tensors, g, blocks=blocks, impl="triton")
    monkeypatch.setattr(triton_tiles, "WIDE_FROM", 0)
    assert triton_tiles.flat(tensors[0].reshape(1, 1, -1), tensors[1].view(1, a, -1), 512)["WIDE"]
    for a, b in zip(value_and_gradients(tensors, g, blocks=blocks, impl="triton"), narrow, strict=True):
        assert torch.equal(a, b)


def test_gradients_are_finite_differences():
    x, coef, weight = inputs((2, 2, 2), 2)

    def function(*tensors):
        return shared_spline(*tensors, GRID, blocks=2, impl="triton")

    assert torch.autograd.gradcheck(function, (x, coef, weight), fast_mode=True)


@pytest.mark.parametrize(("a", "blocks", "last"), [(1, 1, True), (2, 2, False), (4, 2, True)])
def test_opcheck(a, blocks, last):
    """The operators of torch.library describe their outputs to the letter, strides included."""
    x, coef, weight = inputs((2, 16, 3, 2), a, dtype=torch.float32)
    x = x.detach().to(memory_format=torch.channels_last if last else torch.contiguous_format)
    options = (*GRID, 3, "bspline", "silu", True, blocks, "triton")
    utils = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(shared_spline_op, (x, coef, weight, *options), test_utils=utils)
    g = torch.randn_like(shared_spline_op(x, coef, weight, *options))
    plain = g, x, coef.detach(), weight.detach()
    torch.library.opcheck(shared_spline_backward_op, (*plain, *options), test_utils=utils[:2])


def test_compile_sees_no_graph_break():
    x, coef, weight = inputs((2, 16, 3, 2), 4, dtype=torch.float32)
    x = x.detach().to(memory_format=torch.channels_last).requires_grad_()

    def function(*tensors):
        return (shared_spline(*tensors, GRID, blocks=2, impl="triton") * 2).square().sum()

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    mine, theirs = (torch.autograd.grad(f(x, coef, weight), (x, coef, weight)) for f in (compiled, function))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


WRONG = {
    "not installed": ({"triton": None}, {}, "pip install triton"),
    "not interpreted": ({"interpreted": False}, {}, "runs on CUDA and x is on cpu"),
    "wrong device": ({"interpreted": True, "device": "meta"}, {}, "TRITON_INTERPRET is set"),
    "unknown base": ({"bases": ("relu",), "interpreted": True}, {}, "no base activation 'silu'"),
}


def without_triton(monkeypatch):
    monkeypatch.delitem(dispatch.ENGINES, "triton")
    monkeypatch.setattr(dispatch, "find_spec", lambda name: None)
    monkeypatch.setitem(dispatch.UNAVAILABLE, "triton", "")  # put back afterwards
    dispatch._load("triton", "allukan.ops.engines.triton_engine", "triton")


@pytest.mark.parametrize("case", WRONG)
def test_named_it_runs_or_says_in_one_sentence_why_not(case, monkeypatch):
    change, options, word = WRONG[case]
    x, coef, weight = (t.detach().to(change.get("device", "cpu")) for t in inputs((2, 3), 1))
    monkeypatch.setattr(dispatch, "_chosen", dispatch._chosen.__wrapped__)
    if "triton" in change:
        without_triton(monkeypatch)
    monkeypatch.setattr(triton_engine, "INTERPRETED", change.get("interpreted", False))
    monkeypatch.setattr(triton_engine, "BASE_KINDS", change.get("bases", triton_engine.BASE_KINDS))
    with pytest.raises(ValueError, match=word) as caught:
        shared_spline(x, coef, weight, impl="triton", **options)
    assert "\n" not in str(caught.value)


def test_auto_is_native_on_a_cpu_and_triton_or_a_logged_eager_on_cuda(monkeypatch, caplog):
    def auto(device, order):
        return dispatch._chosen.__wrapped__(Phi(5, order, GRID), device, torch.float32)

    assert [auto("cpu", order) for order in (3, 4)] == ["native", "eager"]
    monkeypatch.setattr(triton_engine, "INTERPRETED", False)
    assert auto("cuda", 4) == "triton"
    without_triton(monkeypatch)
    dispatch._log_once.cache_clear()
    with caplog.at_level(logging.WARNING, logger="allukan"):
        assert [auto("cuda", 3) for _ in range(2)] == ["eager"] * 2
    assert len(caplog.records) == 1
    assert "pip install triton" in caplog.text


@pytest.mark.slow
def test_kernels_compile_for_a_gpu_that_is_not_here(tmp_path):
    """The interpreter accepts what the compiler does not; compiling for sm_90 needs no GPU. Warnings are errors."""
    script = Path(__file__).with_name("compile_kernels.py")
    paths = os.pathsep.join(filter(None, sys.path))
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env |= {"PYTHONPATH": paths, "TRITON_CACHE_DIR": str(tmp_path), "PYTHONWARNINGS": "error::UserWarning"}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "compiled\n"


@pytest.mark.skipif(DEVICE != "cuda", reason="needs a GPU")
def test_a_cuda_graph_records_both_passes():
    """As torch wants it: what comes before runs on another stream, and nothing of it is kept for a backward pass."""
    x, coef, weight = inputs((2, 16, 33), 4, dtype=torch.float32)
    g = torch.randn(2, 64, 33, device=DEVICE)

    def step():
        out = shared_spline(x, coef, weight, GRID, impl="triton")
        return [out.detach(), *torch.autograd.grad(out, (x, coef, weight), g)]

    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        expected = step()
    with torch.cuda.graph(graph, stream=stream):
        recorded = step()
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(recorded, expected, strict=True))
