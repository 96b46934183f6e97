"""Every option of a training in one frozen dataclass: from the command line, from YAML, and back to ``RUN/config.yaml``."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from allukan.data import DRAWN, LabelRules
from allukan.errors import UserError
from allukan.files import read_text, write_text
from allukan.training.augmentation import AUGMENTATIONS

PROTOCOLS = ("clean", "ukan")
INIT_HEADS = ("keep", "new")
MACHINE_OPTIONS = ("data", "out", "accelerator", "devices", "compile")  # may differ when a run is resumed
_LEARNING_RATES = {"clean": 3e-3, "ukan": 1e-4}
_UKAN_SPLINE_LR = 1e-2  # what U-KAN trains its own KAN layers with
_AUGMENT: dict[str, tuple[str, ...]] = {"clean": (), "ukan": ()}
_LARGEST_SEED = 2**32 - 1  # numpy's and scikit-learn's
_SMALLEST = 32  # pixels: the deepest feature map is 1/32 of the input


@dataclass(frozen=True)
class TrainConfig:
    """What a training does; every field is an option of ``allukan train`` or a key of its YAML file.

    Attributes:
        data: dataset folder.
        out: run folder.
        model: a name of ``allukan.models.MODELS``.
        size: ``(H, W)`` in pixels at which the network works; one number means a square.
        epochs: passes over the training images.
        batch_size: images a step and device.
        protocol: "clean" (train / validation / test, grouped) or "ukan" (80/20, as in the literature).
        seed: of the split, the initial weights, the order and the augmentation.
        lr: initial learning rate of Adam, cosine to 1e-5; None is the protocol's, 3e-3 (clean) or 1e-4 (ukan).
        weight_decay: L2 penalty on λ; not on splines, norms and biases.
        spline_lr: initial learning rate of the splines (w and c; every parameter of a layer with a spline an edge); None is
            ``lr``, and for the model "ukan" by the protocol "ukan" 1e-2, as published.
        spline_decay: L2 penalty on w and c.
        spline_smoothness: weight in the loss of Σ (c_{m+1} - 2 c_m + c_{m-1})², which straightens the splines.
        ema: decay of the exponential moving average of the weights that is validated and kept, as 0.999; 0 keeps the weights.
        augment: changes of the training images beside rotations and flips: any of "affine", "elastic", "intensity" and
            "speckle"; None is the protocol's, by "ukan" none.
        groups: which images belong together: "FILE.csv[:COLUMN]" or "re:REGEX" on the id.
        splits: a file with the split to use: "splits.json", "splits_final.json" of nnU-Net, or a CSV of id and split; "drawn" is
            the protocol's own although the data bring a split. None is the split of the data, else the protocol's.
        fold: which fold validates, of a split that has folds; None is the first.
        ignore: value of the label that counts in no loss and no score, or "none"; None is what ``dataset.json`` says.
        foreground: every label as one class.
        init: folder of a trained model, ``RUN/model``, whose weights this training starts from.
        init_heads: "keep", or "new": layers whose shape depends on the number of classes start anew, and where the number of
            channels differs from that of ``init`` those that depend on it.
        precision: "auto", "32-true", "bf16-mixed" or "16-mixed".
        accelerator: "auto", "cpu", "cuda" …, as Lightning names them.
        devices: how many, or "auto".
        compile: run the network through ``torch.compile``.
        options: options of the model: ``norm``, ``spline: {sharing: …, grid_size: …}``.
    """

    data: str
    out: str
    model: str = "allukan-base"
    size: tuple[int, int] = (256, 256)
    epochs: int = 400
    batch_size: int = 8
    protocol: str = "clean"
    seed: int = 0
    lr: float | None = None
    weight_decay: float = 1e-4
    spline_lr: float | None = None
    spline_decay: float = 0.0
    spline_smoothness: float = 0.0
    ema: float = 0.0
    augment: tuple[str, ...] | None = None
    groups: str | None = None
    splits: str | None = None
    fold: int | None = None
    ignore: int | str | None = None
    foreground: bool = False
    init: str | None = None
    init_heads: str = "keep"
    precision: str = "auto"
    accelerator: str = "auto"
    devices: str = "auto"
    compile: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_kinds(self)
        object.__setattr__(self, "size", parse_size(self.size))
        object.__setattr__(self, "devices", str(self.devices))
        _number("epochs", self.epochs, int, 1)
        _number("batch_size", self.batch_size, int, 1)
        _number("seed", self.seed, int, 0, _LARGEST_SEED)
        for name in ("weight_decay", "spline_decay", "spline_smoothness", "ema"):
            _number(name, getattr(self, name), (int, float), 0)
        if self.ema >= 1:
            raise UserError(f"option ema must be below 1, got {self.ema!r}: 0.999 averages over the last thousand steps.")
        if self.protocol not in PROTOCOLS:
            raise UserError(f"unknown protocol {self.protocol!r}: choose one of {', '.join(PROTOCOLS)}.")
        if self.precision not in ("auto", "32-true", "bf16-mixed", "16-mixed"):
            raise UserError(f"unknown precision {self.precision!r}: choose auto, 32-true, bf16-mixed or 16-mixed.")
        if self.init_heads not in INIT_HEADS:
            raise UserError(f"unknown init_heads {self.init_heads!r}: choose one of {', '.join(INIT_HEADS)}.")
        if self.init_heads != "keep" and self.init is None:
            raise UserError("init_heads is for a training that starts from given weights: add --init RUN/model, or leave it out.")
        if self.lr is None:
            object.__setattr__(self, "lr", _LEARNING_RATES[self.protocol])
        _number("lr", self.lr, (int, float), 0)
        if self.spline_lr is None:
            published = self.protocol == "ukan" and self.model == "ukan"
            object.__setattr__(self, "spline_lr", _UKAN_SPLINE_LR if published else self.lr)
        _number("spline_lr", self.spline_lr, (int, float), 0)
        _ = self.label_rules
        self._check_split()
        object.__setattr__(self, "augment", _AUGMENT[self.protocol] if self.augment is None else _augmentations(self.augment))

    def _check_split(self) -> None:
        if self.splits is not None and not (isinstance(self.splits, str) and self.splits):
            raise UserError(f"option splits must be the name of a file, or {DRAWN}, got {self.splits!r}.")
        if self.fold is not None:
            _number("fold", self.fold, int, 0)
        given = [name for name in ("splits", "fold") if getattr(self, name) not in (None, DRAWN)]
        if self.protocol == "ukan" and given:
            raise UserError(f"the protocol ukan draws 80/20 as in the literature: leave {given[0]} out, or choose clean.")

    @property
    def label_rules(self) -> LabelRules:
        """How labels are read."""
        return LabelRules(self.ignore, self.foreground)

    def save(self, path: Path) -> None:
        """Write every option in force as YAML."""
        lists = {"size": list(self.size), "augment": list(self.augment or ())}
        write_text(path, yaml.safe_dump(asdict(self) | lists, sort_keys=False, allow_unicode=True))


def load_config(path: str | Path | None, given: Mapping[str, Any]) -> TrainConfig:
    """Options of a YAML file, if any, overridden by those ``given``.

    Raises ``UserError`` for a missing or malformed file, an unknown key and a value that is not usable.
    """
    raw = merge(read_yaml(path) if path else {}, given)
    check_names(raw, [f.name for f in fields(TrainConfig)], "option")
    for name in ("data", "out"):
        if not raw.get(name):
            raise UserError("no dataset folder is given." if name == "data" else "no run folder is given: add --out RUN.")
    return TrainConfig(**raw)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings as one; where both have a value ``above`` wins, mappings within are merged in turn.

    >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
    {'a': {'b': 3, 'c': 2}}
    """
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


