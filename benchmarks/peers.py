"""Layers of other projects, from clones in a folder or from installed packages; what is not there is said, never dropped."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from allukan.errors import UserError
from benchmarks.contenders import Convolution, Flattened, PeerLayers, Unfolded

Network = Callable[[], nn.Module]


@dataclass(frozen=True)
class Peer:
    """Another project: where it comes from, which of its modules are needed, and what they offer."""

    folder: str
    url: str
    root: str
    modules: tuple[str, ...]
    offer: Callable[..., list[PeerLayers]]
    package: str | None = None  # that pip installs; None where only a clone can be had
    unrun: tuple[str, ...] = ()  # packages whose __init__ imports much that their modules do not need


def _efficient_kan(kan: Any) -> list[PeerLayers]:
    return [PeerLayers("efficient-kan", kan.KANLinear, partial(Unfolded, kan.KANLinear))]


def _fast_kan(fastkan: Any) -> list[PeerLayers]:
    return [PeerLayers("fast-kan", fastkan.FastKANLayer, partial(Unfolded, fastkan.FastKANLayer))]


def _torch_conv_kan(kan_conv: Any, fast_kan_conv: Any, layers: Any) -> list[PeerLayers]:
    def native(module: Any, prefix: str, conv: Convolution) -> nn.Module:
        layer = getattr(module, f"{prefix}{conv.spatial_dims}DLayer")
        options = {"stride": conv.stride, "padding": conv.padding, "groups": conv.groups}
        return layer(conv.in_channels, conv.out_channels, conv.kernel_size, **options)

    def flat(layer: Callable[..., nn.Module], inputs: int, outputs: int) -> nn.Module:
        return Flattened(layer(inputs, outputs))

    return [
        PeerLayers("torch-conv-kan KANConv", partial(flat, layers.KANLayer), partial(native, kan_conv, "KANConv")),
        PeerLayers(
            "torch-conv-kan FastKANConv", partial(flat, layers.FastKANLayer), partial(native, fast_kan_conv, "FastKANConv")
        ),
    ]


def _pykan(layer: Any) -> list[PeerLayers]:
    def linear(inputs: int, outputs: int) -> nn.Module:
        return Flattened(layer.KANLayer(inputs, outputs))

    return [PeerLayers("pykan", linear, None)]  # unfolded it would take half a minute a step


def _inkan(layer: Any) -> list[PeerLayers]:
    return [PeerLayers("inkan", layer.KANLayer, partial(Unfolded, layer.KANLayer))]


GITHUB = "https://github.com"
PEERS = (
    Peer("efficient-kan", f"{GITHUB}/Blealtan/efficient-kan", "src", ("efficient_kan.kan",), _efficient_kan, "efficient_kan"),
    Peer("fast-kan", f"{GITHUB}/ZiyaoLi/fast-kan", ".", ("fastkan.fastkan",), _fast_kan, "fastkan"),
    Peer(
        "torch-conv-kan",
        f"{GITHUB}/IvanDrokin/torch-conv-kan",
        ".",
        ("kan_convs.kan_conv", "kan_convs.fast_kan_conv", "kans.layers"),
        _torch_conv_kan,
        unrun=("kan_convs",),
    ),
    Peer("pykan", f"{GITHUB}/KindXiaoming/pykan", ".", ("kan.KANLayer",), _pykan, "kan", unrun=("kan",)),
    Peer("inkan", f"{GITHUB}/NAVEENMN/inkan (or pip install inkan)", ".", ("inkan.layer",), _inkan, "inkan"),
)
UKAN_FOLDER, UKAN_URL = "U-KAN", f"{GITHUB}/CUHK-AIM-Group/U-KAN"


def find_peers(folder: Path | None) -> tuple[list[PeerLayers], list[str]]:
    """The layers of every peer that is there, and a sentence on each that is not.

    ``folder`` holds clones under the names they have on GitHub; installed packages are taken where there is no clone. Raises
    ``UserError`` when ``folder`` does not exist.
    """
    _check(folder)
    of_peers: list[PeerLayers] = []
    notes = []
    for peer in PEERS:
        try:
            modules = _modules(peer, folder)
        except Exception as error:  # a peer may fail in any way: it is left out, and said so
            notes.append(f"{peer.folder}: not usable ({type(error).__name__}: {error})")
            continue
        if modules is None:
            notes.append(f"{peer.folder}: not found; clone {peer.url} into the folder of --peers")
        else:
            of_peers += peer.offer(*modules)
    return of_peers, notes


def find_ukan(folder: Path | None) -> tuple[Network | None, list[str]]:
    """U-KAN from its own repository, for RGB and one class (it needs timm and torchvision), or a sentence on why not."""
    _check(folder)
    root = folder / UKAN_FOLDER / "Seg_UKAN" if folder else None
    if root is None or not root.is_dir():
        return None, [f"{UKAN_FOLDER}: not found; clone {UKAN_URL} into the folder of --peers"]
    try:
        (archs,) = load(root, ("archs",))
    except Exception as error:
        return None, [f"{UKAN_FOLDER}: not usable ({type(error).__name__}: {error})"]

    return lambda: archs.UKAN(1, embed_dims=[128, 160, 256]), []


def _check(folder: Path | None) -> None:
    if folder is not None and not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give --peers a folder that holds clones of the peers.")


def _modules(peer: Peer, folder: Path | None) -> list[ModuleType] | None:
    if folder is not None and (root := folder / peer.folder / peer.root).is_dir():
        return load(root, peer.modules, peer.unrun)
    if peer.package is None or find_spec(peer.package) is None:
        return None
    return [importlib.import_module(name) for name in peer.modules]


def load(root: Path, names: tuple[str, ...], unrun: tuple[str, ...] = ()) -> list[ModuleType]:
    """Modules of a clone by path; neither ``sys.path`` nor ``sys.modules`` is different afterwards.

    The packages in ``unrun`` are entered without running their ``__init__``.
    """
    with _alone(root):
        for name in unrun:
            package = ModuleType(name)
            package.__path__ = [str(root / name)]
            sys.modules[name] = package
        return [importlib.import_module(name) for name in names]


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Imports from ``root`` first, without meeting modules of the same names: peers share names such as ``kan`` and ``utils``."""
    tops = {path.stem for path in root.iterdir()}
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] in tops}
    for name in before:
        del sys.modules[name]
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(root))
        for name in [name for name in sys.modules if name.split(".")[0] in tops]:
            del sys.modules[name]
        sys.modules.update(before)
