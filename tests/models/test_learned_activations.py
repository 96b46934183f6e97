"""What convolutional networks learn in the place of φ: the functions themselves, and the twin that has them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import least_squares
from torch import nn

from allukan.costs import inspect_model, parameter_count
from allukan.errors import UserError
from allukan.models import AllUKAN, ModelCard, build_model, load_model, save_model
from allukan.models.layers import Activation
from allukan.models.learned_activations import ACTIVATIONS, LEARNED, Learned, PReLU, Rational, Swish, learned_activation
from allukan.models.ukan import UKAN
from allukan.training.parameters import parameter_groups, spline_parameters

NAMES = ACTIVATIONS[1:]
NORMS = (nn.BatchNorm2d, nn.LayerNorm)


def scrambled(module):
    """With parameters that differ from activation to activation."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def by_channel(module, x):
    """The function of every channel in numpy, from the definitions."""
    p = [q.detach().double().numpy() for q in module.parameters()]
    x = x.double().numpy()
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        t, a = x[:, c], [q[min(c, len(q) - 1)] for q in p]
        if isinstance(module, PReLU):
            out[:, c] = np.where(t > 0, t, a[0] * t)
        elif isinstance(module, Swish):
            out[:, c] = t / (1 + np.exp(-a[0] * t))
        else:
            out[:, c] = np.polyval(a[0][::-1], t) / (1 + np.abs(np.polyval([*a[1][::-1], 0], t)))
    return torch.from_numpy(out)


@pytest.mark.parametrize("channels", [None, 3])
@pytest.mark.parametrize("kind", LEARNED.values())
def test_the_functions_are_those_of_numpy(kind, channels):
    module, x = scrambled(kind(channels)), torch.randn(2, 3, 5, 4, dtype=torch.float64) * 2
    torch.testing.assert_close(module.double()(x).detach(), by_channel(module, x))


@pytest.mark.parametrize("channels", [None, 3])
@pytest.mark.parametrize("kind", LEARNED.values())
def test_tokens_have_their_channels_last(kind, channels):
    module, tokens = scrambled(kind(channels)), scrambled(kind(channels, last=True))
    x = torch.randn(2, 3, 7)
    torch.testing.assert_close(tokens(x.movedim(1, -1)).movedim(-1, 1), module(x))


@pytest.mark.parametrize("kind", LEARNED.values())
def test_the_gradients_are_those_of_differences(kind):
    module, x = scrambled(kind(2)).double(), torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    names, values = zip(*module.named_parameters(), strict=True)

    def function(x, *values):
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), x)

    assert torch.autograd.gradcheck(function, (x, *values))


@pytest.mark.parametrize("kind", [Swish, Rational])
def test_it_starts_as_silu(kind):
    x = torch.linspace(-5, 5, 501).view(1, 1, -1)
    torch.testing.assert_close(kind()(x), F.silu(x), rtol=0, atol=7e-5)


def test_a_rational_starts_as_the_nearest_one():
    """No other coefficients come closer by more than a thousandth: scipy's least squares from another start as well."""
    x = np.linspace(-5, 5, 1001)
    silu = x / (1 + np.exp(-x))

    def miss(p):
        return np.polyval(p[5::-1], x) / (1 + np.abs(np.polyval([*p[:5:-1], 0], x))) - silu

    ours = np.concatenate([p.detach().double().numpy()[0] for p in Rational().parameters()])
    for start in (ours, np.array([0, 0.5, 0.2, 0.05, 0.01, 0.001, 0, 0.1, 0, 0.001])):
        best = least_squares(miss, start, xtol=1e-15, ftol=1e-15, gtol=1e-15, x_scale=np.abs(ours) + 1e-3).fun
        assert np.square(miss(ours)).mean() <= 1.002 * np.square(best).mean()


def test_a_rational_has_no_pole_and_outlives_half_precision():
    module = Rational(64)
    with torch.no_grad():
        module.denominator.normal_()
    x = torch.linspace(-300, 300, 999, dtype=torch.float16).expand(1, 64, -1)
    out = module(x)
    assert out.dtype == torch.float16
    assert out.isfinite().all()
    assert torch.equal(out, module(x.float()).half())


