"""What a user's own code does around a layer: autocast, defaults of torch, devices, hooks, parameters of other sizes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from allukan.nn import KAConv2d, KAFork2d, KALinear, Spline, SplineActivation, SprecherLinear
from allukan.ops.basis import family

SHARINGS = ("layer", "input", "output", "edge")


def random(layer):
    """With activations that are not those of the start."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name in ("coef", "base_weight"):
                parameter.normal_()
    return layer


def gradients(layer, x, around_forward, around_backward):
    layer = copy.deepcopy(layer)
    x = x.clone().requires_grad_()
    with around_forward:
        loss = layer(x).square().mean()
    with around_backward:
        loss.backward()
    return [x.grad, *(p.grad for p in layer.parameters())]


@pytest.mark.parametrize("kind", [KALinear, KAConv2d, SprecherLinear, SplineActivation])
def test_options_are_those_of_torch_and_of_a_spline(kind):
    """A device or a type by name, also for ``skip_init``; others are Python's TypeError, which names them."""
    sizes = {SplineActivation: (), KAConv2d: (4, 3, 3)}.get(kind, (4, 3))
    assert {p.dtype for p in nn.utils.skip_init(kind, *sizes, dtype=torch.float64).parameters()} == {torch.float64}
    assert kind(*sizes, spline={"grid_size": 7}).spline.grid_size == 7
    with pytest.raises(TypeError, match="grid_size"):
        kind(*sizes, grid_size=7)
    with pytest.raises(TypeError, match="spline must be a mapping of"):
        kind(*sizes, spline="rbf")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [lambda: KALinear(6, 5), lambda: KALinear(6, 5, norm="batch"), lambda: KAConv2d(6, 5, 3)])
def test_backward_within_autocast_of_a_forward_without(make, dtype):
    torch.manual_seed(0)
    layer = random(make())
    x = torch.randn(7, 6) if isinstance(layer, KALinear) else torch.randn(2, 6, 5, 5)
    without = torch.autocast("cpu", enabled=False)
    expected = gradients(layer, x, without, without)
    found = gradients(layer, x, without, torch.autocast("cpu", dtype))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-2 * float(b.abs().max()))


@pytest.mark.parametrize("part", ["weight", "coef", "base_weight", "norm.weight", "norm.bias"])
def test_a_part_on_another_device_is_told(part):
    layer = KAConv2d(4, 3, 3, norm="batch")
    owner = layer.get_submodule(part.rpartition(".")[0])
    name = part.rpartition(".")[2]
    setattr(owner, name, nn.Parameter(getattr(owner, name).to("meta")))
    with pytest.raises(ValueError, match="the layer is on meta and x on cpu: move one of them"):
        layer(torch.randn(2, 4, 5, 5))


def test_a_layer_on_another_device_is_told():
    with pytest.raises(ValueError, match="the layer is on meta and x on cpu: move one of them"):
        KAConv2d(4, 3, 3, norm="batch").to("meta")(torch.randn(2, 4, 5, 5))


@pytest.mark.parametrize("shape", [(1, 5), (2, 8)])
def test_coefficients_of_another_size_are_told(shape):
    layer = KALinear(4, 3, spline=Spline(grid_size=5))
    layer.coef = nn.Parameter(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"do not fit: a row of coef has 8 numbers"):
        layer(torch.randn(2, 4))


def test_a_norm_of_other_channels_is_refused_by_torch():
    layer = KAConv2d(8, 3, 1, norm="batch")
    layer.norm = nn.BatchNorm2d(4)
    with pytest.raises(RuntimeError):
        layer(torch.randn(2, 8, 5, 5))


@pytest.mark.parametrize("sharing", ["output", "edge"])
@pytest.mark.parametrize("inputs", [1, 3])
def test_one_weight_an_output_is_no_edge(sharing, inputs):
    """λ φ(x) of a shared φ, and w b(x) + λ Σ c B(x) of an edge, by the formula in float64."""
    torch.manual_seed(0)
    layer, x = random(KALinear(inputs, 4, spline=Spline(sharing=sharing))).double(), torch.randn(5, inputs).double()
    s = layer.spline
    basis = family(s.basis).values(x, s.grid_size, s.spline_order, s.grid_range)  # (N, I, M)
    coef, base = (t.view(4, -1, *t.shape[1:]).expand(4, inputs, *t.shape[1:]) for t in (layer.coef, layer.base_weight))
    splines = torch.einsum("nim,oim,oi->no", basis, coef, layer.weight)
    scale = base if sharing == "edge" else base * layer.weight
    expected = F.silu(x) @ scale.T + splines + layer.bias
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.float()(x.float()).double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_statistics_in_another_type_than_the_weights(dtype):
    layer, x = KAConv2d(4, 3, 3, norm="batch"), torch.randn(2, 4, 6, 6)
    layer(x)
    layer.eval()
    expected = layer(x)
    for name in ("running_mean", "running_var"):
        setattr(layer.norm, name, getattr(layer.norm, name).to(dtype))
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected, rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_default_type_of_torch_does_not_matter(sharing, training, dtype):
    layer, x = random(KAConv2d(4, 4, 3, norm="batch", spline=Spline(sharing=sharing))).train(training), torch.randn(2, 4, 6, 6)
    nothing = torch.autocast("cpu", enabled=False)
    expected = gradients(layer, x, nothing, nothing)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        found = gradients(layer, x, nothing, nothing)
    finally:
        torch.set_default_dtype(before)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("sharing", SHARINGS)
