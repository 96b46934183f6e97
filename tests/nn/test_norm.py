"""Units, normalise → φ → mix, against torch's norm, a Cox–de Boor spline under autograd and torch's convolution in float64."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from allukan.costs import saved_bytes
from allukan.nn import KAConv1d, KAConv2d, KAConv3d, KAFork2d, KALinear, Spline, StackedKANConv2d, StackedKANLinear
from allukan.nn.norm import make_norm
from allukan.ops import bspline
from allukan.training.parameters import parameter_groups

CONVS = {1: KAConv1d, 2: KAConv2d, 3: KAConv3d}
BATCHES = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCES = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
SHARINGS = ("layer", "input", 2, "output", "edge")
NAMES = ("batch", "instance", "group", "layer")
MODULES = {
    "momentum None": lambda dims: BATCHES[dims](4, momentum=None),
    "no statistics": lambda dims: BATCHES[dims](4, track_running_stats=False),
    "no affine": lambda dims: BATCHES[dims](4, affine=False),
    "sync": lambda dims: nn.SyncBatchNorm(4),
    "instance with statistics": lambda dims: INSTANCES[dims](4, track_running_stats=True),
    "one group": lambda dims: nn.GroupNorm(1, 4, eps=0.1),
    "layer without affine": lambda dims: nn.LayerNorm(4, elementwise_affine=False),
}


def stirred(layer):
    """Away from the start, with a scale and a shift of their own for every input and running statistics of some data."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
        for name, buffer in layer.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    return layer.double()


def activated(layer, x):
    """φ_pq of every edge of a layer without groups: x ``(B, C, *S)`` → ``(B, C', C, *S)``; for "edge" λ is in it."""
    s = layer.spline
    values = bspline.basis(x, s.grid_size, s.spline_order, s.grid_range)  # (B, C, *S, M)
    base, outputs = F.silu(x), len(layer.weight)
    if s.sharing == "input":
        shape = (1, -1, *[1] * (x.ndim - 2))
        h = layer.base_weight.view(shape) * base + torch.einsum("bc...m,cm->bc...", values, layer.coef)
        return h.unsqueeze(1).expand(-1, outputs, *[-1] * (x.ndim - 1))
    each = torch.arange(outputs) * len(layer.coef) // outputs
    weights = layer.base_weight[each].view(1, -1, *[1] * (x.ndim - 1))
    return weights * base.unsqueeze(1) + torch.einsum("bc...m,om->boc...", values, layer.coef[each])


def mixed(layer, x, mix):
    """What the layer makes of x̂, one output after the other; ``mix(h, weight)`` is the linear map with one output."""
    outputs = len(layer.weight)
    if layer.spline.sharing == "edge":
        s = layer.spline
        basis = bspline.basis(x, s.grid_size, s.spline_order, s.grid_range).movedim(-1, 2).flatten(1, 2)  # (B, C·M, *S)
        coef = layer.weight.unsqueeze(-1) * layer.coef.view(*layer.weight.shape, -1)
        return mix(F.silu(x), layer.base_weight.view_as(layer.weight)) + mix(basis, coef.movedim(-1, 2).flatten(1, 2))
    h = activated(layer, x)
    return torch.cat([mix(h[:, q], layer.weight[q : q + 1]) for q in range(outputs)], dim=1)


def composed(layer, norm, x):
    """Torch's norm of another copy, the spline by recursion, torch's convolution: all under autograd."""
    last = isinstance(norm, nn.LayerNorm)
    x = norm(x.movedim(1, -1)).movedim(-1, 1) if last else norm(x)
    if isinstance(layer, KALinear):
        y = mixed(layer, x, F.linear)
        return y + layer.bias
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[layer.spatial_dims]
    mode = layer.padding_mode
    if mode != "zeros":
        x = F.pad(x, layer.padding_widths(), mode=mode)
    padding = layer.padding if mode == "zeros" else 0
    y = mixed(layer, x, lambda h, w: convolve(h, w, None, layer.stride, padding))
    return y + layer.bias.view(1, -1, *[1] * layer.spatial_dims)


