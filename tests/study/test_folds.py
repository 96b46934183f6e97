"""A study in folds: the same partition for every model, and every fold a training of its own for the comparison."""

import csv
import json
import logging
import shutil
from collections import defaultdict

import numpy as np
import pytest
import yaml

from allukan.errors import UserError
from allukan.study import check_study, compare, load_study, run_study, runner
from allukan.study.results import read_results

COMMON = {"size": 32, "epochs": 1, "accelerator": "cpu"}
TWO = {"ka": {"model": "allukan-tiny"}, "conv": {"model": "convtwin-tiny"}}


@pytest.fixture(scope="module")
def folded(folder, here, tmp_path_factory):
    """Two models, two seeds, two folds, tested on other data too."""
    plan = {"data": {"a": "a"}, "test_data": {"b": "b"}, "models": TWO, "seeds": [0, 1], "folds": 2, "common": COMMON}
    plan["cross"] = [{"train": "a", "test": "b"}]
    (folder / "folded.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    out = tmp_path_factory.mktemp("out") / "folded"
    assert run_study(load_study(folder / "folded.yaml"), out) == []
    return out


def parts(run):
    return json.loads((run / "splits.json").read_text())


def test_every_image_is_tested_once_a_seed_by_the_same_folds_for_every_model(folded):
    base, partitions = folded / "a/clean", []
    for seed in (0, 1):
        tests = [[parts(base / model / f"{seed}-fold-{fold}")["test"] for fold in range(2)] for model in TWO]
        assert tests[0] == tests[1]
        assert len(set(tests[0][0] + tests[0][1])) == len(tests[0][0] + tests[0][1]) == 20
        partitions.append(tests[0])
    assert partitions[0] != partitions[1]


def test_what_is_done_is_not_done_again(folded, folder, monkeypatch):
    monkeypatch.setattr(runner, "_spawn", None)
    assert run_study(load_study(folder / "folded.yaml"), folded) == []


def test_all_models_of_a_fold_come_before_the_next(write, tmp_path):
    study = load_study(write(data={"a": "a", "b": "b"}, models=TWO, seeds=[0, 1], folds=2))
    names = [trial.name for trial in study.trials(tmp_path)]
    assert names[:6] == [
        "a/clean/ka/0-fold-0",
        "a/clean/conv/0-fold-0",
        "a/clean/ka/0-fold-1",
        "a/clean/conv/0-fold-1",
        "b/clean/ka/0-fold-0",
        "b/clean/conv/0-fold-0",
    ]
    assert [name.rpartition("/")[2][0] for name in names] == ["0"] * 8 + ["1"] * 8


def test_runs_are_started_in_that_order(write, here, tmp_path, monkeypatch):
    started = []

    def finish(trial, config):
        started.append(trial.name)
        (trial.folder / "evaluation").mkdir(parents=True)
        (trial.folder / "finished.json").write_text("{}")

    monkeypatch.setattr(runner, "finish", finish)
    study = load_study(write(data={"a": "a", "b": "b"}, models=TWO, seeds=[0, 1]))
    assert run_study(study, tmp_path / "o") == []
    assert started == [f"{d}/clean/{m}/{s}" for s in (0, 1) for d in "ab" for m in TWO]


def rows(run, kind="evaluation"):
    with (run / kind / "cases.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_folds_of_a_seed_are_one_result_on_all_images_and_a_training_each(folded):
    results = read_results([folded])
    assert [(r.data, r.model, r.seed, len(r.groups)) for r in results] == [
        (data, model, seed, images) for data, images in (("a", 20), ("a → b", 10)) for model in TWO for seed in (0, 1)
    ]
    runs = [folded / "a/clean/conv" / f"1-fold-{fold}" for fold in range(2)]
    one = next(r for r in results if (r.data, r.model, r.seed) == ("a", "conv", 1))
    assert one.scores["dice"] == {row["id"]: float(row["dice"]) for run in runs for row in rows(run)}
    found = compare([folded], "conv")
    [own, cross] = found.differences
    assert (own.model, own.crossed.seeds, own.images) == ("ka", 4, 20)
    assert (cross.data, cross.crossed.seeds, cross.images) == ("a → b", 4, 10)
    scores = defaultdict(list)
    for seed in (0, 1):
        for sign, model in ((1, "ka"), (-1, "conv")):
            for fold in range(2):
                for row in rows(folded / f"a/clean/{model}/{seed}-fold-{fold}"):
                    scores[row["id"]].append(sign * 2 * float(row["iou"]))
    assert own.crossed.mean == pytest.approx(np.mean([np.mean(found) for found in scores.values()]))


def test_an_image_that_all_folds_were_tested_on_has_their_mean(folded):
    runs = [folded / "a/clean/ka" / f"0-fold-{fold}" for fold in range(2)]
    one = next(r for r in read_results([folded]) if (r.data, r.model, r.seed) == ("a → b", "ka", 0))
    found = [{row["id"]: float(row["iou"]) for row in rows(run, "evaluation-b")} for run in runs]
    assert one.scores["iou"] == {name: pytest.approx((found[0][name] + found[1][name]) / 2) for name in found[0]}


def test_of_a_study_in_progress_the_folds_count_that_every_model_has(folded, tmp_path, caplog):
    out = tmp_path / "part"
    shutil.copytree(folded, out)
    (out / "a/clean/conv/1-fold-0/finished.json").unlink()
    with caplog.at_level(logging.WARNING, "allukan"):
        results = [r for r in read_results([out]) if r.data == "a"]
    half = set(parts(out / "a/clean/ka/1-fold-1")["test"])
    assert [(r.model, r.seed, set(r.groups) == half) for r in results] == [
        ("ka", 0, False),
        ("ka", 1, True),
        ("conv", 0, False),
        ("conv", 1, True),
    ]
    assert "a, clean, seed 1: 1 of 2 folds count, those that every model has." in caplog.messages
    assert not any("seed 0" in message for message in caplog.messages)
    (out / "a/clean/conv/1-fold-1/finished.json").unlink()
    (out / "a/clean/conv/0-fold-1/finished.json").unlink()
    (out / "a/clean/ka/0-fold-0/finished.json").unlink()
    assert [(r.model, r.seed) for r in read_results([out]) if r.data == "a"] == [("ka", 1)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"protocols": ["clean", "ukan"]}, "folds are of the protocol clean: leave ukan out of protocols"),
        ({"data": {"a": {"path": "a", "fold": 1}}}, "data.a gives fold, and folds draws its own"),
        ({"common": {"splits": "mine.csv"}}, "common gives splits, and folds draws its own"),
        ({"common": {"folds": 3}}, "unknown option of common 'folds'"),
        ({"folds": 1}, "folds must be a whole number of at least 2, got 1"),
        ({"folds": "five"}, "folds must be a whole number"),
    ],
)
def test_wrong_folds(write, tmp_path, given, words):
    with pytest.raises(UserError, match=words):
        check_study(load_study(write(**{"folds": 5, **given})), tmp_path / "out")


def test_drawn_splits_may_be_asked_for(write, tmp_path):
    check_study(load_study(write(folds=2, data={"a": {"path": "a", "splits": "drawn"}})), tmp_path / "out")


@pytest.mark.slow
def test_more_folds_than_groups_is_a_failed_run_with_its_sentence(write, here, tmp_path):
    undone = run_study(load_study(write(data={"b": "b"}, folds=40)), tmp_path)
    assert "too few for 40 folds" in undone[0].failure


@pytest.mark.parametrize("other", ["data", "test_data"])
def test_results_of_other_data_are_not_kept(folded, folder, other, tmp_path):
    """The same names of images in another set, which is there as well as the first."""
    plan = yaml.safe_load((folder / "folded.yaml").read_text())
    assert check_study(load_study(folder / "folded.yaml"), folded) is None
    shutil.copytree(folder / ("a" if other == "data" else "b"), folder / f"copy of {other}")
    plan[other] = {("a" if other == "data" else "b"): f"copy of {other}"}
    (folder / "changed.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    with pytest.raises(UserError, match=rf"is of the data .* and the study says .*copy of {other}: choose another --out"):
        check_study(load_study(folder / "changed.yaml"), folded)
