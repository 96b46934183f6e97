import sys

import pytest
import torch
from torch import nn

from allukan.errors import UserError
from allukan.models.layers import Activation
from benchmarks.contenders import VARIANTS, Convolution, PeerLayers, Unfolded, choose, with_layers_of
from benchmarks.networks import Task
from benchmarks.peers import PEERS, find_peers, find_ukan, load


def test_a_clone_is_used_and_what_is_missing_is_named_with_its_address(clones):
    of_peers, notes = find_peers(clones)
    assert "efficient-kan" in [peer.name for peer in of_peers]
    told = "\n".join(notes)
    assert "fast-kan: not usable (ModuleNotFoundError: No module named 'package_that_nobody_has')" in told
    assert "torch-conv-kan: not found; clone https://github.com/IvanDrokin/torch-conv-kan" in told
    assert len({note.split(":")[0] for note in notes} | {peer.name for peer in of_peers}) == len(PEERS)


def test_importing_leaves_no_trace(clones):
    before, path = dict(sys.modules), list(sys.path)
    find_peers(clones)
    assert sys.path == path
    assert not {"efficient_kan", "efficient_kan.kan", "helper_of_peer", "fastkan"} & (set(sys.modules) - set(before))


def test_two_peers_with_modules_of_the_same_name_do_not_meet(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "utils.py").write_text(f"WHO = {name!r}\n")
        (tmp_path / name / "kan.py").write_text("from utils import WHO\n")
    assert [load(tmp_path / name, ("kan",))[0].WHO for name in ("one", "two")] == ["one", "two"]


def test_a_package_can_be_entered_without_running_it(tmp_path):
    (tmp_path / "heavy_peer").mkdir()
    (tmp_path / "heavy_peer/__init__.py").write_text("raise RuntimeError('ran')\n")
    (tmp_path / "heavy_peer/light.py").write_text("VALUE = 3\n")
    assert load(tmp_path, ("heavy_peer.light",), unrun=("heavy_peer",))[0].VALUE == 3
    with pytest.raises(RuntimeError, match="ran"):
        load(tmp_path, ("heavy_peer.light",))


def test_ukan_is_found_by_its_folder(tmp_path):
    network, notes = find_ukan(tmp_path)
    assert network is None
    assert "https://github.com/CUHK-AIM-Group/U-KAN" in notes[0]
    (tmp_path / "U-KAN/Seg_UKAN").mkdir(parents=True)
    source = "import torch\n\ndef UKAN(classes, embed_dims):\n    return torch.nn.Conv2d(3, classes, embed_dims[0] // 128)\n"
    (tmp_path / "U-KAN/Seg_UKAN/archs.py").write_text(source)
    network, notes = find_ukan(tmp_path)
    assert notes == []
    assert network().weight.shape == (1, 3, 1, 1)


def test_a_folder_that_is_not_there():
    with pytest.raises(UserError, match="nowhere is not a folder"):
        find_peers(__import__("pathlib").Path("nowhere"))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 4])
def test_an_unfolded_linear_layer_is_a_convolution(dims, groups):
    torch.manual_seed(0)
    conv = Convolution(dims, 4, 8, 3, stride=2, padding=1, groups=groups)
    unfolded = Unfolded(lambda inputs, outputs: nn.Linear(inputs, outputs, bias=False), conv)
    weight = torch.cat([layer.weight for layer in unfolded.layers]).view(8, 4 // groups, *[3] * dims)
    x = torch.randn(2, 4, *[7, 6, 5][:dims])
    torch.testing.assert_close(unfolded(x), getattr(nn.functional, f"conv{dims}d")(x, weight, stride=2, padding=1, groups=groups))


def test_a_kit_replaces_every_layer_of_the_twin():
    peer = PeerLayers("linear", nn.Linear, lambda c: Unfolded(nn.Linear, c))
    task = Task("tiny", 1, 1, 32)
    network = with_layers_of(peer, task.network("conv"))
    plain = [m for m in task.network("conv").modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert not [m for m in network.modules() if isinstance(m, nn.Conv2d | Activation)]
    assert len([m for m in network.modules() if isinstance(m, Unfolded)]) == sum(isinstance(m, nn.Conv2d) for m in plain)
    assert network(torch.randn(2, 1, 64, 64)).shape == (2, 1, 64, 64)


def test_choosing():
    assert choose(None, VARIANTS, "variant") == list(VARIANTS)
    assert choose(["edge", "ka", "edge"], VARIANTS, "variant") == ["conv", "edge", "ka"]
    with pytest.raises(UserError, match="did you mean 'ka-free'"):
        choose(["kafree"], VARIANTS, "variant")