def assert_same(layer, x, training=True):
    """The output, every gradient, and what the norm has seen of the data."""
    layer.train(training)
    other = copy.deepcopy(layer)
    xs = [x.clone().requires_grad_() for _ in range(2)]
    ys = [layer(xs[0]), composed(other, other.norm, xs[1])]
    torch.testing.assert_close(*ys)
    g = torch.randn_like(ys[0])
    grads = [torch.autograd.grad(y, [at, *m.parameters()], g) for y, at, m in zip(ys, xs, (layer, other), strict=True)]
    for name, mine, theirs in zip(["x", *dict(layer.named_parameters())], *grads, strict=True):
        torch.testing.assert_close(mine, theirs, msg=lambda text, name=name: f"{name}: {text}")
    for mine, theirs in zip(layer.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("norm", NAMES)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_convolution_and_its_gradients_are_those_of_the_composition(dims, norm, sharing):
    layer = stirred(CONVS[dims](4, 6, 3, padding=1, spline=Spline(sharing=sharing), norm=norm))
    assert_same(layer, 2 * torch.randn(2, 4, *[7, 5, 3][:dims], dtype=torch.float64) + 1)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_so_it_is_with_any_norm_of_torch_in_both_modes(dims, kind, training):
    layer = stirred(CONVS[dims](4, 2, 2, 2, norm=MODULES[kind](dims)))
    x = 2 * torch.randn(3, 4, *[7, 5, 3][:dims], dtype=torch.float64) + 1
    assert_same(layer, x, training)
    assert_same(layer, x, training)  # a cumulative average counts the batches


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("norm", ["batch", "group", "layer"])
def test_so_is_a_linear_layer_on_any_leading_dimensions(norm, sharing):
    layer = stirred(KALinear(4, 6, spline=Spline(sharing=sharing), norm=norm))
    x = 2 * torch.randn(7, 4, dtype=torch.float64) + 1
    assert_same(layer, x)
    layer.eval()
    torch.testing.assert_close(layer(x.view(7, 1, 4)), layer(x).view(7, 1, 6))


@pytest.mark.parametrize("norm", NAMES)
@pytest.mark.parametrize("training", [True, False])
def test_one_image_is_enough_where_the_norm_allows_it(norm, training):
    layer = stirred(KAConv2d(4, 4, 3, padding=1, norm=norm))
    assert_same(layer, torch.randn(1, 4, 5, 3, dtype=torch.float64), training)
    single = torch.randn(1, 4, 1, 1, dtype=torch.float64)
    if norm in ("instance", "group") or (training and norm == "batch"):  # as torch's own
        with pytest.raises(ValueError, match="more than 1"):
            layer(single)
    else:
        assert_same(layer, single, training)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_other_padding_repeats_what_is_normalised(mode):
    layer = stirred(KAConv2d(4, 4, 3, padding=1, padding_mode=mode, norm="batch"))
    assert_same(layer, torch.randn(2, 4, 5, 3, dtype=torch.float64))


def test_zero_padding_comes_after_norm_and_activation():
    """A padded place is an absent edge, and no input of value 0: otherwise the border alone would differ."""
    layer = stirred(KAConv1d(1, 1, 3, padding=1, norm="batch")).eval()
    x = torch.randn(1, 1, 4, dtype=torch.float64)
    wide = F.pad(layer.norm(x), (1, 1))
    padded_before = F.conv1d(activated(layer, wide)[:, 0], layer.weight, layer.bias)
    assert not torch.allclose(layer(x), padded_before)
    torch.testing.assert_close(layer(x)[..., 1:-1], padded_before[..., 1:-1])


@pytest.mark.parametrize("sharing", ["layer", "input"])
@pytest.mark.parametrize("norm", [*NAMES, None])
def test_a_fork_is_two_units_with_one_norm_and_one_activation(norm, sharing):
    spline, factory = Spline(sharing=sharing), {"dtype": torch.float64}
    fork = stirred(KAFork2d(4, 6, 5, 3, padding=1, spline=spline, norm=norm, **factory))
    main = KAConv2d(4, 6, 3, padding=1, spline=spline, norm=norm, **factory)
    side = KAConv2d(4, 5, 1, bias=False, spline=spline, norm=norm, **factory)
    state = fork.state_dict()
    shared = {name: value for name, value in state.items() if name not in ("weight", "bias", "side.weight")}
    main.load_state_dict({**shared, "weight": state["weight"], "bias": state["bias"]})
    side.load_state_dict({**shared, "weight": state["side.weight"]})
    xs = [torch.randn(2, 4, 7, 5, dtype=torch.float64, requires_grad=True)]
    xs += [xs[0].detach().clone().requires_grad_() for _ in range(2)]
    y, s = fork(xs[0])
    torch.testing.assert_close((y, s), (main(xs[1]), side(xs[2])))
    (y.square().sum() + s.sin().sum()).backward()
    main(xs[1]).square().sum().backward()
    side(xs[2]).sin().sum().backward()
    torch.testing.assert_close(xs[0].grad, xs[1].grad + xs[2].grad)
    ours, mains, sides = (dict(m.named_parameters()) for m in (fork, main, side))
    for name in {"coef", "base_weight", *(n for n in ours if n.startswith("norm."))}:
        torch.testing.assert_close(ours[name].grad, mains[name].grad + sides[name].grad)
    torch.testing.assert_close(ours["weight"].grad, mains["weight"].grad)
    torch.testing.assert_close(ours["side.weight"].grad, sides["weight"].grad)


@pytest.mark.parametrize("sharing", SHARINGS)
def test_without_a_norm_there_is_none_and_with_one_phi_starts_as_its_base(sharing):
    plain = KAConv2d(4, 4, 3, spline=Spline(sharing=sharing))
    assert sorted(plain.state_dict()) == ["base_weight", "bias", "coef", "weight"]
    unit, x = KAConv2d(4, 4, 3, spline=Spline(sharing=sharing), norm="batch"), 3 * torch.randn(2, 4, 5, 6)
    wanted = F.conv2d(F.silu(F.batch_norm(x, None, None, training=True)), unit.weight)
    torch.testing.assert_close(unit(x), wanted, rtol=1e-4, atol=1e-5)
    wide = KAConv2d(64, 64, 3, spline=Spline(sharing=sharing), norm="batch")
    assert abs(float(wide.weight.detach().std()) - (3 * 576) ** -0.5) < 1e-3


def test_a_stacked_kan_is_a_unit_too():
    spline = Spline(sharing="edge")
    convs = StackedKANConv2d(4, 6, 3, padding=1, norm="batch"), KAConv2d(4, 6, 3, padding=1, spline=spline, norm="batch")
    linears = StackedKANLinear(4, 6, norm="layer"), KALinear(4, 6, spline=spline, norm="layer")
    for (stacked, fast), shape in ((convs, (2, 4, 5, 3)), (linears, (2, 3, 4))):
        stirred(fast)
        stacked.double().load_state_dict(fast.state_dict())
        x = torch.randn(shape, dtype=torch.float64)
        torch.testing.assert_close(stacked(x), fast(x))


def test_torch_sees_the_norm_and_moves_copies_and_converts_it():
    layer = KAConv2d(4, 6, 3, padding=1, norm="batch")
    assert [name for name in layer.state_dict() if name.startswith("norm.")] == [
        f"norm.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    ]
    x = torch.randn(2, 4, 7, 5)
    layer(x)
    layer.eval()
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(layer))
    assert isinstance(synced.norm, nn.SyncBatchNorm)
    for other in (copy.deepcopy(layer), torch.load(file, weights_only=False), synced):
        assert torch.equal(other(x), layer(x))
    assert torch.equal(synced.train()(x), layer.train()(x))  # in one process it is a batch norm
    assert layer.double()(x.double()).dtype == torch.float64
    on_meta = KAConv2d(4, 6, 3, norm="group", device="meta", dtype=torch.float64)
    assert on_meta.norm.weight.is_meta
    assert on_meta.norm.weight.dtype == torch.float64


def test_a_norm_is_no_spline_and_does_not_decay():
    for sharing in ("layer", "edge"):
        layer = KAConv2d(4, 6, 3, norm="batch", spline=Spline(sharing=sharing))
        groups = parameter_groups(layer, lr=1.0, weight_decay=0.1, spline_lr=2.0, spline_decay=0.2)
        found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
        assert {found[id(p)] for p in layer.norm.parameters()} == {(1.0, 0.0)}


def test_units_under_autocast_and_in_channels_last():
    layer = stirred(KAConv2d(4, 6, 3, padding=1, norm="batch")).float()
    x = torch.randn(2, 4, 7, 5)
    last = copy.deepcopy(layer)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, copy.deepcopy(layer)(x), rtol=1e-4, atol=1e-4)
    fork = KAFork2d(4, 6, 5, 3, padding=1, norm="layer")
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x), *fork(x)
    assert {y.dtype for y in found} == {torch.bfloat16}
    torch.testing.assert_close(found[1].float(), fork(x)[0], rtol=0.05, atol=0.1)


