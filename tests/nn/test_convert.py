"""Converted networks against the originals: the same function, weights and gradients, and everything else named."""

import copy
import doctest
import io
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import allukan
from allukan.nn import KAConv1d, KAConv2d, KALayer, KALinear, Spline, convert
from allukan.nn.conversion.roles import role
from allukan.nn.conversion.watch import tensors_in, watch
from allukan.ops.activations import base_function

TOLERANCE = 1e-5  # of the largest output, float32


def unet(dims):
    from monai.networks.nets import UNet

    return UNet(dims, 1, 2, channels=(8, 16, 32), strides=(2, 2), num_res_units=2)


def segresnet():
    from monai.networks.nets import SegResNet

    return SegResNet(spatial_dims=2, init_filters=8, blocks_down=(1, 2, 2), blocks_up=(1, 1))


def basic_unet():
    from monai.networks.nets import BasicUNet

    return BasicUNet(2, 1, 2, features=(8, 8, 16, 16, 16, 8))


def attention_unet():
    from monai.networks.nets import AttentionUnet

    return AttentionUnet(2, 1, 2, channels=(8, 16, 32), strides=(2, 2))


def plain_conv_unet():
    """nnU-Net's network."""
    unet = pytest.importorskip("dynamic_network_architectures.architectures.unet", reason="needs dynamic-network-architectures")
    norm = {"norm_op": nn.InstanceNorm2d, "norm_op_kwargs": {"affine": True}}
    act = {"nonlin": nn.LeakyReLU, "nonlin_kwargs": {"inplace": True}}
    return unet.PlainConvUNet(1, 4, (8, 16, 32, 32), nn.Conv2d, 3, (1, 2, 2, 2), 2, 2, 2, deep_supervision=True, **norm, **act)


class HandWritten(nn.Module):
    """A little of everything that can meet a convolution."""

    def __init__(self):
        super().__init__()
        self.act, self.inplace, self.other = nn.SiLU(), nn.ReLU(inplace=True), nn.ReLU()
        self.convs = nn.ModuleList(nn.Conv2d(c, 4, 3, padding=1) for c in (1, 4, 4, 8, 4, 4))
        self.norm, self.up = nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.mlp = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 8), nn.LeakyReLU(0.2), nn.Dropout(0.0), nn.Linear(8, 2))

    def forward(self, x):
        a = self.convs[0](x)
        b = self.convs[1](self.act(a))  # the shared activation, first call
        c = self.convs[2](self.act(b))  # and second
        d = self.convs[3](torch.cat([self.inplace(self.norm(c)), self.other(b)], dim=1))
        e = self.convs[4](F.relu(d)) + d  # a function
        return self.mlp(self.up(self.convs[5](e)).mean((2, 3)))


NETWORKS = {
    "unet2d": (lambda: unet(2), (2, 1, 32, 32)),
    "unet3d": (lambda: unet(3), (2, 1, 16, 16, 16)),
    "segresnet": (segresnet, (2, 1, 32, 32)),
    "basic_unet": (basic_unet, (2, 1, 32, 32)),
    "attention_unet": (attention_unet, (2, 1, 32, 32)),
    "plain_conv_unet": (plain_conv_unet, (2, 1, 32, 32)),
    "hand_written": (HandWritten, (3, 1, 8, 8)),
}


@pytest.fixture(params=NETWORKS)
def pretrained(request):
    """A network with trained-looking weights, norms included, and an input."""
    make, shape = NETWORKS[request.param]
    network = make()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1 + 0.2 * torch.randn_like(parameter)).add_(0.02 * torch.randn_like(parameter))
        network.train()(torch.randn(shape))  # running statistics
    return network.eval(), torch.randn(shape)


def outputs(network, x):
    return list(tensors_in(network(x.clone())))


def assert_same(network, converted, x):
    for mine, theirs in zip(outputs(converted, x), outputs(network, x), strict=True):
        assert theirs.abs().max() > 1e-3
        assert (mine - theirs).abs().max() <= TOLERANCE * theirs.abs().max()


def renamed(name, network, conversion):
    """Of a parameter or buffer in the converted network: norms go into the layers behind them."""
    module, _, leaf = name.rpartition(".")
    names = {norm: f"{layer}.norm" for layer, norm in conversion.units.items()}
    of = {network.get_submodule(norm): name for norm, name in names.items()}
    moved = {name: of[m] for name, m in network.named_modules(remove_duplicate=False) if m in of}
    return f"{moved.get(module, module)}.{leaf}" if module else leaf


