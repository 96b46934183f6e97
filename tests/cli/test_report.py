"""``allukan report`` on one run, several and a study: copies of one trained run, so that the differences are known to be 0."""

import shutil

import pytest

from allukan.files import read_table, write_json
from tests.report.pages import Page


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, trained):
    from allukan.inference import Predictor, evaluate, open_run

    run = shutil.copytree(trained, tmp_path_factory.mktemp("evaluated") / "one")
    evaluate(open_run(run), predictor=Predictor(run / "model", "cpu"))
    return run


def read(path):
    return Page(path.read_text(encoding="utf-8"))


def test_one_run(shell, evaluated, tmp_path):
    out = tmp_path / "deep/r.html"
    done = shell("report", evaluated, "--out", out, "--device", "cpu", "--title", "A & B")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"Reporting on {evaluated}: models are applied once more to the images that they were scored on.",
        f"Report: {out}",
        "Next: open it in a browser; it needs no network.",
    ]
    found = read(out)
    assert [path.name for path in out.parent.iterdir()] == ["r.html"]
    assert found.all("h1")[0]["text"] == "A & B"
    assert {row[0] for row in found.cells()[1:]} == {row["id"] for row in read_table(evaluated / "evaluation/cases.csv")}
    for words in ("allukan train --config", "epochs: 2", "median over layers", "--atlas"):
        assert words in found.text
    assert not any("paired" in element["text"].lower() for element in found.all("figcaption"))


def test_two_runs_are_compared(shell, evaluated, tmp_path):
    other = shutil.copytree(evaluated, tmp_path / "other")
    assert shell("report", evaluated, other, "--out", tmp_path / "r.html", "--device", "cpu").code == 0
    found = read(tmp_path / "r.html")
    assert "other against one: +0.000 Dice (95 % interval +0.000 … +0.000): no difference is shown." in found.text
    assert "Against one" in [element["text"] for element in found.all("summary")]
    assert "Paired differences; above 0 is better than one" in [element["text"] for element in found.all("figcaption")]


@pytest.mark.slow
def test_runs_with_other_images_are_shown_and_not_compared(shell, evaluated, tmp_path):
    other = shutil.copytree(evaluated, tmp_path / "other")
    file = other / "evaluation/cases.csv"
    file.write_text("\n".join(file.read_text().splitlines()[:-1]) + "\n")
    assert shell("report", evaluated, other, "--out", tmp_path / "r.html", "--device", "cpu").code == 0
    assert "Not compared: " in read(tmp_path / "r.html").text


@pytest.mark.slow
def test_scores_of_other_images_are_reported_from_where_evaluate_wrote_them(shell, evaluated, phantoms, tmp_path):
    other = shutil.copytree(phantoms, tmp_path / "other")
    told = shell("evaluate", evaluated, "--data", other, "--out", tmp_path / "scores", "--device", "cpu").out
    line = f"allukan report {evaluated} --evaluation {tmp_path / 'scores'}"
    assert told.splitlines()[-1] == f"Next: {line}"
    done = shell(*line.split()[1:], "--out", tmp_path / "r.html", "--device", "cpu")
    assert done.code == 0, done.err
    found = read(tmp_path / "r.html")
    assert {row[0] for row in found.cells()[1:]} == {path.stem for path in (other / "images").iterdir()}
    assert line in found.text
    (answer,) = [element["text"] for element in found.all("p") if " was trained on " in element["text"]]
    assert f" images of {phantoms.resolve().name} to outline " in answer
    assert " masks in all images of other, of 12 groups: " in answer
    both = shell("report", evaluated, evaluated, "--evaluation", tmp_path / "scores", "--out", tmp_path / "r.html").sentence
    assert both == "allukan: --evaluation is of one run, and 2 are given: leave it out, or report on one."
    missing = shell("report", evaluated, "--evaluation", tmp_path / "no", "--out", tmp_path / "r.html").sentence
    assert f"{tmp_path / 'no'} has not been evaluated yet" in missing