@pytest.mark.parametrize("make", [lambda: KAConv2d(4, 6, 3, norm="batch"), lambda: KAFork2d(4, 6, 5, 3, norm="batch")])
def test_a_second_derivative_is_refused(make):
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    y = make()(x)
    (grad,) = torch.autograd.grad((y[0] if isinstance(y, tuple) else y).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        grad.sum().backward()


def test_a_traced_and_an_exported_unit_hold_operators_of_torch_only():
    layer = stirred(KAConv2d(4, 6, 3, padding=1, norm="batch")).float().eval()
    x = torch.randn(2, 4, 7, 5)
    program = torch.export.export(layer, (x,))
    assert all(str(n.target).startswith("aten.") for n in program.graph.nodes if n.op == "call_function")
    for other in (program.module(), torch.jit.trace(layer, (x,))):
        torch.testing.assert_close(other(x), layer(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: KAConv2d(4, 4, 3, norm="bath"), "unknown norm 'bath'; choose one of batch, instance, group, layer"),
        (lambda: KAConv2d(4, 4, 3, norm=nn.BatchNorm2d(3)), "BatchNorm2d has 3 features and the layer 4 inputs"),
        (lambda: KAConv2d(4, 4, 3, norm=nn.GroupNorm(2, 8)), "GroupNorm has 8 features and the layer 4 inputs"),
        (lambda: KAConv2d(4, 4, 3, norm=nn.LayerNorm((4, 5))), r"LayerNorm has \(4, 5\) features and the layer 4 inputs"),
        (
            lambda: KAConv2d(4, 4, 3, norm=nn.BatchNorm3d(4)),
            "BatchNorm3d does not fit a map of 2 spatial dimensions; it may",
        ),
        (lambda: KAConv1d(4, 4, 3, norm=nn.InstanceNorm2d(4)), "InstanceNorm2d does not fit a map of 1"),
        (lambda: KAConv2d(4, 4, 3, norm=nn.ReLU()), "ReLU does not fit"),
        (lambda: KALinear(4, 4, norm="instance"), "norm 'instance' needs a map"),
        (lambda: KALinear(4, 4, norm=nn.InstanceNorm1d(4)), "norm 'instance' needs a map"),
        (lambda: KALinear(4, 4, norm=nn.BatchNorm2d(4)), "BatchNorm2d does not fit a linear layer"),
        (lambda: KALinear(4, 4, norm=nn.LayerNorm(5)), "LayerNorm has 5 features and the layer 4 inputs"),
        (lambda: KAFork2d(4, 4, 4, 3, spline=Spline(sharing="output")), "sharing must be 'layer' or 'input', got 'output'"),
        (lambda: KAFork2d(4, 4, 4, 3, padding=1, padding_mode="reflect"), "a fork pads with zeros"),
        (lambda: KAFork2d(4, 4, 4, 3)(torch.zeros(1, 3, 4, 4)), "expects"),
    ],
)
def test_a_norm_that_does_not_fit_is_told_in_one_sentence(make, word):
    with pytest.raises(ValueError, match=word) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("features", "groups"), [(1, 1), (3, 1), (7, 1), (8, 2), (16, 4), (24, 6), (64, 8)])
