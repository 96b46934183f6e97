"""U-shapes that divide the size along every axis as they are told, with fewer stages; what all networks can, they can too."""

import io

import pytest
import torch
from torch import nn

from allukan import load_model
from allukan.costs import inspect_model, parameter_count, saved_bytes
from allukan.inference import fuse
from allukan.models import AllUKAN, ModelCard, Topology, build_model, save_model
from allukan.models.skeleton import UShape

NAMES = ["allukan-tiny", "allukan-paper-tiny", "convtwin-tiny", "convtwin-tiny layer-first", "ukan", "ukan-sakan"]
FLAT = [[1, 2, 2], [1, 2, 2], [2, 2, 2], [2, 2, 2], [1, 1, 1]]  # of voxels four times as long as wide
FLAT_KERNELS = [[1, 3, 3], [1, 3, 3], 3, 3, 3, 3]
SHAPES = [  # strides, kernels, size of the image, sizes at every resolution
    ([2, 2, 2], None, (40, 56, 40), [(40, 56, 40), (20, 28, 20), (10, 14, 10), (5, 7, 5)]),
    (FLAT, FLAT_KERNELS, (8, 32, 48), [(8, 32, 48), (8, 16, 24), (8, 8, 12), (4, 4, 6), (2, 2, 3), (2, 2, 3)]),
    ([1, 2], [1, 3, 3], (9, 11, 7), [(9, 11, 7), (9, 11, 7), (5, 6, 4)]),
    ([2, [2, 1], 2, [1, 2]], None, (33, 40), [(33, 40), (17, 20), (9, 20), (5, 10), (5, 5)]),
    ([[1, 1], 2, 2, 2, 2], None, (32, 48), [(32, 48), (32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]),
    ([2], None, (5, 6), [(5, 6), (3, 3)]),
]


def network(name="allukan-tiny", dims=3, channels=1, **topology):
    torch.manual_seed(0)
    name, *order = name.split()
    options = {"size": "tiny"} if name.startswith("ukan") else {"order": order[0]} if order else {}
    return build_model(name, in_channels=channels, out_channels=2, spatial_dims=dims, topology=topology, **options)


def shaped(name, case, **more):
    strides, kernels, size, resolutions = case
    kernels = {} if kernels is None else {"kernels": kernels}
    return network(name, len(size), strides=strides, **kernels, **more), torch.randn(2, 1, *size), resolutions


def outputs(model, x):
    """The size of what every stage and every patch embedding gives."""
    found = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda m, a, y, name=name: found.update({name: tuple(y[0][0].shape)}))
    model(x)
    return found


@pytest.mark.parametrize("case", SHAPES, ids=lambda case: str(case[0]))
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns_and_every_stage_has_the_size_it_should(name, case):
    model, x, resolutions = shaped(name, case)
    y = model(x)
    y.square().mean().backward()
    assert y.shape == (2, 2, *x.shape[2:])
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    stages = len(case[0])
    assert (len(model.encoder), len(model.embeddings), len(model.decoder)) == (min(3, stages), max(0, stages - 3), stages)
    assert len(model.decoder_tokens) == len(model.embeddings)
    found = outputs(model, x)
    assert [found[f"encoder.{i}"] for i in range(len(model.encoder))] == resolutions[: len(model.encoder)]
    assert [found[f"embeddings.{i}"] for i in range(len(model.embeddings))] == resolutions[4:]
    assert [found[f"decoder.{i}"] for i in range(stages)] == resolutions[:0:-1]
    assert [found[f"decoder_tokens.{i}"] for i in range(len(model.decoder_tokens))] == resolutions[3:-1][::-1]


@pytest.mark.parametrize("name", NAMES)
def test_five_halvings_with_kernels_of_three_are_the_default(name):
    told = network(name, 2, strides=[2, [2, 2], 2, 2, 2], kernels=[3] * 6)
    plain = network(name, 2)
    x = torch.randn(2, 1, 33, 40)
    assert told.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(told(x), plain(x))


@pytest.mark.parametrize("name", NAMES)
def test_kernels_of_one_along_an_axis_do_not_mix_it(name):
    """With strides and kernels of 1 along the first axis slices are pictures: the 2D network with the same weights, a slice each.

    Norms and resizing included, but for those that count slices together (all norms are in evaluation mode).
    """
    strides, kernels = [[1, 2, 2]] * 4, [[1, 3, 3]] * 5
    volume = network(name, 3, strides=strides, kernels=kernels).eval()
    flat = network(name, 2, strides=[2] * 4, kernels=[3] * 5).eval()
    values = iter(volume.state_dict().values())
    flat.load_state_dict({key: next(values).view(old.shape) for key, old in flat.state_dict().items()})
    x = torch.randn(1, 1, 3, 40, 33)
    slices = torch.stack([flat(one) for one in x.unbind(2)], 2)
    torch.testing.assert_close(volume(x), slices, rtol=1e-4, atol=1e-4)


def test_levels_of_deep_supervision_have_the_resolutions_of_the_decoder():
    for case in SHAPES:
        model, x, resolutions = shaped("allukan-tiny", case, deep_supervision=True)
        levels = model.eval().levels(x)
        assert [tuple(level.shape[2:]) for level in levels] == resolutions[:-1]
        assert torch.equal(levels[0], model(x))