def test_the_default_device_of_torch_does_not_matter(sharing):
    spline = Spline(sharing=sharing, grid_size=7, grid_range=(-2.5, 2.0))  # whose tables nobody has made before
    layer, x = random(KAConv2d(4, 4, 3, norm="batch", spline=spline)), torch.randn(2, 4, 6, 6)
    nothing = torch.autocast("cpu", enabled=False)
    with torch.device("meta"):
        found = gradients(layer, x, nothing, nothing)
    for a, b in zip(found, gradients(layer, x, nothing, nothing), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("make", [lambda: KALinear(4, 3), lambda: KAConv2d(4, 3, 1), lambda: KAFork2d(4, 3, 2, 1)])
def test_whole_numbers_are_told(make):
    layer = make()
    x = torch.ones((2, 4) if isinstance(layer, KALinear) else (2, 4, 5, 5), dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"expects floating point, got torch\.uint8"):
        layer(x)


def test_a_number_without_dimensions_is_told():
    with pytest.raises(ValueError, match="expects 4 features in the last dimension"):
        KALinear(4, 3)(torch.tensor(1.0))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_tracking_may_be_switched_off_and_on(momentum):
    """As virtual adversarial training does; torch is the oracle."""
    ours = KAConv2d(3, 2, 1, norm=nn.BatchNorm2d(3, momentum=momentum))
    theirs = nn.Sequential(nn.BatchNorm2d(3, momentum=momentum), nn.SiLU(), nn.Conv2d(3, 2, 1))
    for x in torch.randn(4, 2, 3, 4, 4) + 5:
        for norm in (ours.norm, theirs[0]):
            norm.track_running_stats ^= True
        ours(x), theirs(x)
        for a, b in zip(ours.norm.buffers(), theirs[0].buffers(), strict=True):
            torch.testing.assert_close(a, b)


def test_a_norm_that_counts_no_batches():
    layer = KAConv2d(3, 2, 1, norm="batch")
    layer.norm.num_batches_tracked = None
    layer(torch.randn(2, 3, 4, 4) + 5)
    assert (layer.norm.running_mean > 0.3).all()


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_an_empty_batch_leaves_statistics_and_gradients_alone(norm):
    layer = KAConv2d(4, 3, 1, norm=norm)
    if norm == "batch":
        layer.norm.running_mean.fill_(7)
    x = torch.zeros(0, 4, 5, 5, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert y.shape == (0, 3, 5, 5)
    assert all(p.grad is None or not p.grad.any() for p in layer.parameters())
    assert norm != "batch" or (layer.norm.running_mean == 7).all()


def test_a_refinement_that_is_refused_changes_nothing():
    layer, x = random(KALinear(4, 3, spline=Spline(grid_size=5))), torch.randn(6, 4)
    before = layer(x)
    with pytest.raises(ValueError):
        layer.refine(260)
    torch.testing.assert_close(layer(x), before)


@pytest.mark.parametrize("hook", ["full_backward_pre", "forward_method", "global"])
def test_whoever_watches_the_norm_sees_it(hook):
    layer, seen = KAConv2d(4, 3, 1, norm="batch"), []
    if hook == "full_backward_pre":
        handle = layer.norm.register_full_backward_pre_hook(lambda module, grad: seen.append(1))
    elif hook == "global":
        handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module is layer.norm) or None)
    else:
        original, handle = layer.norm.forward, None
        layer.norm.forward = lambda x: seen.append(1) or original(x)
    layer(torch.randn(2, 4, 5, 5, requires_grad=True)).sum().backward()
    if handle:
        handle.remove()
    assert any(seen)


@pytest.mark.parametrize("gradients", [True, False])
def test_derivatives_that_are_carried_forward_are_not_dropped(gradients):
    layer, x = KAConv2d(4, 3, 1, norm="batch"), torch.randn(2, 4, 5, 5)
    forward = torch.autograd.forward_ad
    with forward.dual_level(), torch.set_grad_enabled(gradients), pytest.raises(RuntimeError, match="forward"):
        layer(forward.make_dual(x, torch.ones_like(x)))
