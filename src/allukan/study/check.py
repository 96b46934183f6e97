"""What would go wrong in a study, told before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from allukan.data import DRAWN, Dataset, LabelRules, given_parts, load_groups, open_dataset
from allukan.errors import UserError
from allukan.files import read_json
from allukan.inference import file_order, match_classes
from allukan.models import ModelCard
from allukan.options import DEFAULT_SIZE
from allukan.study.plan import Study
from allukan.study.trials import Trial
from allukan.study.tuning import chosen
from allukan.training import TrainConfig, check_splines, image_files, merge
from allukan.yaml_files import read_yaml


def check_study(study: Study, out: Path) -> None:
    """Raises ``UserError`` for missing data, groups or models, options that do not fit, and folders of another study."""
    opened = {name: _open(merge(study.common, given)) for name, given in study.data.items()}
    for train, test in study.cross:
        try:
            a, b = opened[train], _open(merge(study.common, _tested(study, train, test)), learn=False)
            match_classes(b, _card(a))
            file_order(b.root, b.patterns, b.channel_names, image_files(a))
        except UserError as error:
            raise UserError(f"cross {train} → {test}: {error}") from None
    trials, built = study.trials(out), dict[Any, Any]()
    for trial in trials:
        first = study.tune.points(trial.options["model"], trial.options.get("options"))[0] if study.tune and trial.tuned else {}
        config = trial.config(first)
        dataset = opened[trial.data]
        _check_split(trial, config, dataset)
        network = (config.model, repr(config.options), dataset.classes, dataset.target)
        if network not in built:
            card = replace(_card(dataset), model=config.model, size=config.size or DEFAULT_SIZE, options=config.options)
            built[network] = card.outline()
        if not config.options.get("convert"):  # which makes splines of what has none
            check_splines(config, built[network])
        options = chosen(trials, trial.data, trial.model) if trial.tuned else {}
        if options is not None:
            trial.check_started(trial.config(options))
        elif (trial.folder / "splits.json").is_file():
            raise UserError(
                f"{trial.folder} was started before all points of tune.grid were done, which may choose otherwise: remove that "
                "folder, or choose another --out."
            )
        _check_data(trial, config)


def _check_data(trial: Trial, config: TrainConfig) -> None:
    """``UserError`` where a trial was done on other data that are still there; data that are gone may have been moved."""
    done = [(trial.folder / "config.yaml", "data", config.data)]
    done += [(trial.folder / f"evaluation-{name}" / "summary.json", "data", test["path"]) for name, test in trial.tests.items()]
    for file, key, wanted in done:
        of = (read_yaml(file) if file.suffix == ".yaml" else read_json(file)).get(key) if file.is_file() else None
        if of and Path(of).exists() and Path(wanted).exists() and not Path(of).samefile(wanted):
            raise UserError(f"{file.parent} is of the data {of} and the study says {wanted}: choose another --out, or remove it.")


def _check_split(trial: Trial, config: TrainConfig, dataset: Dataset) -> None:
    """``UserError`` for a split that cannot be used, or has no images for the test of a trial."""
    if config.protocol != "clean" or config.folds is not None:
        return
    parts, origin, _ = given_parts(dataset, config.splits, config.fold)
    if parts and "test" not in parts and trial.point is None:
        raise UserError(
            f"data {trial.data!r} has no test images in its split ({origin}), and a study compares on those: give them, or say "
            f"splits: {DRAWN} for a split that is drawn."
        )


def _tested(study: Study, train: str, test: str) -> dict[str, Any]:
    """Options of the data that are tested on, whose labels are read by the rules of the training."""
    there = {**study.data, **study.test_data}[test]
    return {**study.data[train], "path": there["path"], "groups": there.get("groups")}


def _card(dataset: Dataset) -> ModelCard:
    """As a training on these data would have it; the rest is not looked at."""
    some = ModelCard("allukan-tiny", 3, dataset.classes, dataset.target, (256, 256), (0.0,) * 3, (1.0,) * 3)
    return replace(some, label_values=dataset.label_values, spatial_dims=dataset.spatial_dims)


def _open(given: Mapping[str, Any], *, learn: bool = True) -> Dataset:
    rules = LabelRules(given.get("ignore"), given.get("foreground", False))
    dataset = open_dataset(given["path"], rules, learn=learn)
    load_groups(dataset, given.get("groups"))
    return dataset