class _Loader(yaml.SafeLoader):
    """PyYAML's, but a key that stands twice is an error, "on" as a key is a word, and 1e-4 is a number, as in YAML 1.2."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:bool":
                key.tag = "tag:yaml.org,2002:str"
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.YAMLError(f"{key.value!r} in line {key.start_mark.line + 1} is there already")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789"))


def read_value(text: str) -> Any:
    """One YAML value, read as in a file. Raises ``yaml.YAMLError``.

    >>> read_value("1e-4"), read_value("[1, two]")
    (0.0001, [1, 'two'])
    """
    return yaml.load(text, Loader=_Loader)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML mapping; ``UserError`` when it is not there or not one, and for a key that stands twice."""
    try:
        raw = yaml.load(read_text(Path(path)), Loader=_Loader)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path} must hold 'option: value' lines, got {type(raw).__name__}.")
    return raw


def parse_size(value: Any) -> tuple[int, int]:
    """``256``, ``"256"``, ``"192x256"`` (height × width) or a pair → ``(H, W)``; ``UserError`` when not usable.

    >>> parse_size("192x256")
    (192, 256)
    """
    parts = str(value).lower().split("x") if isinstance(value, str | int) else value
    try:
        numbers = [int(p) for p in parts if not isinstance(p, bool | float)]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != len(parts if isinstance(parts, list | tuple) else ()):  # a mapping, or 256.5 pixels
        numbers = []
    if len(numbers) not in (1, 2):
        raise UserError(f"size {value!r} is not usable: give pixels such as 256, or height x width such as 192x256.")
    if min(numbers) < _SMALLEST:
        raise UserError(f"size {value!r} is not usable: the network halves it five times, so give at least {_SMALLEST} pixels.")
    return numbers[0], numbers[-1]


