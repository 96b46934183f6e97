"""Every option of a training: from the command line, from YAML, and back to ``RUN/config.yaml``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, field, replace
from math import inf, isfinite
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le, Lt, MinLen
from pydantic import BeforeValidator

from allukan.errors import UserError, shown
from allukan.options.amounts import parse_memory, parse_time
from allukan.options.labels import Foreground, Ignore, LabelRules
from allukan.options.sets import Help, Must, Number, OneOf, Whole, option_set
from allukan.yaml_files import write_yaml

PROTOCOLS = ("clean", "ukan")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
AUGMENTATIONS = ("affine", "elastic", "intensity", "speckle", "cutmix", "copypaste")
DICE_LOSSES = ("image", "batch", "present", "nnunet")
CT, IMAGE = "ct", "image"  # how intensities are made comparable that are no bytes
DRAWN = "drawn"  # asks for the protocol's own split where the dataset brings one
MACHINE_OPTIONS = ("data", "out", "accelerator", "devices", "compile", "cuda_graphs", "cache")  # may differ when a run is resumed
_LEARNING_RATES = {"clean": 3e-3, "ukan": 1e-4}
_UKAN_SPLINE_LR = 1e-2  # what U-KAN trains its own KAN layers with
_SHARED_SPLINES = 10 / 3  # times the rate of the rest: Adam moves λ of a 3×3 layer by 7 % of its size a step, c by 0.1 %
_LARGEST_SEED = 2**32 - 1  # numpy's and scikit-learn's
DEFAULT_SIZE = (256, 256)  # of pictures
DEFAULT_EPOCHS, DEFAULT_BATCH = 400, 8
SHAPING = ("strides", "kernels", "widths")  # options of a topology: where one of them is given, no stages are planned
_OPEN = ("size", "spacing_mm", "epochs", "batch_size", "intensities", "dice")  # what a plan and the images fill in
_SMALLEST, _LARGEST = 32, 16_384  # pixels: the deepest feature map is 1/32 of the input


def parse_size(value: Any) -> tuple[int, ...]:
    """``256``, ``"256"``, ``"192x256"`` (height × width), ``"40x56x40"`` (depth first) or a list → ``(H, W)`` or ``(D, H, W)``.

    What is empty stays so. ``UserError`` when not usable.

    >>> parse_size("192x256"), parse_size("40x56x40")
    ((192, 256), (40, 56, 40))
    """
    if isinstance(value, list | tuple) and not value:
        return ()
    parts = str(value).lower().split("x") if isinstance(value, str | int) else value
    try:
        numbers = [int(p) for p in parts if not isinstance(p, bool | float)]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != len(parts if isinstance(parts, list | tuple) else ()):  # a mapping, or 256.5 pixels
        numbers = []
    wrong = f"size {shown(value)} is not usable"
    if len(numbers) not in (1, 2, 3):
        raise UserError(f"{wrong}: give pixels such as 256, or height x width such as 192x256.")
    if len(numbers) < 3 and min(numbers) < _SMALLEST:
        raise UserError(f"{wrong}: the network halves it five times, so give at least {_SMALLEST} pixels.")
    if min(numbers) < 1:
        raise UserError(f"{wrong}: give at least 1 voxel a side.")
    if max(numbers) > _LARGEST:
        raise UserError(f"{wrong}: give at most {_LARGEST} pixels a side.")
    return (numbers[0], numbers[-1]) if len(numbers) < 3 else tuple(numbers)


def parse_spacing(value: Any) -> tuple[float, ...] | None:
    """``"3,1,1"`` or three numbers → mm along depth, height and width; ``UserError`` when not usable.

    >>> parse_spacing("3,1,1")
    (3.0, 1.0, 1.0)
    """
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else value
    try:
        sizes = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        sizes = ()
    if len(sizes) != 3 or not all(0 < size < float("inf") for size in sizes):
        raise UserError(f"spacing_mm {shown(value)} is not usable: give depth,height,width of a voxel in mm, as 3,1,1.")
    return sizes


def parse_intensities(value: Any) -> tuple[Any, ...]:
    """``"ct,image"`` or a list of such words and of four numbers, one entry a channel; ``UserError`` when not usable.

    >>> parse_intensities("CT,image"), parse_intensities([[-150, 240, 60, 45]])
    (('ct', 'image'), ((-150.0, 240.0, 60.0, 45.0),))
    """
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list | tuple):
        entries = (value,)
    return tuple(_intensity(entry) for entry in entries)


def _intensity(entry: Any) -> Any:
    word = entry.strip().casefold() if isinstance(entry, str) else None
    if word in (CT, IMAGE):
        return word
    try:
        low, high, mean, std = map(float, entry if isinstance(entry, list | tuple) else ())
        if low <= high and std > 0 and isfinite(low + high + mean + std):
            return low, high, mean, std
    except (TypeError, ValueError):
        pass
    raise UserError(f"intensities hold {shown(entry)}: give {CT} or {IMAGE} a channel, or lowest, highest, mean and deviation.")


def _checked(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    """What stays text, as it was given, and can be read."""

    def check(value: Any) -> Any:
        if value is not None:
            parse(value)
        return value

    return check


def _augmentations(value: Any) -> tuple[str, ...] | None:
    """Names, from a list or a text with commas; "none" and nothing at all are no name."""
    if value is None:
        return None
    if not isinstance(value, str | list | tuple):
        raise UserError(f"option augment must be names with commas or a list of them, got {shown(value)}.")
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else list(value)
    names = [name for name in names if name not in ("", "none")]
    for name in names:
        if name not in AUGMENTATIONS or names.count(name) > 1:
            raise UserError(f"augment holds {shown(name)}: choose from {', '.join(AUGMENTATIONS)}, each once, or none.")
    return tuple(names)


def _devices(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


NotNegative = Annotated[Number, Ge(0)]
Protocol = Annotated[str, OneOf(*PROTOCOLS)]
Seed = Annotated[Whole, Ge(0), Le(_LARGEST_SEED)]


@option_set("option", "option ")
class TrainConfig:
    """What a training does; every field is an option of ``allukan train`` and a key of its YAML file.

    Raises ``UserError`` with one sentence for a value that is not usable.
    """

    data: Annotated[str, Help("dataset folder")]
    out: Annotated[str, Help("run folder to make")]
    model: Annotated[
        str,
        Help(
            "network: allukan-, allukan-paper-, convtwin-, edgekan- or stackedkan-tiny, -small, -base; ukan, ukan-linear, "
            "-sakan, -sprecher; unet, unetpp, attention-unet; plainconv, resenc (nnU-Net); or your own, package.module:function"
        ),
    ] = "allukan-base"
    size: Annotated[
        tuple[int, ...],
        BeforeValidator(parse_size),
        Help(
            "pixels at which the network works, 256 or 192x256 (height x width); of volumes the patch, 40x56x40 (depth first)",
            default="256; of volumes, and with memory or budget, planned",
        ),
    ] = ()
    spacing_mm: Annotated[
        tuple[float, ...] | None,
        BeforeValidator(parse_spacing),
        Help("size of the voxels that volumes are trained at: depth,height,width in mm", default="planned: the median"),
    ] = None
    intensities: Annotated[
        tuple[Any, ...],
        BeforeValidator(parse_intensities),
        Help(
            "of volumes and of pictures of more than 8 bits, a channel: ct (clipped to percentiles of the foreground of the "
            "training images), image (mean 0 and deviation 1 of every image), or lowest, highest, mean and deviation",
            default="ct where the data say CT, else image",
        ),
    ] = ()
    epochs: Annotated[
        Annotated[Whole, Ge(1)] | None, Help("passes over the training images", "400; with budget as many as fit into it")
    ] = None
    batch_size: Annotated[
        Annotated[Whole, Ge(1)] | None, Help("images a step and device", "8; of volumes, and with memory or budget, planned")
    ] = None
    memory: Annotated[
        str | None,
        BeforeValidator(_checked(parse_memory)),
        Help("memory to plan for, 8GiB or 500MB: of the GPU, else of the machine", "of volumes what is free"),
    ] = None
    budget: Annotated[
        str | None,
        BeforeValidator(_checked(parse_time)),
        Help(
            "time for reading, training, validation and evaluation, 30m or 2h: size, batch and epochs are planned for it", "none"
        ),
    ] = None
    protocol: Annotated[
        Protocol, Help("split and figures: clean (train / validation / test), or ukan (80/20 as in the literature)")
    ] = "clean"
    seed: Annotated[Seed, Help("of split, weights, order and augmentation")] = 0
    optimizer: Annotated[
        str,
        OneOf("adam", "adamw"),
        Help("adam, whose decay is an L2 penalty (part of the gradient), or adamw, whose decay is decoupled"),
    ] = "adam"
    lr: Annotated[NotNegative | None, Help("initial learning rate, by a cosine to 1e-5", "clean 3e-3, ukan 1e-4")] = None
    warmup: Annotated[
        NotNegative,
        Help("epochs, as 5 or 0.5, in which learning rates rise linearly to the cosine, step by step"),
    ] = 0.0
    weight_decay: Annotated[
        NotNegative,
        Help(
            "decay of the weights of linear maps, λ of every KA layer too; not of w, c, norms and biases. By adam an L2 penalty; "
            "by adamw a step takes lr times this share of a weight away",
            "1e-4",
        ),
    ] = 1e-4
    spline_lr: Annotated[
        NotNegative | None,
        Help(
            "initial learning rate of the splines: w and c; every parameter of a layer with a spline an edge",
            "10/3 of lr for shared splines of allukan-, else lr; by protocol ukan 1e-2 for model ukan",
        ),
    ] = None
    spline_decay: Annotated[NotNegative, Help("decay of w and c; of a layer with a spline an edge of β too")] = 0.0
    spline_smoothness: Annotated[NotNegative, Help("weight in the loss of Σ (c_{m+1} - 2 c_m + c_{m-1})²")] = 0.0
    dice: Annotated[
        Annotated[str, OneOf(*DICE_LOSSES)] | None,
        Help(
            "what the Dice loss is taken of: image (each image and class), batch (each class in the whole batch), present "
            "(images and classes with foreground), nnunet (batch, and twice the cross-entropy)",
            "image; clean: batch where images often lack classes",
        ),
    ] = None
    ema: Annotated[
        Number,
        Ge(0),
        Lt(1),
        Help("decay of the moving average of the weights that is validated and kept, as 0.999; 0: none"),
    ] = 0.0
    snapshots: Annotated[
        Whole,
        Ge(0),
        Help("last epochs, 2 or more, the mean of whose weights so far is validated and kept instead of each; 0: none"),
    ] = 0
    augment: Annotated[
        tuple[str, ...] | None,
        BeforeValidator(_augmentations),
        Help(f"beside rotations and flips: {','.join(AUGMENTATIONS)} or some of them, or none", "none"),
    ] = None
    groups: Annotated[
        str | None,
        Help(
            "images that belong together: FILE.csv[:COLUMN], or re:REGEX on the id",
            "groups.csv, sequences.csv or folders of patients of the data",
        ),
    ] = None
    splits: Annotated[
        Annotated[str, MinLen(1)] | None,
        Must(f"the name of a file, or {DRAWN}"),
        Help(
            f"your split: splits.json, splits_final.json, or a CSV of id and split; {DRAWN} is the protocol's although the data "
            "bring one",
            "that of the data, else the protocol's",
        ),
    ] = None
    fold: Annotated[
        Annotated[Whole, Ge(0)] | None,
        Help("fold that validates, where the split has folds; with folds the one to train", "the first; with folds all"),
    ] = None
    folds: Annotated[
        Annotated[Whole, Ge(2)] | None, Help("draw so many folds and train on each, so that every image is tested once", "none")
    ] = None
    ignore: Ignore = None
    foreground: Foreground = False
    init: Annotated[str | None, Help("start from the weights of a trained model, RUN/model", "none")] = None
    init_heads: Annotated[
        str, OneOf("keep", "new"), Help("layers that depend on other classes or channels than those of init: keep, or new")
    ] = "keep"
    precision: Annotated[str, OneOf(*PRECISIONS), Help(f"arithmetic: {', '.join(PRECISIONS)}")] = "auto"
    accelerator: Annotated[str, Help("device: auto, cpu, cuda …")] = "auto"
    devices: Annotated[str, BeforeValidator(_devices), Must("a whole number or 'auto'"), Help("how many, or auto")] = "auto"
    cache: Annotated[
        str | None, Help("folder in whose files volumes are kept while they are trained on, instead of in memory", "none")
    ] = None
    compile: Annotated[bool, Help("run the network through torch.compile")] = False
    cuda_graphs: Annotated[bool, Help("on one GPU and without compile: replay the network's passes as CUDA graphs")] = True
    options: Annotated[
        dict[str, Any],
        Must("'name: value' pairs"),
        Help("of the model: norm, spline: {sharing: …}, topology: {depth: …}", "its own"),
    ] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.init_heads != "keep" and self.init is None:
            raise UserError("init_heads is for a training that starts from given weights: add --init RUN/model, or leave it out.")
        given = [name for name in ("splits", "fold", "folds") if getattr(self, name) not in (None, DRAWN)]
        if self.protocol == "ukan" and given:
            raise UserError(f"the protocol ukan draws 80/20 as in the literature: leave {given[0]} out, or choose clean.")
        if self.folds is not None and "splits" in given:
            raise UserError(f"folds are drawn, and splits gives {self.splits}: leave one of the two out.")
        for name in ("memory", "budget"):
            if self.protocol == "ukan" and getattr(self, name):
                raise UserError(f"the protocol ukan has the size, batch and epochs of the literature: leave {name} out.")
        self._check_lengths()
        if self.snapshots and self.ema:
            raise UserError("ema and snapshots both average the weights: give one of them.")
        if self.lr is None:
            object.__setattr__(self, "lr", _LEARNING_RATES[self.protocol])
        if self.spline_lr is None:
            object.__setattr__(self, "spline_lr", self._usual_spline_lr(self.lr or 0.0))
        object.__setattr__(self, "augment", self.augment or ())

    def _check_lengths(self) -> None:
        epochs = self.epochs or (inf if self.budget else DEFAULT_EPOCHS)
        if self.warmup >= epochs:
            raise UserError(f"warmup {self.warmup:g} is too long for {epochs} epochs: give fewer.")
        if self.snapshots == 1 or self.snapshots > epochs:
            raise UserError(f"snapshots {self.snapshots} of {epochs} epochs is not usable: give 2 or more, or 0 for none.")

    def _usual_spline_lr(self, lr: float) -> float:
        if self.protocol == "ukan" and self.model == "ukan":
            return _UKAN_SPLINE_LR
        spline = self.options.get("spline")
        an_edge = isinstance(spline, dict) and spline.get("sharing") == "edge"
        return lr * _SHARED_SPLINES if self.model.startswith("allukan-") and not an_edge else lr

    @property
    def label_rules(self) -> LabelRules:
        """How labels are read."""
        return LabelRules(self.ignore, self.foreground)

    def completed(self, taken: TrainConfig) -> TrainConfig:
        """With what it leaves open as a run has taken it, so that what was planned once is not planned anew."""
        values = {name: getattr(self, name) or getattr(taken, name) for name in _OPEN}
        return self.with_topology(taken.options, **values)

    def with_topology(self, options: Mapping[str, Any], **changes: Any) -> TrainConfig:
        """With ``changes``, and the strides, kernels and widths of other options of a model where it has none of its own."""
        given = self.options.get("topology") or {}
        stages = {name: value for name, value in (options.get("topology") or {}).items() if name in SHAPING}
        if stages and not set(SHAPING) & set(given):
            changes["options"] = {**self.options, "topology": {**given, **stages}}
        return replace(self, **changes)

    def save(self, path: Path) -> None:
        """Write every option in force as YAML."""
        lists = {name: _lists(value) for name, value in asdict(self).items() if isinstance(value, tuple)}
        write_yaml(path, asdict(self) | lists)


def _lists(values: tuple[Any, ...]) -> list[Any]:
    return [list(value) if isinstance(value, tuple) else value for value in values]