def test_stochastic_depth_grows_over_the_stages_there_are():
    for strides, branches in [([2], 2), ([2, 2, 2], 6), ([2, 2, 2, 2], 9), ([2] * 5, 12)]:
        model = network("allukan-tiny", 2, strides=strides, drop_path=0.5)
        shares = [m.drop_prob for m in model.modules() if type(m).__name__ == "DropPath"]
        assert len(shares) == branches - 1
        assert max(shares) == 0.5


@torch.no_grad()
@pytest.mark.parametrize("name", ["allukan-tiny", "convtwin-tiny", "convtwin-tiny layer-first"])
@pytest.mark.parametrize("case", [SHAPES[1], SHAPES[3]], ids=["3D", "2D"])
def test_fused_it_is_the_same_function(name, case):
    model, x, _ = shaped(name, case)
    model, x = model.double(), x.double()
    model(x)
    model.eval()
    torch.testing.assert_close(fuse(model)(x), model(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", [SHAPES[1], SHAPES[3]], ids=["3D", "2D"])
@pytest.mark.parametrize("name", ["allukan-tiny", "convtwin-tiny", "ukan"])
def test_saved_bytes_and_parameters_are_those_measured(name, case):
    model, x, resolutions = shaped(name, case)
    found = inspect_model(model, x.shape)
    assert found.total().parameters == parameter_count(model)
    rel = 0.02 if (name, x.ndim) == ("ukan", 5) else 0  # it hands on another memory layout, and so saves a copy
    assert found.total().saved_bytes == pytest.approx(saved_bytes(lambda: model(x), model), rel=rel, abs=0)
    assert found.outputs["embeddings.0"][2:] == resolutions[4]


def test_flops_of_the_twin_are_those_of_its_convolutions():
    model, x, _ = shaped("convtwin-tiny", SHAPES[1])
    found, products = inspect_model(model, x.shape), []

    def count(module, args, y):
        rows = y.numel() // (y.shape[1] if isinstance(module, nn.Conv3d) else y.shape[-1])
        products.append(2 * rows * module.weight.numel())

    for module in model.modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            module.register_forward_hook(count)
    model(x)
    assert found.total().cost.forward.linear == sum(products)


def test_rows_of_an_inspection_say_which_stride():
    rows = {row.name: row.kind for row in inspect_model(network(strides=[2, 2, 2, [1, 2, 2]]), (1, 1, 16, 32, 32)).layers}
    assert rows["embeddings.0.0"] == "KAConv3d 3×3×3 stride 1×2×2"


@pytest.mark.slow
@pytest.mark.parametrize("case", [SHAPES[1], SHAPES[3]], ids=["3D", "2D"])
def test_exported_and_traced_it_computes_the_same(case):
    model, x, _ = shaped("allukan-tiny", case, depth=1, token_depth=1)
    model.eval()
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x), rtol=1e-4, atol=1e-4)
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(model, (x,), check_trace=False), file)
    file.seek(0)
    other = torch.randn(1, 1, *[n + 3 for n in x.shape[2:]])
    torch.testing.assert_close(torch.jit.load(file)(other), model(other), rtol=1e-4, atol=1e-4)


def test_saved_and_loaded_it_is_the_same_to_the_bit(tmp_path):
    options = {"topology": {"strides": FLAT, "kernels": FLAT_KERNELS}}
    card = ModelCard("allukan-tiny", 1, ("a",), "binary", (32, 32), (0.5,), (0.2,), spatial_dims=3, options=options)
    model = card.build().eval()
    save_model(tmp_path, model, card)
    loaded, found = load_model(tmp_path)
    x = torch.randn(1, 1, 8, 32, 48)
    assert found == card
    assert torch.equal(loaded(x), model(x))


def test_widths_go_with_the_stages():
    assert Topology(strides=(2, 2, 2)).widths_of("tiny") == (8, 16, 64)
    model = AllUKAN(1, 1, topology={"strides": [2, 2], "widths": [4, 6]})
    assert isinstance(model, UShape)
    assert model.head.in_channels == 4


@pytest.mark.parametrize(
    ("topology", "word"),
    [
        ({"strides": []}, "strides must be one to nine of 1 or 2"),
        ({"strides": [2] * 6}, "widths must be given with 6 strides"),
        ({"strides": [2] * 10}, "strides must be one to nine"),
        ({"strides": [2, 0]}, "strides must be one to nine of 1 or 2"),
        ({"strides": [2, True]}, "strides must be one to nine of 1 or 2"),
        ({"strides": 2}, "strides must be one to nine"),
        ({"strides": [2, [2, 2]]}, r"strides must name 3 axes, got \[2, 2\]"),
        ({"kernels": [3, 3]}, "kernels must be 6, one more than strides, got 2"),
        ({"kernels": [3, 3, 2, 3, 3, 3]}, "kernels must be of 1 or 3"),
        ({"strides": [2], "kernels": [[3, 3], 3]}, r"kernels must name 3 axes, got \[3, 3\]"),
        ({"strides": [2, 2], "widths": [4, 4, 4]}, r"widths must be one for each of 2 stages, got \(4, 4, 4\)"),
        ({"widths": [4, 4, 4]}, "widths must be one for each of 5 stages"),
        ({"widths": []}, "widths must be five whole numbers"),
    ],
)
def test_what_does_not_fit_is_told(topology, word):
    with pytest.raises(ValueError, match=word):
        network(**topology)