def test_same_function_gradients_and_weights(pretrained):
    network, x = pretrained
    before, random = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    converted, conversion = convert(network, x)

    assert torch.equal(random, torch.get_rng_state())
    assert not any(isinstance(module, KALayer) for module in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    after = converted.state_dict()
    slopes = {key for key in before if renamed(key, network, conversion) not in after}  # of PReLUs that are bases now
    assert all(torch.equal(after[renamed(key, network, conversion)], value) for key, value in before.items() if key not in slopes)
    assert {key.removesuffix(".weight") for key in slopes} <= set(conversion.absorbed)
    assert conversion.deviation <= TOLERANCE

    for training in (False, True):
        network.train(training), converted.train(training)
        assert_same(network, converted, x)
    for each in (network, converted):
        sum(y.square().mean() for y in outputs(each, x)).backward()
    for name, parameter in network.named_parameters():
        if name not in slopes and parameter.grad is not None:
            mine, scale = (
                converted.get_parameter(renamed(name, network, conversion)).grad,
                parameter.grad.abs().max().clamp(min=1e-4),
            )
            assert (mine - parameter.grad).abs().max() <= 1e-3 * scale, name


def test_every_new_parameter_learns(pretrained):
    network, x = pretrained
    converted, conversion = convert(network, x)
    layers = {name: converted.get_submodule(name) for name in conversion.layers}
    before = outputs(converted, x)
    sum(y.square().mean() for y in before).backward()
    for name, layer in layers.items():
        assert isinstance(layer, KALayer)
        for parameter in layer.parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
        assert layer.coef.grad.abs().max() > 0, name
        assert layer.weight.grad.abs().max() > 0, name
    torch.optim.SGD([layer.coef for layer in layers.values()], lr=0.1).step()
    assert (outputs(converted, x)[0] - before[0]).abs().max() > 1e-4 * before[0].abs().max()


def test_weights_travel_through_a_file(pretrained):
    network, x = pretrained
    converted, _ = convert(network, x)
    for layer in converted.modules():
        if isinstance(layer, KALayer):
            nn.init.normal_(layer.coef, std=0.1)
    file = io.BytesIO()
    torch.save(converted.state_dict(), file)
    file.seek(0)
    other, _ = convert(network, x)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert all(torch.equal(a, b) for a, b in zip(outputs(other, x), outputs(converted, x), strict=True))


def test_segresnet_is_absorbed_whole():
    _, conversion = convert(segresnet(), torch.randn(1, 1, 32, 32))
    assert conversion.absorbed_share == 1.0
    assert not conversion.kept
    assert not conversion.left
    assert conversion.layers["conv_final.2.conv"] == "relu"
    assert conversion.layers["convInit.conv"] == "identity"


def test_plain_conv_unet_keeps_only_what_the_skips_and_transposed_convolutions_read():
    """A skip is joined with the output of a transposed convolution, so its activation cannot move."""
    _, conversion = convert(plain_conv_unet(), torch.randn(1, 1, 32, 32))
    assert all("cat" in why or "ConvTranspose2d" in why for why in conversion.kept.values())
    assert len(conversion.absorbed) == 8
    assert conversion.behind_kept[:3] == tuple(f"encoder.stages.{i}.0.convs.0.conv" for i in (1, 2, 3))
    assert conversion.behind_kept[3:] == ("decoder.seg_layers.0", "decoder.seg_layers.1")
    assert {name for name, why in conversion.left.items() if "ConvTranspose2d" in why} == set(conversion.left)


def test_what_the_hand_written_network_becomes():
    converted, conversion = convert(HandWritten(), torch.randn(2, 1, 8, 8))
    assert conversion.layers == {
        "convs.0": "identity",
        "convs.1": "silu",
        "convs.2": "silu",
        "convs.3": "relu",
        "convs.4": "relu",
        "convs.5": "identity",
        "mlp.0": "identity",
        "mlp.2": "gelu",
        "mlp.5": "leaky_relu:0.2",
    }
    own = {"act": "silu", "inplace": "relu", "other": "relu", "mlp.1": "gelu", "mlp.3": "leaky_relu:0.2"}
    assert conversion.absorbed == {**own, "relu_0": "relu"}
    assert not conversion.kept
    assert not conversion.behind_kept
    assert isinstance(converted, HandWritten)
    assert conversion.left == {"up": "there is no KA layer for ConvTranspose2d"}
    assert isinstance(converted.convs[3], KAConv2d)
    assert isinstance(converted.act, nn.Identity)
    text = str(conversion)
    assert all(word in text for word in ("9 KA layers", "relu_0", "up: there is no KA layer", "mlp.3: leaky_relu:0.2"))


ACTS = {
    "relu": nn.ReLU(),
    "silu": nn.SiLU(inplace=True),
    "gelu": nn.GELU(),
    "tanh": nn.Tanh(),
    "leaky_relu:0.01": nn.LeakyReLU(inplace=True),
    "leaky_relu:0.25": nn.PReLU(6),
    "relu6": nn.ReLU6(inplace=True),
    "hardswish": nn.Hardswish(),
    "hardtanh": nn.Hardtanh(),
    "elu": nn.ELU(inplace=True),
    "mish": nn.Mish(),
    "softplus": nn.Softplus(),
    "sigmoid": nn.Sigmoid(),
}


@pytest.mark.parametrize("base", ACTS)
@pytest.mark.parametrize("sharing", ["layer", 4, "output", "edge"])
@pytest.mark.parametrize("options", [{}, {"groups": 2}, {"padding_mode": "reflect", "dilation": 2}, {"stride": 2, "bias": False}])
def test_every_activation_sharing_and_option(base, sharing, options):
    network = nn.Sequential(nn.Conv1d(2, 6, 3), ACTS[base], nn.Conv1d(6, 6, 3, padding=2, **options))
    x = torch.randn(2, 2, 12)
    converted, conversion = convert(network, x, Spline(sharing=sharing, grid_size=4, input_grad="free"))
    assert conversion.layers == {"0": "identity", "2": base}
    assert converted[2].spline == Spline(sharing=3 if sharing == 4 else sharing, grid_size=4, input_grad="free", base=base)
    assert isinstance(converted[2], KAConv1d)
    assert_same(network, converted, x)
    signal = torch.randn(2, 6, 12)
    assert base_function(base)(signal).equal(ACTS[base](signal.clone()))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_padding_is_that_of_torch_in_float64():
    network = nn.Sequential(
        nn.Tanh(), nn.Conv2d(3, 4, (3, 4), padding="same"), nn.GELU(), nn.Conv2d(4, 4, (3, 1), padding=(2, 0))
    )
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64)
    converted, _ = convert(network.double(), x)
    torch.testing.assert_close(converted(x), network(x), rtol=1e-12, atol=1e-12)