@pytest.mark.parametrize(
    ("name", "activations", "extra"),
    [("prelu", 42, 42), ("swish", 42, 42), ("rational", 42, 420), ("prelu-channel", 42, None), ("rational-channel", 42, None)],
)
def test_the_twin_has_one_behind_every_norm(name, activations, extra):
    twin, model = (build_model("convtwin-tiny", in_channels=1, out_channels=1, **o) for o in ({}, {"activation": name}))
    runs = [m for m in model.modules() if isinstance(m, nn.Sequential) and any(isinstance(child, Learned) for child in m)]
    assert all(isinstance(run[0], NORMS) and isinstance(run[1], Learned) for run in runs)
    assert len(runs) == activations == len([m for m in model.modules() if isinstance(m, NORMS)])
    assert not [m for m in model.modules() if isinstance(m, Activation)]
    channels = sum(len(run[0].weight) for run in runs) * (10 if name.startswith("rational") else 1)
    assert parameter_count(model) - parameter_count(twin) == (channels if extra is None else extra)


@pytest.mark.parametrize("name", NAMES)
def test_its_parameters_learn_at_the_rate_of_the_network_and_do_not_decay(name):
    model = build_model("convtwin-tiny", in_channels=1, out_channels=1, activation=name)
    found = {id(p): (g["lr"], g["weight_decay"]) for g in parameter_groups(model, 1, 3, 2, 5) for p in g["params"]}
    learned = [p for m in model.modules() if isinstance(m, Learned) for p in m.parameters()]
    assert {found[id(p)] for p in learned} == {(1, 0)}
    assert not spline_parameters(model)
    model(torch.randn(2, 1, 64, 64)).square().mean().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in learned)


@pytest.mark.parametrize(("order", "dims"), [("layer-first", 2), ("norm-first", 3)])
def test_other_orders_and_dimensions_have_it_too(order, dims):
    model = build_model(
        "convtwin-tiny", in_channels=1, out_channels=2, spatial_dims=dims, order=order, activation="swish-channel"
    )
    assert len([m for m in model.modules() if isinstance(m, Swish)]) == 42
    assert model.eval()(torch.randn(1, 1, *[33] * dims)).shape == (1, 2, *[33] * dims)


@pytest.mark.parametrize("name", ["prelu-channel", "rational"])
def test_saved_and_exported_it_computes_the_same(name, tmp_path):
    options = {"activation": name, "topology": {"depth": 1, "token_depth": 1}}
    card = ModelCard("convtwin-tiny", 1, ("a",), "binary", (32, 32), (0.5,), (0.2,), options=options)
    model = card.build()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Learned):
                next(module.parameters()).mul_(1.1)
    model.eval()
    save_model(tmp_path, model, card)
    x = torch.randn(1, 1, 33, 40)
    assert torch.equal(load_model(tmp_path)[0](x), model(x))
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "forward", "backward"), [("prelu", 2, 4), ("swish", 5, 14), ("rational", 20, 42)])
def test_every_element_is_counted(name, forward, backward):
    """PReLU: a product and a choice. Swish: two products and a sigmoid. Rational: 9 products, 8 sums, 1 + |·| and ÷."""
    x, module = torch.randn(2, 8, 6, 6), learned_activation(name, 8, last=False)
    total = inspect_model(nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), module), x.shape).layers[1]
    assert total.kind == type(module).__name__
    assert total.cost.forward.total == forward * x.numel()
    assert total.cost.backward.total == backward * x.numel()
    assert total.parameters == parameter_count(module)


@pytest.mark.parametrize(
    ("make", "error", "word"),
    [
        (lambda: AllUKAN(1, 1, activation="prelu"), ValueError, "activation='prelu' is for layer='conv', the convolutional twin"),
        (lambda: AllUKAN(1, 1, layer="conv", activation="pau"), ValueError, "activation 'pau'; choose one of base, prelu"),
        (
            lambda: AllUKAN(1, 1, layer="conv", activation="swish", spline={"base": "tanh"}),
            ValueError,
            "no place for spline.base",
        ),
        (lambda: UKAN(1, 1, activation="prelu"), TypeError, "activation"),
        (
            lambda: build_model("allukan-tiny", in_channels=1, out_channels=1, activation="prelu"),
            UserError,
            "'allukan-tiny' has no option 'activation'",
        ),
    ],
)
def test_who_cannot_have_it_says_so(make, error, word):
    with pytest.raises(error, match=word):
        make()
