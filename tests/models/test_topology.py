import pytest
import torch

from allukan.errors import UserError
from allukan.inference import fuse
from allukan.models import AllUKAN, ModelCard, Topology, build_model
from allukan.models.blocks import Fork, ForkedResidual, Residual
from allukan.models.norm_first import NormFirst
from allukan.nn import KAConv2d, Spline

WIDTHS = (4, 4, 8, 8, 12)
ALL = {
    "depth": 3,
    "token_depth": 1,
    "residual": True,
    "drop_path": 0.3,
    "deep_supervision": True,
    "full_depth": 2,
    "widths": WIDTHS,
}


def network(model="allukan-tiny", **topology):
    torch.manual_seed(0)
    return build_model(model, in_channels=1, out_channels=2, topology={"widths": WIDTHS, **topology})


@pytest.mark.parametrize("model", ["allukan-tiny", "convtwin-tiny", "ukan"])
def test_every_parameter_of_everything_at_once_learns(model):
    built = network(model, **ALL)
    sum(level.square().mean() for level in built.levels(torch.randn(4, 1, 64, 64))).backward()
    assert not [n for n, p in built.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


def test_the_map_before_the_first_pooling_is_added_at_full_size():
    """With no layer there the network has the weights of the plain one, and its head sees the sum of both maps."""
    plain, added = network().eval(), network(full_depth=0).eval()
    added.load_state_dict(plain.state_dict())
    seen = {}
    for name, part in (("plain", plain.head), ("added", added.head)):
        part.register_forward_pre_hook(lambda module, given, name=name: seen.update({name: given[0]}))
    added.encoder[0].register_forward_hook(lambda module, given, found: seen.update(first=found))
    x = torch.randn(1, 1, 45, 70)
    assert not torch.allclose(plain(x), added(x))
    assert torch.allclose(seen["added"], seen["plain"] + seen["first"], atol=1e-6)


@pytest.mark.parametrize("model", ["allukan-tiny", "allukan-paper-tiny", "convtwin-tiny", "ukan"])
def test_layers_at_full_size(model):
    counts = [
        sum(p.numel() for p in network(model, **given).parameters()) for given in ({}, {"full_depth": 0}, {"full_depth": 2})
    ]
    assert counts[0] == counts[1] < counts[2]
    assert network(model, full_depth=1)(torch.randn(2, 1, 33, 64)).shape == (2, 2, 33, 64)


def test_levels_halve_the_size_and_the_first_is_the_output():
    built = network(deep_supervision=True).eval()
    x = torch.randn(1, 1, 64, 96)
    levels = built.levels(x)
    assert [tuple(level.shape[2:]) for level in levels] == [(64, 96), (32, 48), (16, 24), (8, 12), (4, 6)]
    assert torch.equal(levels[0], built(x))
    assert len(network().levels(x)) == 1


def test_stochastic_depth_is_for_training_only_and_grows_with_depth():
    plain, dropped = network(residual=True), network(residual=True, drop_path=0.5)
    x = torch.randn(8, 1, 32, 32)
    assert torch.equal(plain.eval()(x), dropped.eval()(x))
    dropped.train()
    assert not torch.equal(dropped(x), dropped(x))
    shares = [m.drop_prob for m in dropped.modules() if type(m).__name__ == "DropPath"]
    assert len(shares) == 11  # the first of twelve is never dropped
    assert max(shares) == 0.5


@pytest.mark.parametrize("model", ["allukan-tiny", "allukan-paper-tiny", "convtwin-tiny", "ukan"])
def test_residual_stages_are_a_matter_of_the_preset_and_of_the_option(model):
    kinds = (Residual, ForkedResidual)
    for given in (True, False):
        built = network(model, residual=given)
        assert sum(isinstance(stage, kinds) for stage in (*built.encoder, *built.decoder)) == 8 * given
    plain = build_model(model, in_channels=1, out_channels=1).encoder[0]
    assert isinstance(plain, kinds) == model.startswith(("allukan-tiny", "convtwin"))


def test_a_dropped_branch_leaves_the_shortcut():
    units, x = torch.nn.Conv2d(2, 2, 3, padding=1), torch.randn(1, 2, 4, 4)
    assert torch.equal(Residual(units, torch.nn.Identity(), torch.nn.Dropout(1.0))(x), x)
    fork = Fork(torch.nn.ReLU(), units, torch.nn.Conv2d(2, 2, 1))
    assert torch.equal(ForkedResidual(fork, units, torch.nn.Dropout(1.0))(x), fork.side(x.relu()))


@torch.no_grad()
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("sharing", ["layer", "input", 2, "output", "edge"])
def test_a_stage_is_x_and_its_units_and_the_shortcut_shares_what_belongs_to_the_inputs(sharing, depth):
    """Against the composition of layers with copied weights, where x keeps its channels and where it changes them."""
    make = NormFirst(2, "ka", Spline(sharing=sharing), "batch")
    x = torch.randn(2, 4, 7, 5)
    same, other = (make.stage((4, *[4] * (depth - 1), b), image=False, drop=torch.nn.Identity()) for b in (4, 6))
    y = x
    for unit in same.units:
        y = unit(y)
    torch.testing.assert_close(same(x), x + y)
    if sharing not in ("layer", "input"):
        torch.testing.assert_close(other(x), other.shortcut(x) + other.units(x))
        return
    fork = other.fork
    shortcut = KAConv2d(4, 6, 1, bias=False, spline=Spline(sharing=sharing), norm=torch.nn.BatchNorm2d(4))
    first = KAConv2d(4, len(fork.weight), 3, padding=1, bias=False, spline=Spline(sharing=sharing), norm=torch.nn.BatchNorm2d(4))
    shared = {name: value for name, value in fork.state_dict().items() if name not in ("weight", "side.weight")}
    shortcut.load_state_dict({**shared, "weight": fork.side.weight})
    first.load_state_dict({**shared, "weight": fork.weight})
    torch.testing.assert_close(other(x), shortcut(x) + other.units(first(x)))


@torch.no_grad()
@pytest.mark.parametrize("model", ["allukan-tiny", "convtwin-tiny"])
def test_fused_it_is_the_same_function(model):
    built = network(model, **ALL).double()
    built(torch.randn(4, 1, 64, 64, dtype=torch.float64))
    built.eval()
    x = torch.randn(1, 1, 33, 40, dtype=torch.float64)
    torch.testing.assert_close(fuse(built)(x), built(x), rtol=1e-9, atol=1e-9)


def test_three_dimensions():
    model = AllUKAN(1, 1, 3, size="tiny", topology=ALL)
    assert model(torch.randn(2, 1, 32, 33, 35)).shape == (2, 1, 32, 33, 35)


@pytest.mark.parametrize(
    ("topology", "word"),
    [
        ({"depth": 0}, "depth must be a whole number of at least 1 and at most 100, got 0"),
        ({"drop_path": 1}, "drop_path must be a probability below 1, got 1"),
        ({"residual": "yes"}, "residual must be true or false"),
        ({"widths": [1, 2, 3]}, "widths must be one for each of 5 stages"),
        ({"width": 3}, "unknown option of topology 'width': did you mean 'widths'"),
        (3, "topology must be a mapping"),
    ],
)
def test_what_does_not_fit_is_an_error_of_the_user(topology, word):
    with pytest.raises(UserError, match=word):
        ModelCard("allukan-tiny", 1, ("a",), "binary", (32, 32), (0.5,), (0.2,), options={"topology": topology}).build()


def test_a_topology_as_it_is_and_one_with_changed_fields():
    given = Topology(depth=3)
    assert Topology().updated(given) is given
    assert given.updated({"residual": True}) == Topology(depth=3, residual=True)
