"""A training in folds from the shell: train, go on, evaluate over all images, compare."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from allukan.scores import crossed_difference
from tests.report.pages import Page

HOW = ["--size", 32, "--epochs", 1, "--accelerator", "cpu", "--devices", 1, "--batch-size", 4]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two trainings of three folds; tests read them."""
    from allukan.data import write_phantoms
    from allukan.training import TrainConfig, train

    root = tmp_path_factory.mktemp("folds")
    write_phantoms(root / "data", count=12, size=32, seed=3)
    for model in ("allukan-tiny", "convtwin-tiny"):
        options = {"model": model, "size": 32, "epochs": 1, "accelerator": "cpu", "devices": "1", "batch_size": 4}
        train(TrainConfig(str(root / "data"), str(root / model), folds=3, **options))
    return root


def cases(run):
    with (run / "evaluation/cases.csv").open() as file:
        return list(csv.DictReader(file))


def test_evaluate_scores_every_image_by_the_fold_that_did_not_see_it(shell, runs):
    run = runs / "allukan-tiny"
    result = shell("evaluate", run)
    assert result.code == 0, result.err
    folds = [run / f"fold-{number}" for number in range(3)]
    assert cases(run) == [row for fold in folds for row in cases(fold)]
    assert sorted(row["id"] for row in cases(run)) == sorted(path.stem for path in (runs / "data/images").iterdir())
    for fold in folds:
        splits = json.loads((fold / "splits.json").read_text())
        assert sorted(row["id"] for row in cases(fold)) == splits["test"]
    summary = json.loads((run / "evaluation/summary.json").read_text())
    assert (summary["overall"]["cases"], summary["splits_from"], summary["seen_in_training"]) == (12, "drawn, 3 folds", 0)
    dice = [float(row["dice"]) for row in cases(run)]
    assert summary["overall"]["dice"]["mean"] == pytest.approx(sum(dice) / 12)
    assert f"Written: {run / 'evaluation/cases.csv'}" in result.out


def test_predict_averages_the_folds(shell, runs, tmp_path):
    """Oracle: the probabilities of each fold, predicted by itself."""
    run, image = runs / "convtwin-tiny", sorted((runs / "data/images").iterdir())[0]
    outs = {run: tmp_path / "all"} | {run / f"fold-{n}": tmp_path / str(n) for n in range(3)}
    for folder, out in outs.items():
        result = shell("predict", folder, image, "--out", out, "--probabilities", "--device", "cpu")
        assert result.code == 0, result.err
    whole, *folds = (np.load(out / f"probabilities/{image.stem}.npz")["probabilities"].astype(float) for out in outs.values())
    assert np.allclose(whole, np.mean(folds, 0), atol=2e-3)  # of float16
    assert not np.allclose(whole, folds[0], atol=2e-3)


@pytest.mark.slow
def test_the_report_of_all_folds_has_every_image_once(shell, runs, tmp_path):
    run = runs / "allukan-tiny"
    assert shell("evaluate", run).out.splitlines()[-1] == f"Next: allukan report {run}"
    assert shell("report", run, "--out", tmp_path / "r.html", "--device", "cpu").code == 0
    found = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    dice = {row["id"]: f"{float(row['dice']):.3f}" for row in cases(run)}
    heading, *rows = found.cells()
    assert {row[0]: row[heading.index("Dice")] for row in rows} == dice
    assert len(dice) == 12 == sum(element.get("class") == "case" for element in found.all("article"))
    assert "by the one of 3 folds that did not see it" in found.text
    assert "was trained on 6 images of data in each of 3 folds to outline" in found.text
    assert "6 images to train on, 2 to choose the epoch, 4 to test in each of 3 folds;" in found.text


@pytest.mark.slow
def test_two_trainings_in_folds_are_compared_on_all_images(shell, runs):
    for name in ("allukan-tiny", "convtwin-tiny"):
        assert shell("evaluate", runs / name).code == 0
    result = shell("compare", runs / "allukan-tiny", runs / "convtwin-tiny", "--against", "convtwin-tiny", "--format", "csv")
    assert result.code == 0, result.err
    assert "Against convtwin-tiny,data,clean,allukan-tiny,images,12\n" in result.out
    assert "Against convtwin-tiny,data,clean,allukan-tiny,trainings,3\n" in result.out
    table = np.full((3, 12), np.nan)
    for fold in range(3):
        ka, conv = (
            [float(row["iou"]) for row in cases(runs / name / f"fold-{fold}")] for name in ("allukan-tiny", "convtwin-tiny")
        )
        table[fold, 4 * fold : 4 * fold + 4] = np.subtract(ka, conv)
    groups = [row["group"] for row in cases(runs / "allukan-tiny")]
    assert found_p(result.out) == pytest.approx(crossed_difference(table, groups).p)


def found_p(text):
    [line] = [line for line in text.splitlines() if line.startswith("Against convtwin-tiny,data,clean,allukan-tiny,p,")]
    return float(line.rpartition(",")[2])


