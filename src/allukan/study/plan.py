"""What a study compares: read from YAML, checked before anything starts, and laid out as trials."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from allukan.data import DRAWN, alike
from allukan.errors import UserError
from allukan.models import model_options
from allukan.study.trials import DROP_PATH, TUNE, Trial, placed
from allukan.training import PROTOCOLS, TrainConfig, check_names, merge, read_yaml

_KEYS = ("data", "models", "protocols", "seeds", "common", "tune", "cross", "test_data")
_SET_BY_STUDY = ("data", "out", "protocol", "seed", "devices")
_OPTIONS = tuple(f.name for f in fields(TrainConfig) if f.name not in _SET_BY_STUDY)
_OF_IMAGES = ("groups", "splits", "fold", "ignore", "foreground")
_MODEL_OPTIONS = tuple(name for name in _OPTIONS if name not in _OF_IMAGES)
_TUNABLE = ("lr", "weight_decay", "batch_size", DROP_PATH)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclass(frozen=True)
class Tune:
    """The grid that every model is tried on, for every data set, trained with ``seed``; the best on validation is taken."""

    grid: Mapping[str, tuple[Any, ...]]
    seed: int

    def points(self, model: str) -> list[dict[str, Any]]:
        """Every combination of what a model has; those without an own topology have no stochastic depth.

        >>> Tune({"lr": (0.1, 0.2), "drop_path": (0, 0.1)}, seed=0).points("unet")
        [{'lr': 0.1}, {'lr': 0.2}]
        """
        grid = {name: values for name, values in self.grid.items() if name != DROP_PATH or "topology" in model_options(model)}
        return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


@dataclass(frozen=True)
class Study:
    """Models × data sets × protocols × seeds, as the YAML file says; paths are absolute.

    Attributes:
        data: options of every data set by its name, ``path`` among them.
        models: options of every model by its name, ``model`` among them.
        protocols: "clean", "ukan" or both.
        seeds: one run each.
        common: options of all runs; those of a data set win over them, those of a model over both.
        test_data: folders for ``cross`` that nothing is trained on: ``path`` and ``groups``.
        cross: (name of the data trained on, name of the data tested on).
        tune: the grid, or None.
    """

    data: Mapping[str, Mapping[str, Any]]
    models: Mapping[str, Mapping[str, Any]]
    protocols: tuple[str, ...]
    seeds: tuple[int, ...]
    common: Mapping[str, Any] = field(default_factory=dict)
    test_data: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cross: tuple[tuple[str, str], ...] = ()
    tune: Tune | None = None

    def trials(self, out: Path) -> list[Trial]:
        """Every run of the study in its folder below ``out``, those of the tuning first."""
        return [*self._tuning(out), *self._runs(out)]

    def _runs(self, out: Path) -> Iterator[Trial]:
        for data, protocol, seed, model in itertools.product(self.data, self.protocols, self.seeds, self.models):
            folder = out / data / protocol / model / str(seed)
            tests = {test: {**self.test_data, **self.data}[test] for train, test in self.cross if train == data}
            options = self._options(data, model, folder, protocol, seed)
            yield Trial(folder, data, protocol, model, options, tests=tests, tuned=self.tune is not None)

    def _tuning(self, out: Path) -> Iterator[Trial]:
        """Always by the clean protocol: in the other one the validation images are those reported."""
        for data, model in itertools.product(self.data, self.models) if self.tune else ():
            assert self.tune is not None
            for point in self.tune.points(self.models[model]["model"]):
                name = ",".join(f"{option}={value}" for option, value in point.items()) or "default"
                folder = out / data / TUNE / model / name
                options = merge(self._options(data, model, folder, "clean", self.tune.seed), placed(point))
                yield Trial(folder, data, TUNE, model, options, point=point)

    def _options(self, data: str, model: str, folder: Path, protocol: str, seed: int) -> dict[str, Any]:
        of_data = dict(self.data[data])
        options = merge(merge(self.common, {"data": of_data.pop("path"), **of_data}), self.models[model])
        return {**options, "out": str(folder), "protocol": protocol, "seed": seed, "devices": "1"}


def load_study(path: str | Path) -> Study:
    """Read a YAML file; relative paths in it are relative to it. Raises ``UserError`` for what is not usable."""
    raw, base = read_yaml(path), Path(path).resolve().parent
    check_names(raw, _KEYS, "key of a study")
    for key in ("data", "models"):
        if not raw.get(key):
            raise UserError(f"{path} names no {key}: add '{key}:' with at least one entry.")
    data = {name: _data(name, given, base, _OPTIONS) for name, given in _entries(raw, "data").items()}
    tests = {name: _data(name, given, base, ("groups",)) for name, given in _entries(raw, "test_data").items()}
    if both := set(data) & set(tests):
        raise UserError(f"{sorted(both)[0]!r} is in data and in test_data: give one of them another name.")
    models = _entries(raw, "models")
    for name, options in models.items():
        check_names(options, _MODEL_OPTIONS, f"option of models.{name}")
        if "model" not in options:
            raise UserError(f"models.{name} does not say which: add 'model: allukan-tiny', for instance.")
    common = raw.get("common") or {}
    check_names(common, [name for name in _OPTIONS if name != "model"], "option of common")
    tune = _tune(raw["tune"]) if raw.get("tune") else None
    for where, options in {"common": common, **_under("data", data), **_under("models", models)}.items():
        for name in tune.grid if tune else ():
            if name in options or name in (options.get("options") or {}).get("topology", {}):
                raise UserError(f"{where} gives {name}, which tune.grid varies: leave one of them out.")
    return Study(
        data=data,
        models={name: _rooted(options, base) for name, options in models.items()},
        protocols=_list("protocols", raw.get("protocols", ["clean"]), str, PROTOCOLS),
        seeds=_list("seeds", raw.get("seeds", [0]), int),
        common=_rooted(common, base),
        test_data=tests,
        cross=_cross(raw.get("cross") or [], data, tests),
        tune=tune,
    )


def _under(section: str, entries: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{section}.{name}": options for name, options in entries.items()}


def _entries(raw: Mapping[str, Any], section: str) -> dict[str, Any]:
    entries = raw.get(section) or {}
    if not isinstance(entries, Mapping):
        raise UserError(f"{section} must be 'name: …' lines, got {entries!r}.")
    for name in entries:
        if not _NAME.fullmatch(str(name)):
            raise UserError(f"{section} has an entry {name!r}: names become folders, use letters, digits, '.', '-', '_' and '+'.")
    for one, other in alike(map(str, entries)):
        raise UserError(f"{section} has {one!r} and {other!r}, which are one folder on Windows and macOS: rename one.")
    return {str(name): given for name, given in entries.items()}


def _data(name: str, given: Any, base: Path, options: tuple[str, ...]) -> dict[str, Any]:
    found = {"path": given} if isinstance(given, str) else given
    check_names(found, ["path", *(option for option in options if option != "model")], f"option of data {name!r}")
    if not isinstance(found.get("path"), str):
        raise UserError(f"data {name!r} has no folder: write '{name}: PATH' or '{name}: {{path: PATH, size: 512}}'.")
    return {**_rooted(found, base), "path": str((base / found["path"]).resolve())}


def _rooted(options: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """With groups that are no pattern, splits that are a file, and weights to start from, below ``base``."""
    files = {name: options[name] for name in ("groups", "splits", "init") if isinstance(options.get(name), str)}
    return {**options, **{name: str(base / file) for name, file in files.items() if file != DRAWN and not file.startswith("re:")}}


def _list(key: str, given: Any, kind: type, allowed: tuple[str, ...] = ()) -> tuple[Any, ...]:
    values = given if isinstance(given, list) else [given]
    for number, value in enumerate(values):
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(f"{key} holds {value!r}: {'whole numbers' if kind is int else 'names'} are expected.")
        if allowed and value not in allowed:
            raise UserError(f"{key} holds {value!r}: choose from {', '.join(allowed)}.")
        if value in values[:number]:
            raise UserError(f"{key} holds {value!r} twice: leave one of them out.")
    if not values:
        raise UserError(f"{key} is empty: give at least one.")
    return tuple(values)


def _tune(given: Any) -> Tune:
    check_names(given, ("grid", "seed", "on"), "key of tune")
    if given.get("on", "validation") != "validation":
        raise UserError(f"tune.on is {given['on']!r}: only validation may choose, the test images must not.")
    grid = given.get("grid") or {}
    check_names(grid, _TUNABLE, "option of tune.grid")
    if not grid:
        raise UserError("tune has no grid: add 'grid: {lr: [1.0e-3, 3.0e-3]}', for instance.")
    for name, values in grid.items():
        if not isinstance(values, list) or not values or any(values.count(value) > 1 for value in values):
            raise UserError(f"tune.grid.{name} must be a list of different values, got {values!r}.")
    seed = _list("tune.seed", given.get("seed", 0), int)
    if len(seed) > 1:
        raise UserError(f"tune.seed must be one number, got {given['seed']!r}.")
    return Tune({name: tuple(values) for name, values in grid.items()}, seed[0])


def _cross(given: Any, data: Mapping[str, Any], tests: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for entry in given if isinstance(given, list) else [given]:
        check_names(entry, ("train", "test"), "key of cross")
        train, test = str(entry.get("train", "")), str(entry.get("test", ""))
        if train not in data:
            raise UserError(f"cross trains on {train!r}, which is not in data: it has {', '.join(data)}.")
        if test not in {**data, **tests}:
            raise UserError(f"cross tests on {test!r}, which is in neither data nor test_data.")
        if (train, test) in pairs or train == test:
            raise UserError(f"cross has {train!r} → {test!r}, which is there already: leave it out.")
        pairs.append((train, test))
    return tuple(pairs)