class Wired(nn.Module):
    """Two convolutions with one activation, put together by the function ``wire(self, x)``."""

    def __init__(self, wire, **modules):
        super().__init__()
        self.first, self.second, self.act = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1), nn.LeakyReLU(0.3)
        self.wire = wire
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.wire(self, x)


def preactivation(net, x):
    y = net.first(x)
    return net.second(net.act(y)) + y  # in place: the sum sees the activated values, too


def training_head(net, x):
    y = net.act(net.first(x))
    return (net.second(y), y.mean()) if net.training else net.second(y)


def changed_later(net, x):
    y = net.first(x)
    z = net.act(y)
    y.mul_(2)
    return net.second(z) + y


def early_and_late(net, x):
    return net.second(net.act(net.second(x)))


class Double(torch.autograd.Function):
    """A function of its own."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * 2


def slopes(*values):
    prelu = nn.PReLU(len(values))
    prelu.weight.data = torch.tensor(values)
    return prelu


KEPT = {
    "own_function": (lambda net, x: (lambda y: net.second(y) + Double.apply(y))(net.act(net.first(x))), {}, "function mul"),
    "numpy": (
        lambda net, x: (lambda y: net.second(y) * float(y.detach().numpy().mean()))(net.act(net.first(x))),
        {},
        "function detach",
    ),
    "skip": (lambda net, x: (lambda y: net.second(y) + y)(net.act(net.first(x))), {}, "function add"),
    "in_place_skip": (preactivation, {"act": nn.LeakyReLU(0.3, inplace=True)}, "function add"),
    "changed": (changed_later, {"act": nn.ReLU()}, "changed in place later"),
    "output": (lambda net, x: net.act(net.second(net.first(x))), {}, "network's output"),
    "returned": (lambda net, x: (lambda y: {"y": [y], "z": net.second(y)})(net.act(net.first(x))), {}, "network's output"),
    "training_head": (training_head, {}, "function mean"),
    "layer_reads_both": (early_and_late, {}, "'second' also reads other inputs"),
    "cat": (lambda net, x: net.second(torch.cat([net.act(net.first(x))[:, :1], x[:, :1]], 1)), {}, "__getitem__"),
    "cat_of_two": (
        lambda net, x: net.second(torch.cat([net.act(net.first(x)), net.tanh(x)], 1)),
        {"tanh": nn.Tanh(), "second": nn.Conv2d(4, 2, 1)},
        "joined with other values by the function cat",
    ),
    "norm": (lambda net, x: net.second(net.norm(net.act(net.first(x)))), {"norm": nn.BatchNorm2d(2)}, "BatchNorm2d 'norm'"),
    "pool": (lambda net, x: net.second(net.pool(net.act(net.first(x)))), {"pool": nn.AvgPool2d(2)}, "AvgPool2d"),
    "gelu_max": (
        lambda net, x: net.second(net.pool(net.act(net.first(x)))),
        {"pool": nn.MaxPool2d(2), "act": nn.GELU()},
        "goes to pool",
    ),
    "selu": (lambda net, x: net.second(net.act(net.first(x))), {"act": nn.SELU()}, "SELU is none of the base"),
    "elu": (lambda net, x: net.second(net.act(net.first(x))), {"act": nn.ELU(2.0)}, "alpha 2.0"),
    "hardtanh": (lambda net, x: net.second(net.act(net.first(x))), {"act": nn.Hardtanh(-1, 2)}, "ends at 2"),
    "softplus": (lambda net, x: net.second(net.act(net.first(x))), {"act": nn.Softplus(2)}, "beta 2"),
    "gelu_tanh": (lambda net, x: net.second(net.act(net.first(x))), {"act": nn.GELU("tanh")}, "approximated by tanh"),
    "slopes": (lambda net, x: net.second(net.act(net.first(x))), {"act": slopes(0.1, 0.2)}, "2 slopes"),
    "steep": (lambda net, x: net.second(net.act(net.first(x))), {"act": nn.LeakyReLU(1.5)}, "slope 1.5"),
    "act_of_act": (lambda net, x: net.second(net.tanh(net.act(net.first(x)))), {"tanh": nn.Tanh()}, "goes to tanh"),
    "unused": (lambda net, x: (net.act(x), net.second(net.first(x)))[1], {}, "no convertible layer reads it"),
}


@pytest.mark.parametrize("case", KEPT)
def test_an_activation_that_others_read_stays_and_says_why(case):
    wire, modules, reason = KEPT[case]
    network, x = Wired(wire, **modules), torch.randn(2, 2, 8, 8)
    converted, conversion = convert(network, x)
    assert reason in conversion.kept["act"]
    assert conversion.layers["second"] == conversion.layers[
        "first" if case != "layer_reads_both" else "second"
    ] == "identity" or (case == "act_of_act" and conversion.layers["second"] == "tanh")
    for training in (False, True):
        network.train(training), converted.train(training)
        assert_same(network, converted, x)
    sum(y.square().mean() for y in outputs(converted, x)).backward()


ABSORBED = {
    "flat": (lambda net, x: net.second(net.act(net.first(x)).flatten(1)), {"second": nn.Linear(128, 3)}),
    "max": (lambda net, x: net.second(net.pool(net.act(net.first(x)))), {"pool": nn.MaxPool2d(3, padding=1)}),
    "max_of_clipped": (lambda net, x: net.second(net.pool(net.act(net.first(x)))), {"pool": nn.MaxPool2d(2), "act": nn.ReLU6()}),
    "two_readers": (
        lambda net, x: (lambda y: net.second(y) + net.third(y))(net.act(net.first(x))),
        {"third": nn.Conv2d(2, 2, 1)},
    ),
    "twice": (lambda net, x: net.second(net.act(net.second(net.act(x)))), {}),
    "cat": (
        lambda net, x: net.second(torch.cat([net.act(net.first(x)), net.act(x), net.prelu(x)], 1)),
        {"second": nn.Conv2d(6, 2, 3), "prelu": nn.PReLU(init=0.3, dtype=torch.float64)},
    ),
    "contiguous": (lambda net, x: net.second(net.act(net.first(x)).contiguous()), {}),
    "metadata": (lambda net, x: (lambda y: net.second(y) * y.shape[0] * y.dim() * len(y))(net.act(net.first(x))), {}),
}


@pytest.mark.parametrize("hang", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_of_a_part_go_on_reading_what_they_read(hang):
    """Features, as taken from an encoder by a hook: they are no output, and no module has the hook that is swapped."""

    def network(hooked):
        net = nn.Sequential(nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.ReLU()), nn.Sequential(nn.Conv2d(4, 2, 1)))
        getattr(net[hooked], hang)(lambda module, inputs, *output: read.append((output or inputs)[0]))
        return net.eval()

    read, x = [], torch.randn(1, 1, 8, 8)
    net = network(0 if hang == "register_forward_hook" else 1)
    converted, conversion = convert(net, x)
    read.clear()
    assert torch.equal(net(x), converted(x))
    assert torch.equal(*read)
    assert "hooks of" in conversion.kept["0.2"]
    assert conversion.layers == {"0.0": "identity", "1.0": "identity"}
    assert not conversion.units


@pytest.mark.parametrize("case", ABSORBED)
def test_an_activation_that_only_layers_read_is_absorbed(case):
    wire, modules = ABSORBED[case]
    network, x = Wired(wire, **modules).double(), torch.randn(2, 2, 8, 8, dtype=torch.float64)
    converted, conversion = convert(network, x)
    assert conversion.layers["second"] == ("relu6" if case == "max_of_clipped" else "leaky_relu:0.3")
    assert "act" in conversion.absorbed
    assert not conversion.kept
    torch.testing.assert_close(converted(x), network(x), rtol=1e-12, atol=1e-12)


def test_dropout_between_activation_and_layer_keeps_the_activation_and_training():
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
    converted, conversion = convert(network, torch.randn(3, 4))
    assert "Dropout '2'" in conversion.kept["1"]
    x = torch.randn(64, 4)
    torch.manual_seed(1)
    expected = network.train()(x)
    torch.manual_seed(1)
    torch.testing.assert_close(converted.train()(x), expected)


def test_layers_that_must_not_be_replaced_are_named():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
            self.unbatched, self.plain, self.unused = nn.Conv1d(5, 5, 1), nn.Linear(8, 3), nn.Linear(8, 3)
            self.normed = nn.utils.spectral_norm(nn.Linear(8, 8))
            self.parametrised = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
            self.table = nn.Embedding(4, 8)

        def forward(self, x):
            y = self.parametrised(self.normed(self.block(x))) + self.table.weight[0]
            return self.plain(torch.stack([self.unbatched(each) for each in y]))

    network, x = Network().eval(), torch.randn(2, 5, 8)
    converted, conversion = convert(network, x)
    assert conversion.layers == {"plain": "identity"}
    reasons = {
        "block.linear1": "TransformerEncoderLayer reads its weight",
        "unbatched": "without a batch dimension",
        "unused": "does not reach it",
        "normed": "hooks",
        "table": "Embedding",
        "parametrised": "parametrisation of its weight",
    }
    assert all(word in conversion.left[name] for name, word in reasons.items())
    assert "block.self_attn" in conversion.left
    assert "parametrised.parametrizations.weight" not in conversion.left
    assert_same(network, converted, x)


def test_keep_leaves_a_part_alone():
    network = nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 2))
    converted, conversion = convert(network, torch.randn(3, 4), keep=["0", "0.1"])
    assert conversion.layers == {"2": "relu"}
    assert conversion.left == dict.fromkeys(["0.0", "0.2"], "it is to be kept")
    assert conversion.kept == {"0.1": "it is to be kept"}
    assert isinstance(converted[0][0], nn.Linear)


def test_modes_buffers_ties_and_frozen_weights_survive():
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.BatchNorm1d(4))
    network[2].weight = network[0].weight
    network[0].bias.requires_grad_(False)
    network[2].eval()
    converted, _ = convert(network, torch.randn(3, 4))
    assert converted[0].weight is converted[2].weight
    assert not converted[0].bias.requires_grad
    assert [m.training for m in converted] == [m.training for m in network] == [True, True, False, True]
    assert torch.equal(converted[3].running_mean, torch.zeros(4))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in converted.modules())


def test_the_runs_leave_no_trace():
    def wire(net, x):
        net.runs += 1
        return net.second(F.dropout(net.act(net.first(x)), training=net.training))

    network, random = Wired(wire), torch.get_rng_state()
    network.register_buffer("runs", torch.zeros(1))
    converted, conversion = convert(network, torch.ones(1, 2, 8, 8))
    assert conversion.kept == {"act": "its output goes to the function dropout in the network"}
    assert converted.runs == network.runs == 0
    assert torch.equal(random, torch.get_rng_state())


def test_a_view_of_the_bits_is_no_move():
    network = Wired(lambda net, x: (net.act(x).view(torch.int32), net.act(x).view(-1)))
    calls, _ = watch(network, ((torch.randn(1, 2, 8, 8),), {}), role)
    assert [call.kind for call in calls] == ["activation", "other", "activation", "move", "other"]


def test_a_single_layer_and_other_forms_of_the_example():
    layer, x = nn.Linear(4, 3), torch.randn(2, 4)
    for example in (x, (x,)):
        converted, conversion = convert(layer, example)
        assert isinstance(converted, KALinear)
        assert conversion.layers == {"": "identity"}
        assert torch.equal(converted(x), layer(x))
    converted, conversion = convert(Wired(lambda net, x: net.second(input=net.act(net.first(x)))), {"x": torch.randn(1, 2, 8, 8)})
    assert conversion.left == {"second": "its input is not its first argument"}


def test_a_network_that_cannot_train_on_the_example_says_so():
    def wire(net, x):
        if net.training:
            raise ValueError("targets are needed")
        return net.second(net.act(net.first(x)))

    _, conversion = convert(Wired(wire), torch.randn(1, 2, 8, 8))
    assert conversion.layers["second"] == "leaky_relu:0.3"
    assert any("targets are needed" in note for note in conversion.notes)


def out_of_sight(net, x):
    y = net.act(net.first(x))
    with torch._C.DisableTorchFunction():
        seen_by_nobody = y * 2
    return net.second(y) + seen_by_nobody


def test_an_activation_read_out_of_sight_is_noticed():
    network, x = Wired(out_of_sight), torch.randn(1, 2, 8, 8)
    with pytest.raises(ValueError, match="name that one in keep"):
        convert(network, x)
    converted, _ = convert(network, x, keep=["act"])
    assert_same(network, converted, x)


def in_a_list(hidden):
    network = Wired(lambda net, x: net.third(net.steps[0](net.first(x))), third=nn.Conv2d(2, 2, 1))
    network.steps = [getattr(network, hidden)]
    return network


BAD = {
    "base": (lambda: convert(nn.Linear(2, 2), torch.zeros(1, 2), Spline(base="relu")), "base 'relu'"),
    "keep": (lambda: convert(nn.Linear(2, 2), torch.zeros(1, 2), keep=["head"]), "'head'"),
    "nothing": (lambda: convert(nn.Sequential(nn.ReLU()), torch.zeros(1, 2)), "no convolution or linear layer"),
    "all_kept": (lambda: convert(nn.Sequential(nn.Linear(2, 2)), torch.zeros(1, 2), keep=["0"]), "0: it is to be kept"),
    "random": (lambda: convert(Wired(lambda n, x: n.first(x) + torch.randn(1)), torch.zeros(1, 2, 4, 4)), "random in evaluation"),
    "nan": (lambda: convert(nn.Linear(2, 2), torch.full((1, 2), float("nan"))), "returns NaN"),
    "no_tensor": (lambda: convert(Wired(lambda n, x: float(n.first(x).sum())), torch.zeros(1, 2, 4, 4)), "without a tensor"),
    "list_of_layers": (lambda: convert(in_a_list("second"), torch.zeros(1, 2, 4, 4)), "'second' is called through"),
    "lazy": (lambda: convert(nn.Sequential(nn.LazyLinear(2)), torch.zeros(1, 2)), "'0' does not know its shape yet"),
    "list_of_activations": (lambda: convert(in_a_list("act"), torch.zeros(1, 2, 4, 4)), "'act' is called through"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_use_is_told_in_one_sentence(case):
    make, word = BAD[case]
    with pytest.raises(ValueError, match=word) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_inference_mode_around_it_changes_nothing():
    with torch.inference_mode():
        example = torch.ones(1, 2, 8, 8)
        converted, _ = convert(Wired(lambda net, x: net.second(net.act(net.first(x)))), example)
    converted(torch.randn(1, 2, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in converted.parameters())


def test_export_at_the_top():
    assert allukan.convert is convert


def test_the_how_to_runs():
    path = Path(__file__).parents[2] / "docs" / "convert.md"
    failed, tried = doctest.testfile(str(path), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert tried > 5
    assert failed == 0
