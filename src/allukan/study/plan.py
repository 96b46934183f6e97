"""What a study compares: read from YAML, checked before anything starts, and laid out as cells."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from allukan.data import DRAWN, alike
from allukan.errors import UserError, shown
from allukan.models import model_options
from allukan.options import Help, Must, Protocol, Seed, TrainConfig, check_names, option_set
from allukan.study.cells import DROP_PATH
from allukan.yaml_files import read_yaml

_SET_BY_STUDY = ("data", "out", "protocol", "seed", "devices")
_OPTIONS = tuple(f.name for f in fields(TrainConfig) if f.name not in _SET_BY_STUDY)
_OF_IMAGES = ("groups", "splits", "fold", "ignore", "foreground")
_MODEL_OPTIONS = tuple(name for name in _OPTIONS if name not in _OF_IMAGES)
_TUNABLE = ("lr", "weight_decay", "batch_size", DROP_PATH)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
Entries = dict[str, dict[str, Any]]


def _grid(grid: Any) -> dict[str, tuple[Any, ...]]:
    check_names(grid, _TUNABLE, "option of tune.grid")
    if not grid:
        raise UserError("tune has no grid: add 'grid: {lr: [1.0e-3, 3.0e-3]}', for instance.")
    for name, values in grid.items():
        if not isinstance(values, list | tuple) or not values or any(values.count(value) > 1 for value in values):
            raise UserError(f"tune.grid.{name} must be a list of different values, got {shown(values)}.")
    return {name: tuple(values) for name, values in grid.items()}


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _chooses(on: Any) -> Any:
    if on != "validation":
        raise UserError(f"tune.on is {shown(on)}: only validation may choose, the test images must not.")
    return on


@option_set("key of tune", "tune.")
class Tune:
    """The grid that every model is tried on, for every data set; the best on validation is taken."""

    grid: Annotated[dict[str, tuple[Any, ...]], BeforeValidator(_grid), Help("values of options of a training by their name")]
    seed: Annotated[Seed, BeforeValidator(_one), Help("of these trainings")] = 0
    on: Annotated[str, BeforeValidator(_chooses), Help("what chooses")] = "validation"

    def points(self, model: str) -> list[dict[str, Any]]:
        """Every combination of what a model has; those without an own topology have no stochastic depth.

        >>> Tune({"lr": (0.1, 0.2), "drop_path": (0, 0.1)}, seed=0).points("unet")
        [{'lr': 0.1}, {'lr': 0.2}]
        """
        grid = {name: values for name, values in self.grid.items() if name != DROP_PATH or "topology" in model_options(model)}
        return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _several(key: str) -> BeforeValidator:
    """One value or a list of different ones."""

    def listed(given: Any) -> tuple[Any, ...]:
        values = tuple(given) if isinstance(given, list | tuple) else (given,)
        if not values:
            raise UserError(f"{key} is empty: give at least one.")
        if twice := [value for number, value in enumerate(values) if value in values[:number]]:
            raise UserError(f"{key} holds {shown(twice[0])} twice: leave one of them out.")
        return values

    return BeforeValidator(listed)


def _entries(section: str, check: Callable[[str, Any], dict[str, Any]]) -> BeforeValidator:
    """Entries whose names can be those of folders; every one is looked at by ``check``."""

    def checked(entries: Any) -> Entries:
        if not isinstance(entries, Mapping):
            raise UserError(f"{section} must be 'name: …' lines, got {shown(entries)}.")
        for name in entries:
            if not _NAME.fullmatch(str(name)):
                raise UserError(
                    f"{section} has an entry {shown(name)}: names become folders, use letters, digits, '.', '-', '_' and '+'."
                )
        for one, other in alike(map(str, entries)):
            raise UserError(f"{section} has {one!r} and {other!r}, which are one folder on Windows and macOS: rename one.")
        return {str(name): check(str(name), given) for name, given in entries.items()}

    return BeforeValidator(checked)


def _data(*options: str) -> Callable[[str, Any], dict[str, Any]]:
    def check(name: str, given: Any) -> dict[str, Any]:
        found = {"path": given} if isinstance(given, str) else given
        check_names(found, ["path", *options], f"option of data {name!r}")
        if not isinstance(found.get("path"), str):
            raise UserError(f"data {name!r} has no folder: write '{name}: PATH' or '{name}: {{path: PATH, size: 512}}'.")
        return dict(found)

    return check


def _model(name: str, given: Any) -> dict[str, Any]:
    check_names(given, _MODEL_OPTIONS, f"option of models.{name}")
    if "model" not in given:
        raise UserError(f"models.{name} does not say which: add 'model: allukan-tiny', for instance.")
    return dict(given)


def _common(given: Any) -> dict[str, Any]:
    check_names(given, [name for name in _OPTIONS if name != "model"], "option of common")
    return dict(given)


def _pairs(given: Any) -> tuple[tuple[str, str], ...]:
    pairs = []
    for entry in given if isinstance(given, list | tuple) else [given]:
        if isinstance(entry, tuple):
            pairs.append(entry)
            continue
        check_names(entry, ("train", "test"), "key of cross")
        pairs.append((str(entry.get("train", "")), str(entry.get("test", ""))))
    return tuple(pairs)


def _tune(given: Any) -> Any:
    if isinstance(given, Tune) or not given:
        return given or None
    check_names(given, [f.name for f in fields(Tune)], "key of tune")
    return Tune(**{"grid": {}, **given})


@option_set("key of a study")
class Study:
    """Models × data sets × protocols × seeds, as a YAML file says. Raises ``UserError`` for what does not fit together."""

    data: Annotated[
        Entries,
        _entries("data", _data(*(name for name in _OPTIONS if name != "model"))),
        Help("options of every data set by its name, path among them"),
    ]
    models: Annotated[Entries, _entries("models", _model), Help("options of every model by its name, model among them")]
    protocols: Annotated[
        tuple[Protocol, ...], _several("protocols"), Must("clean, ukan or both"), Help("clean, ukan or both")
    ] = ("clean",)
    seeds: Annotated[tuple[Seed, ...], _several("seeds"), Must("whole numbers from 0 on"), Help("one run each")] = (0,)
    common: Annotated[
        dict[str, Any],
        BeforeValidator(_common),
        Help("options of all runs; those of a data set win over them, those of a model over both"),
    ] = field(default_factory=dict)
    test_data: Annotated[
        Entries,
        _entries("test_data", _data("groups")),
        Help("folders for cross that nothing is trained on: path and groups"),
    ] = field(default_factory=dict)
    cross: Annotated[
        tuple[tuple[str, str], ...],
        BeforeValidator(_pairs),
        Help("(name of the data trained on, name of the data tested on)"),
    ] = ()
    tune: Annotated[Tune | None, BeforeValidator(_tune), Help("the grid, or none")] = None

    def __post_init__(self) -> None:
        for key in ("data", "models"):
            if not getattr(self, key):
                raise UserError(f"it names no {key}: add '{key}:' with at least one entry.")
        if both := sorted(set(self.data) & set(self.test_data)):
            raise UserError(f"{both[0]!r} is in data and in test_data: give one of them another name.")
        for where, options in {"common": self.common, **_under("data", self.data), **_under("models", self.models)}.items():
            for name in self.tune.grid if self.tune else ():
                if name in options or name in (options.get("options") or {}).get("topology", {}):
                    raise UserError(f"{where} gives {name}, which tune.grid varies: leave one of them out.")
        self._check_cross()

    def _check_cross(self) -> None:
        for number, (train, test) in enumerate(self.cross):
            if train not in self.data:
                raise UserError(f"cross trains on {train!r}, which is not in data: it has {', '.join(self.data)}.")
            if test not in {**self.data, **self.test_data}:
                raise UserError(f"cross tests on {test!r}, which is in neither data nor test_data.")
            if (train, test) in self.cross[:number] or train == test:
                raise UserError(f"cross has {train!r} → {test!r}, which is there already: leave it out.")

    def below(self, base: Path) -> Study:
        """The same with its relative paths below ``base``."""

        def folders(entries: Entries) -> Entries:
            paths = {name: str((base / found["path"]).resolve()) for name, found in entries.items()}
            return {name: {**_rooted(found, base), "path": paths[name]} for name, found in entries.items()}

        models = {name: _rooted(options, base) for name, options in self.models.items()}
        common, tests = _rooted(self.common, base), folders(self.test_data)
        return replace(self, data=folders(self.data), models=models, common=common, test_data=tests)


def load_study(path: str | Path) -> Study:
    """Read a YAML file; relative paths in it are relative to it. Raises ``UserError`` for what is not usable."""
    raw = read_yaml(path)
    check_names(raw, [f.name for f in fields(Study)], "key of a study")
    given = {key: value for key, value in raw.items() if value is not None}
    try:
        return Study(**{"data": {}, "models": {}, **given}).below(Path(path).resolve().parent)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _under(section: str, entries: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{section}.{name}": options for name, options in entries.items()}


def _rooted(options: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """With groups that are no pattern, splits that are a file, and weights to start from, below ``base``."""
    files = {name: options[name] for name in ("groups", "splits", "init") if isinstance(options.get(name), str)}
    return {**options, **{name: str(base / file) for name, file in files.items() if file != DRAWN and not file.startswith("re:")}}