def test_folds_of_another_partition_are_one_training(shell, runs, tmp_path):
    """As of two seeds, where every fold has other images: only all of them together can be paired."""
    assert shell("evaluate", runs / "convtwin-tiny").code == 0
    shutil.copytree(runs / "convtwin-tiny", tmp_path / "else")
    first, second = (tmp_path / f"else/fold-{number}/splits.json" for number in range(2))
    (text, other) = first.read_text(), second.read_text()
    first.write_text(other)
    second.write_text(text)
    result = shell("compare", tmp_path / "else", runs / "convtwin-tiny", "--against", "convtwin-tiny", "--format", "csv")
    assert "Against convtwin-tiny,data,clean,else,trainings,1\n" in result.out
    assert "Against convtwin-tiny,data,clean,else,p,nan\n" in result.out


def test_what_takes_one_fold_says_so(shell, runs, tmp_path):
    run = runs / "allukan-tiny"
    for option in (["--subset", "val"], ["--out", tmp_path / "o"], ["--map", "a=b"]):
        assert f"{option[0]} with one, as {run}/fold-0" in shell("evaluate", run, *option).sentence
    for command in (["inspect", run], ["export", run, "--format", "hub", "--out", tmp_path / "h"]):
        assert f"give one of them, as {run / 'fold-0/model'}" in shell(*command).sentence


@pytest.mark.slow
def test_other_data_are_scored_by_the_mean_of_the_folds(shell, runs, tmp_path):
    """Oracle: what ``predict`` writes of the same images, and the definition of Dice."""
    from allukan.data import write_phantoms

    run, other = runs / "allukan-tiny", tmp_path / "other"
    write_phantoms(other, count=3, size=40, seed=9)
    result = shell("evaluate", run, "--data", other, "--out", tmp_path / "scores", "--device", "cpu")
    assert result.code == 0, result.err
    assert shell("predict", run, other / "images", "--out", tmp_path / "out", "--device", "cpu").code == 0
    with (tmp_path / "scores/cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    line = result.out.splitlines()[-1].removeprefix("Next: ")
    assert line == f"allukan report {run} --evaluation {tmp_path / 'scores'}"
    done = shell(*line.split()[1:], "--out", tmp_path / "r.html", "--device", "cpu")
    assert done.code == 0, done.err
    found = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert {row[0]: row[found.cells()[0].index("Dice")] for row in found.cells()[1:]} == {
        row["id"]: f"{float(row['dice']):.3f}" for row in rows
    }
    assert "scored by the mean of the probabilities of 3 folds." in found.text
    for row in rows:
        found, truth = (
            np.asarray(Image.open(folder / f"{row['id']}.png")) > 0 for folder in (tmp_path / "out/masks", other / "masks/0")
        )
        total = found.sum() + truth.sum()
        assert float(row["dice"]) == pytest.approx(2 * (found & truth).sum() / total if total else 1)
    summary = json.loads((tmp_path / "scores/summary.json").read_text())
    assert (summary["seen_in_training"], summary["subset"], summary["splits_from"]) == (0, "all", "drawn, 3 folds")
    result = shell("evaluate", run, "--data", runs / "data", "--out", tmp_path / "own", "--device", "cpu")
    assert "12 of these 12 images were in the training" in result.out
    assert shell("evaluate", run / "fold-0", "--device", "cpu").code == 0
    refused = shell("report", run, "--evaluation", run / "fold-0/evaluation", "--out", tmp_path / "r.html").sentence
    assert f"is not of the folds of {run} together" in refused
    refused = shell("evaluate", run, "--data", other, "--subset", "test").sentence
    assert refused.endswith("has 3 folds, which are scored on all images of --data: leave --subset out.")


@pytest.mark.slow
def test_train_says_what_is_next_and_goes_on(shell, runs, tmp_path):
    out = tmp_path / "run"
    first = shell("train", runs / "data", "--out", out, "--folds", 2, "--model", "convtwin-tiny", *HOW)
    assert first.code == 0, first.err
    assert f"Trained models: {out / 'fold-0/model'} to {out / 'fold-1/model'}\nNext: allukan evaluate {out}\n" in first.out
    (out / "fold-1/model/config.json").unlink()
    lacking = shell("predict", out, runs / "data/images", "--out", tmp_path / "p").sentence
    assert f"{out / 'fold-1'} has no model yet" in lacking
    assert f"{out / 'fold-1'} has no model yet: go on with allukan train --out {out} --resume" in shell("evaluate", out).sentence
    for path in sorted((out / "fold-1").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    again = shell("train", "--out", out, "--resume")
    assert again.code == 0, again.err
    assert f"nothing is left to do: {out / 'fold-0'} has had its 1 epochs" in again.err
    assert shell("evaluate", out).code == 0
    one = shell("train", runs / "data", "--out", tmp_path / "one", "--folds", 2, "--fold", 1, "--model", "convtwin-tiny", *HOW)
    assert f"Next: allukan evaluate {tmp_path / 'one'}\n" in one.out
    assert (tmp_path / "one/splits.json").read_text() == (out / "fold-1/splits.json").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--folds", 2, "--protocol", "ukan"], "leave folds out, or choose clean"),
        (["--folds", 2, "--splits", "mine.csv"], "folds are drawn, and splits gives"),
        (["--folds", 2, "--fold", 2], "there is no fold 2: the first of 2 is 0 and the last 1"),
        (["--folds", 99], "too few for 99 folds: ask for fewer"),
        (["--folds", 1], "folds must be a whole number of at least 2"),
    ],
)
def test_wrong_folds(shell, runs, tmp_path, options, words):
    assert words in shell("train", runs / "data", "--out", tmp_path / "run", *options).sentence