def test_scores_of_another_subset_are_reported_as_evaluate_proposes(shell, evaluated, tmp_path):
    run = shutil.copytree(evaluated, tmp_path / "run")
    line = shell("evaluate", run, "--subset", "val", "--device", "cpu").out.splitlines()[-1].removeprefix("Next: ")
    assert line == f"allukan report {run} --evaluation {run / 'evaluation-val'}"
    done = shell(*line.split()[1:], "--out", tmp_path / "r.html", "--device", "cpu")
    assert done.code == 0, done.err
    cases = {row["id"] for row in read_table(run / "evaluation-val/cases.csv")}
    assert {row[0] for row in read(tmp_path / "r.html").cells()[1:]} == cases
    assert not cases & {row["id"] for row in read_table(run / "evaluation/cases.csv")}


@pytest.mark.slow
def test_thumbnails_of_a_comparison_have_the_outlines_of_every_run(shell, evaluated, tmp_path):
    other = shutil.copytree(evaluated, tmp_path / "other")
    assert shell("report", evaluated, other, "--out", tmp_path / "r.html", "--device", "cpu").code == 0
    shown = read(tmp_path / "r.html").all("div", role="img")
    assert all(any(f" by {name}" in one.get("aria-label") for one in shown[:2]) for name in ("one", "other"))


@pytest.mark.slow
def test_of_a_study_every_model_is_shown_once_and_all_trainings_are_compared(shell, evaluated, tmp_path):
    for model in ("first", "second"):
        for seed in ("0", "1"):
            run = shutil.copytree(evaluated, tmp_path / "study/phantoms/clean" / model / seed)
            write_json(run / "finished.json", {})
    write_json(tmp_path / "study/study.json", {"data": {"phantoms": {}}, "models": {"first": {}, "second": {}}})
    done = shell("report", tmp_path / "study", "--out", tmp_path / "r.html", "--device", "cpu")
    assert done.code == 0, done.err
    found = read(tmp_path / "r.html")
    names = {row[1] for row in found.cells()[1:]}
    assert names == {"first", "second"}
    assert "second against first: +0.000 Dice" in found.text
    assert "Of every model the first training is shown; the tables compare all trainings." in found.text


def test_what_cannot_be_reported_is_told_in_a_sentence(shell, trained, evaluated, tmp_path):
    assert "has not been evaluated" in shell("report", trained, "--out", tmp_path / "r.html").sentence
    assert "is a folder" in shell("report", evaluated, "--out", tmp_path).sentence
    assert f"is the model of a run: give the run, {evaluated}." in shell("report", evaluated / "model").sentence
    assert "is not a finished run" in shell("report", tmp_path).sentence
    assert "the same folder name" in shell("report", evaluated, evaluated, "--out", tmp_path / "r.html").sentence
    runs = [shutil.copytree(evaluated, tmp_path / f"run-{number}") for number in range(9)]
    assert "9 runs cannot be told apart" in shell("report", *runs, "--out", tmp_path / "r.html").sentence
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("report", "RUN"), "--out"),
        (("inspect", "RUN/model", "--atlas"), "--out"),
        (("inspect", "RUN/model", "--size", "64"), "--json"),
        (("compare", "RUN"), "--out"),
    ],
)
def test_a_file_that_is_something_else_is_not_written_over(shell, evaluated, command, option):
    file = evaluated / "model/config.json"
    before = file.read_bytes()
    done = shell(*(part.replace("RUN", str(evaluated)) for part in command), option, file)
    assert (done.code, done.out) == (2, "")
    assert f"{file} exists and is something else: remove it, or give {option} another name." in " ".join(done.err.split())
    assert file.read_bytes() == before


def test_a_page_of_before_is_written_over(shell, evaluated, tmp_path):
    for _ in range(2):
        assert shell("report", evaluated, "--out", tmp_path / "r.html", "--device", "cpu").code == 0
