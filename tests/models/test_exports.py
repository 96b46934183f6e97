"""Whole networks, traced and exported, compute what they compute, for images of other sizes than the example's."""

import io

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from allukan.errors import UserError
from allukan.models import build_model
from allukan.models.borrowed import Padded
from allukan.models.pooling import max_pool

NETWORKS = {
    "allukan-tiny": {},
    "allukan-paper-tiny": {},
    "ukan": {"size": "tiny"},
    "ukan-sprecher": {"size": "tiny"},
    "convtwin-tiny": {"norm": "group"},
}

THREE_D = pytest.param("allukan-tiny", 3, marks=pytest.mark.slow)


def network(name, spatial_dims=2):
    torch.manual_seed(0)
    return build_model(name, in_channels=1, out_channels=2, spatial_dims=spatial_dims, **NETWORKS[name]).eval()


def close(found, wanted):
    assert found.shape == wanted.shape
    return bool((found - wanted).abs().max() < 1e-4 * wanted.abs().max())


def saved_and_loaded(model, x):
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(model, (x,), check_trace=False), file)
    file.seek(0)
    return torch.jit.load(file)


def test_a_saved_trace_serves_any_size():
    model = network("allukan-tiny")
    loaded = saved_and_loaded(model, torch.randn(1, 1, 64, 64))
    for size in ((1, 1, 64, 64), (2, 1, 33, 50)):
        x = torch.randn(size)
        assert close(loaded(x), model(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of torch's own group norm
@pytest.mark.parametrize(
    ("name", "dims"), [("allukan-paper-tiny", 2), ("ukan", 2), ("ukan-sprecher", 2), ("convtwin-tiny", 2), ("allukan-tiny", 3)]
)
def test_so_does_that_of_every_other_network(name, dims):
    model = network(name, dims)
    loaded = saved_and_loaded(model, torch.randn(1, 1, *[32] * dims))
    for size in ((1, 1, *[32] * dims), (2, 1, *[35, 48, 40][:dims])):
        x = torch.randn(size)
        assert close(loaded(x), model(x))


@pytest.mark.slow
def test_make_fx_of_a_network_computes_the_same():
    model, x = network("allukan-paper-tiny"), torch.randn(1, 1, 32, 32)
    graph = make_fx(model)(torch.randn(1, 1, 32, 32))
    assert not [n for n in graph.graph.nodes if "allukan" in str(n.target)]
    assert close(graph(x), model(x))


@pytest.mark.parametrize(
    ("name", "dims"), [("allukan-paper-tiny", 2), ("ukan-sprecher", 2), pytest.param("allukan-tiny", 3, marks=pytest.mark.slow)]
)
def test_it_is_built_and_trained_without_memory(name, dims):
    with FakeTensorMode():
        model = network(name, dims).train()
        logits = model(torch.randn(2, 1, *[64] * dims))
        logits.float().square().mean().backward()
    assert logits.shape == (2, 2, *[64] * dims)
    assert all(p.grad.shape == p.shape for p in model.parameters())


def test_pooling_is_traced_as_an_operator():
    x = torch.randn(1, 2, 5, 4, requires_grad=True)
    traced = torch.jit.trace(lambda x: max_pool(x, (1, 2)), (x,))
    other = torch.randn(2, 3, 7, 9)
    assert torch.equal(traced(other), max_pool(other, (1, 2)))


@pytest.mark.parametrize("name", ["allukan-tiny", "convtwin-tiny"])
def test_what_cannot_follow_a_network_says_so(name, tmp_path):
    model, x = network(name), torch.randn(1, 1, 32, 32)
    for refuse, word in [
        (lambda: torch.onnx.export(model, (x,), tmp_path / "model.onnx", dynamo=False), "dynamo=True"),
        (lambda: torch.jit.script(model), "torch.jit.trace"),
        (lambda: torch.fx.symbolic_trace(model), "torch.export.export"),
    ]:
        with pytest.raises(UserError, match=word):
            refuse()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", ["layer", "2", "edge", "sprecher", "network"])
def test_an_onnx_file_computes_the_same_for_any_size(what, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from allukan.nn import KAConv2d, Spline, SprecherLinear

    dynamic = torch.export.Dim.DYNAMIC
    shape, others, dims = (2, 2, 9, 11), [(3, 2, 7, 13), (1, 2, 9, 11)], {0: dynamic, 2: dynamic, 3: dynamic}
    if what == "network":  # as shallow as it can be: every layer is hundreds of nodes, and exporting 50 of them takes minutes
        model = build_model("allukan-tiny", in_channels=1, out_channels=2, topology={"depth": 1, "token_depth": 1})
        shape, others = (2, 1, 64, 64), [(1, 1, 96, 64), (2, 1, 33, 50)]
    elif what == "sprecher":
        model, shape, others, dims = SprecherLinear(4, 5), (3, 4), [(7, 4)], {0: dynamic}
    else:
        model = KAConv2d(2, 4, 3, padding=1, spline=Spline(sharing=int(what) if what == "2" else what))
    file = tmp_path / "model.onnx"
    torch.onnx.export(model.eval(), (torch.randn(shape),), dynamo=True, dynamic_shapes=(dims,)).save(file)
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for size in (shape, *others):
        x = torch.randn(size)
        (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        assert close(torch.from_numpy(y), model(x).detach())


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_traced_network_of_another_library_pads_every_size():
    net = build_model("attention-unet", in_channels=1, out_channels=1, channels=(4, 8, 16, 16)).eval()
    traced = torch.jit.trace(net, torch.randn(1, 1, 64, 64))
    for size in [(10, 12), (9, 40), (33, 16)]:
        x = torch.randn(2, 1, *size)
        torch.testing.assert_close(traced(x), net(x))


@pytest.mark.parametrize("example", [64, 65])
def test_an_exported_network_of_another_library_pads_every_size(example):
    """Those that need no padding as well, whatever the exporter saw."""
    dynamic = torch.export.Dim.DYNAMIC
    layers = nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(4), nn.Upsample(scale_factor=4)
    net = Padded(nn.Sequential(*layers), 1, 2, 2, 4).eval()
    free = {0: dynamic, 2: dynamic, 3: dynamic}
    exported = torch.export.export(net, (torch.zeros(2, 1, example, example),), dynamic_shapes=(free,)).module()
    for size in [(64, 64), (48, 41), (41, 48), (33, 33)]:
        x = torch.randn(3, 1, *size)
        torch.testing.assert_close(exported(x), net(x))