def test_groups_of_rows_leave_something_of_their_numbers(features, groups):
    layer = KALinear(features, 2, norm="group")
    assert layer.norm.num_groups == groups
    if features > 1:
        assert layer(torch.randn(5, features)).std(0).min() > 1e-2  # a group of one number is 0, whatever it is


def test_names_make_the_norms_of_torch():
    kinds = {"batch": nn.BatchNorm3d, "instance": nn.InstanceNorm3d, "group": nn.GroupNorm, "layer": nn.LayerNorm}
    assert {name: type(make_norm(name, 6, 3)) for name in kinds} == kinds
    assert make_norm("instance", 6, 2).affine
    assert make_norm(None, 6, 2) is None
    given = nn.BatchNorm1d(6)
    assert make_norm(given, 6, 0) is given


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", NAMES)
def test_compiled_it_is_the_same_in_one_graph(norm, dtype):
    """``torch.compile`` is shown operators, and statistics move on."""
    torch._dynamo.reset()
    layer = stirred(KAConv2d(4, 6, 3, padding=1, norm=norm)).to(dtype)
    other, x = copy.deepcopy(layer), torch.randn(2, 4, 6, 5, dtype=dtype, requires_grad=True)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    grads = [torch.autograd.grad(f(x).square().sum(), [x, *m.parameters()]) for f, m in ((layer, layer), (compiled, other))]
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-3 if dtype is torch.float32 else 1e-6, atol=1e-3)
    for mine, theirs in zip(other.buffers(), layer.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(compiled.eval()(x), layer.eval()(x))


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_compiled_it_keeps_its_input(norm):
    torch._dynamo.reset()
    layer, x = KAConv2d(4, 4, 3, padding=1, norm=norm), torch.randn(2, 4, 32, 32, requires_grad=True)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    kept = saved_bytes(lambda: compiled(x), layer)
    assert kept < 2.2 * x.nbytes  # x, and what the convolution is told of
