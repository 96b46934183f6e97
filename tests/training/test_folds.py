"""A training in folds is ordinary runs under one command, and is scored on all images."""

import csv
import logging
import shutil
import subprocess
import sys

import pytest
import torch

from allukan.data import Splits, make_folds, open_dataset, write_phantoms
from allukan.data.groups import load_groups
from allukan.errors import UserError
from allukan.training import TrainConfig, load_config, resume_config, train
from allukan.training.callbacks import History

TINY = {"model": "allukan-tiny", "size": (32, 32), "accelerator": "cpu", "devices": "1", "epochs": 2, "batch_size": 4}


class Interrupted(Exception):
    """Stands for a power cut."""


def config(data, out, **options):
    return TrainConfig(str(data), str(out), **{**TINY, **options})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("folds") / "data"
    write_phantoms(root, count=12, size=32, seed=0)
    return root


@pytest.fixture(scope="module")
def whole(data):
    return train(config(data, data.parent / "whole", folds=3, seed=4))


def weights(run):
    return torch.load(run / "last.ckpt", weights_only=True)["state_dict"]


def same(one, other):
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_every_fold_is_a_run_by_itself(data, whole, tmp_path):
    dataset = open_dataset(data)
    drawn = make_folds(dataset, 3, 4, load_groups(dataset, None))
    found = [Splits.load(whole / f"fold-{number}/splits.json") for number in range(3)]
    assert tuple(found) == drawn
    alone = train(config(data, tmp_path / "alone", folds=3, fold=1, seed=4))
    assert Splits.load(alone / "splits.json") == found[1]
    assert same(alone, whole / "fold-1")
    saved = load_config(whole / "fold-1/config.yaml", {"out": str(tmp_path / "again")})
    assert same(train(saved), whole / "fold-1")
    assert not same(whole / "fold-0", whole / "fold-1")


@pytest.mark.slow
def test_interrupted_in_the_second_fold_it_ends_as_if_it_never_was(data, whole, tmp_path, monkeypatch):
    out, write = tmp_path / "cut", History._write

    def cut(self):
        if "fold-1" in str(self.path) and len(self.rows) == 2:
            raise Interrupted
        write(self)

    monkeypatch.setattr(History, "_write", cut)
    with pytest.raises(Interrupted):
        train(config(data, out, folds=3, seed=4))
    monkeypatch.setattr(History, "_write", write)
    assert not (out / "fold-2").exists()
    before = (out / "fold-0/last.ckpt").stat().st_mtime_ns
    train(resume_config(out, {}), resume=True)
    assert (out / "fold-0/last.ckpt").stat().st_mtime_ns == before
    assert all(same(out / f"fold-{number}", whole / f"fold-{number}") for number in range(3))


@pytest.mark.slow
def test_a_fold_that_was_cut_before_it_trained_starts(data, whole, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "fold-2")
    (out / "fold-2").mkdir()
    shutil.copy(out / "fold-1/config.yaml", out / "fold-2")
    train(resume_config(out, {}), resume=True)
    assert same(out / "fold-2", whole / "fold-2")


@pytest.mark.slow
def test_two_processes_train_one_fold_after_the_other(data, tmp_path):
    arguments = ["train", str(data), "--out", str(tmp_path / "run"), "--model", "convtwin-tiny", "--size", "32", "--epochs", "1"]
    arguments += ["--batch-size", "4", "--accelerator", "cpu", "--devices", "2", "--folds", "2"]
    done = subprocess.run([sys.executable, "-m", "allukan", *arguments], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / f"run/fold-{number}/history.csv").is_file() for number in range(2))


@pytest.mark.slow
def test_all_folds_can_be_trained_longer(data, whole, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(whole, out)
    train(resume_config(out, {"epochs": 3}), resume=True)
    for number in range(3):
        with (out / f"fold-{number}/history.csv").open() as file:
            assert [int(row["epoch"]) for row in csv.DictReader(file)] == [1, 2, 3]
    with pytest.raises(UserError, match="option folds is 3 in"):
        resume_config(out, {"folds": 4})


@pytest.mark.slow
def test_a_folder_in_use_is_refused_and_one_that_could_not_begin_is_free(data, whole, tmp_path):
    with pytest.raises(UserError, match="exists already: choose another --out, or continue that run with --resume"):
        train(config(data, whole, folds=3))
    for _ in range(2):
        with pytest.raises(UserError, match="too few for 9 folds"):
            train(config(data, tmp_path / "new", folds=9))
    train(config(data, tmp_path / "new", folds=2, epochs=1))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"protocol": "ukan"}, "the protocol ukan draws 80/20 as in the literature: leave folds out, or choose clean"),
        ({"splits": "mine.csv"}, "folds are drawn, and splits gives mine.csv: leave one of the two out"),
        ({"folds": 1}, "option folds must be a whole number of at least 2, got 1"),
    ],
)
def test_options_that_contradict_each_other(given, words):
    with pytest.raises(UserError, match=words):
        config("d", "o", **{"folds": 5, **given})


@pytest.mark.slow
def test_a_split_that_comes_with_the_data_is_not_used_and_that_is_said(data, tmp_path, caplog):
    names = sorted(path.stem for path in (data / "images").iterdir())
    for number, name in enumerate(names):
        for folder in ("images", "masks/0"):
            place = tmp_path / "data" / ("val" if number > 8 else "train") / folder
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(data / folder / f"{name}.png", place)
    with caplog.at_level(logging.INFO, "allukan"):
        train(config(tmp_path / "data", tmp_path / "run", folds=2, epochs=1))
    assert sum("is not used: 2 folds of all images are drawn" in message for message in caplog.messages) == 2
    tested = [name for number in range(2) for name in Splits.load(tmp_path / f"run/fold-{number}/splits.json").test]
    assert sorted(tested) == names