def _augmentations(value: Any) -> tuple[str, ...]:
    """Names, from a list or a text with commas; "none" and nothing at all are no name."""
    if not isinstance(value, str | list | tuple):
        raise UserError(f"option augment must be names with commas or a list of them, got {value!r}.")
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else list(value)
    names = [name for name in names if name not in ("", "none")]
    for name in names:
        if name not in AUGMENTATIONS or names.count(name) > 1:
            raise UserError(f"augment holds {name!r}: choose from {', '.join(AUGMENTATIONS)}, each once, or none.")
    return tuple(names)


def _check_kinds(config: TrainConfig) -> None:
    """``UserError`` for a value of another kind than its option has; numbers, sizes and lists are looked at elsewhere."""
    for name in ("data", "out", "model", "protocol", "precision", "accelerator", "groups", "init", "init_heads"):
        value = getattr(config, name)
        if not isinstance(value, str) and not (value is None and name in ("groups", "init")):
            raise UserError(f"option {name} must be text, got {value!r}.")
    if not isinstance(config.devices, str | int) or isinstance(config.devices, bool):
        raise UserError(f"option devices must be a whole number or 'auto', got {config.devices!r}.")
    if not isinstance(config.compile, bool):
        raise UserError(f"option compile must be true or false, got {config.compile!r}.")
    if not isinstance(config.options, Mapping) or not all(isinstance(name, str) for name in config.options):
        raise UserError(f"option options must be 'name: value' pairs, got {config.options!r}.")


def _number(name: str, value: Any, kind: type | tuple[type, ...], least: float, most: float = sys.float_info.max) -> None:
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:  # type: ignore[operator]
        what = "a whole number" if kind is int else "a number"
        limit = f" and at most {most}" if most < sys.float_info.max else ""
        raise UserError(f"option {name} must be {what} of at least {least}{limit}, got {value!r}.")


def check_names(given: Any, names: Sequence[str], what: str) -> None:
    """``UserError`` unless ``given`` is a mapping of some of ``names``; ``what`` they are goes into the sentence."""
    if not isinstance(given, Mapping):
        raise UserError(f"{what}s must be 'name: value' pairs, got {given!r}.")
    for key in given:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}."
            raise UserError(f"unknown {what} {key!r}: {hint}")
