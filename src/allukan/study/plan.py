"""What a study compares: read from YAML, checked before anything starts, and laid out as trials."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge
from pydantic import BeforeValidator

from allukan.data import DRAWN
from allukan.errors import UserError
from allukan.models import ModelCard, model_options
from allukan.options import Help, Must, Protocol, Seed, Whole, check_names, option_set
from allukan.study.keys import (
    OPTIONS,
    Entries,
    chooser,
    common_of,
    data_set,
    entries_of,
    grid_of,
    model_of,
    pairs_of,
    several,
    single,
)
from allukan.study.trials import DROP_PATH, SPLINE_LR, TUNE, Trial, placed
from allukan.training import merge, spline_parameters
from allukan.yaml_files import read_yaml


@option_set("key of tune", "tune.")
class Tune:
    """The grid that every model is tried on, for every data set; the best on validation is taken."""

    grid: Annotated[dict[str, tuple[Any, ...]], BeforeValidator(grid_of), Help("values of options of a training by their name")]
    seed: Annotated[Seed, BeforeValidator(single), Help("of these trainings")] = 0
    on: Annotated[str, BeforeValidator(chooser), Help("what chooses")] = "validation"

    def points(self, model: str, options: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Every combination of what a model has: not all have splines, or a topology of their own with stochastic depth.

        >>> Tune({"lr": (0.1, 0.2), "drop_path": (0, 0.1)}, seed=0).points("unet")
        [{'lr': 0.1}, {'lr': 0.2}]
        >>> Tune({"spline_lr": (0.1, 0.2)}).points("convtwin-tiny"), len(Tune({"spline_lr": (0.1, 0.2)}).points("allukan-tiny"))
        ([{}], 2)
        """
        lacks = {
            DROP_PATH: DROP_PATH in self.grid and "topology" not in model_options(model),
            SPLINE_LR: SPLINE_LR in self.grid and not _has_splines(model, options or {}),
        }
        grid = {name: values for name, values in self.grid.items() if not lacks.get(name)}
        return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _has_splines(model: str, options: Mapping[str, Any]) -> bool:
    if options.get("convert") is True:
        return True
    return bool(
        spline_parameters(ModelCard(model, 1, ("0",), "binary", (64, 64), (0.0,), (1.0,), options=dict(options)).outline())
    )


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
        entries_of("data", data_set(*(name for name in OPTIONS if name != "model"))),
        Help("options of every data set by its name, path among them"),
    ]
    models: Annotated[Entries, entries_of("models", model_of), Help("options of every model by its name, model among them")]
    protocols: Annotated[tuple[Protocol, ...], several("protocols"), Must("clean, ukan or both"), Help("clean, ukan or both")] = (
        "clean",
    )
    seeds: Annotated[tuple[Seed, ...], several("seeds"), Must("whole numbers from 0 on"), Help("one run each")] = (0,)
    folds: Annotated[
        Annotated[Whole, Ge(2)] | None, Help("draw so many with every seed, one run each, so that every image is tested once")
    ] = None
    common: Annotated[
        dict[str, Any],
        BeforeValidator(common_of),
        Help("options of all runs; those of a data set win over them, those of a model over both"),
    ] = field(default_factory=dict)
    test_data: Annotated[
        Entries,
        entries_of("test_data", data_set("groups")),
        Help("folders for cross that nothing is trained on: path and groups"),
    ] = field(default_factory=dict)
    cross: Annotated[
        tuple[tuple[str, str], ...],
        BeforeValidator(pairs_of),
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
        self._check_folds()
        self._check_cross()

    def _check_folds(self) -> None:
        if self.folds is None:
            return
        if self.protocols != ("clean",):
            raise UserError("folds are of the protocol clean: leave ukan out of protocols, or folds out.")
        for where, options in {"common": self.common, **_under("data", self.data)}.items():
            for name in ("splits", "fold"):
                if options.get(name) not in (None, DRAWN):
                    raise UserError(f"{where} gives {name}, and folds draws its own: leave one of the two out.")

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

    def trials(self, out: Path) -> list[Trial]:
        """Every run of the study in its folder below ``out``, those of the tuning first."""
        return [*self._tuning(out), *self._runs(out)]

    def _runs(self, out: Path) -> Iterator[Trial]:
        """All models of one seed and fold before the next: what is done of a study that ends early can be compared."""
        folds = [None] if self.folds is None else range(self.folds)
        for seed, data, protocol, fold, model in itertools.product(self.seeds, self.data, self.protocols, folds, self.models):
            folder = out / data / protocol / model / (f"{seed}" if fold is None else f"{seed}-fold-{fold}")
            tests = {test: {**self.test_data, **self.data}[test] for train, test in self.cross if train == data}
            options = self._options(data, model, folder, protocol, seed)
            if fold is not None:
                options |= {"folds": self.folds, "fold": fold}
            yield Trial(folder, data, protocol, model, options, tests=tests, tuned=self.tune is not None)

    def _tuning(self, out: Path) -> Iterator[Trial]:
        """Always by the clean protocol: in the other one the validation images are those reported."""
        for data, model in itertools.product(self.data, self.models) if self.tune else ():
            assert self.tune is not None
            for point in self.tune.points(self.models[model]["model"], self.models[model].get("options")):
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
