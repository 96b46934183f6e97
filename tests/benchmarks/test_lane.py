"""The lane: what is next, what is finished, and that it can be stopped at any time."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from allukan.data import write_phantoms
from allukan.errors import UserError
from allukan.study import compare, load_study, runner
from benchmarks.lane import __main__ as program
from benchmarks.lane import entries, holder, worker
from benchmarks.lane.entries import CommandEntry, StudyEntry, read_order
from benchmarks.lane.results import copy_results
from benchmarks.proxy.rows import ROWS

ROOT = Path(__file__).parents[2]
ORDER = ROOT / "benchmarks/studies/lane.yaml"


class InThisProcess:
    """Stands for the process of a run; it is over as soon as it has begun."""

    exitcode = 0

    def __init__(self, trial, config, threads):
        runner.attempt(trial, config)
        self.sentinel, end = os.pipe()
        os.close(end)

    def is_alive(self):
        return False

    def kill(self):
        pass

    def join(self):
        os.close(self.sentinel)


@pytest.fixture
def order(tmp_path):
    """Writes an order of one small study, and a program before it."""
    write_phantoms(tmp_path / "data", count=12, size=32, seed=1)

    def one(epochs=1, **given):
        plan = {
            "data": {"a": "data"},
            "models": {"ka": {"model": "allukan-tiny"}, "conv": {"model": "convtwin-tiny"}},
            "folds": 2,
            "common": {"size": 32, "epochs": epochs, "accelerator": "cpu"},
            **given,
        }
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
        code = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.parent.mkdir(); p.write_text('{}')"
        command = {"command": ["python", "-c", code, "{lane}/proxy/done.json"], "done": "{lane}/proxy/done.json"}
        (tmp_path / "lane.yaml").write_text(yaml.safe_dump({"order": [command, {"study": "small.yaml"}]}))
        return tmp_path / "lane.yaml"

    return one


@pytest.fixture
def here(monkeypatch):
    """The runs are done in this process, whose signals stay as they are."""
    monkeypatch.setattr(runner, "_spawn", InThisProcess)
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)


def lane_program(*arguments):
    command = [sys.executable, "-m", "benchmarks.lane", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def until(condition, seconds=900):  # at the lowest priority it may take long beside other tests
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.slow
def test_everything_is_done_in_its_order_and_only_once(order, here, tmp_path, monkeypatch):
    lane, file = tmp_path / "lane", order()
    before = [entry.progress() for entry in read_order(file, lane)]
    assert [(p.done, p.total, p.seconds) for p in before] == [(0, 1, None), (0, 4, None)]
    assert holder.worker(lane) is None
    worker.work(file, lane)
    assert (lane / "proxy/done.json").stat().st_mtime_ns <= (lane / "small/study.json").stat().st_mtime_ns
    after = [entry.progress() for entry in read_order(file, lane)]
    assert [(p.done, p.total) for p in after] == [(1, 1), (4, 4)]
    assert after[1].seconds == 0
    monkeypatch.setattr(entries, "run_study", None)
    monkeypatch.setattr(entries.subprocess, "Popen", None)
    worker.work(file, lane)
    assert holder.worker(lane) is None


def test_the_time_left_is_that_of_the_epochs_that_are_left(order, tmp_path):
    [_, study] = read_order(order(epochs=10), tmp_path / "lane")
    for model, seconds in (("ka", 3.0), ("conv", 1.0)):
        run = study.out / "a/clean" / model / "0-fold-0"
        run.mkdir(parents=True)
        (run / "splits.json").write_text("{}")
        (run / "history.csv").write_text("epoch,seconds\n" + "".join(f"{e},{seconds}\n" for e in range(1, 5)))
    progress = study.progress()
    assert progress.seconds == (6 + 10) * 3.0 + (6 + 10) * 1.0
    assert progress.begun == ("a/clean/ka/0-fold-0", "a/clean/conv/0-fold-0")
    (study.out / "a/clean/ka/0-fold-0/failed.txt").write_text("no memory\nmore\n")
    progress = study.progress()
    assert progress.failed == ("a/clean/ka/0-fold-0: no memory",)
    assert progress.seconds == 10 * 3.0 + (6 + 10) * 1.0


@pytest.mark.slow
def test_what_is_finished_is_copied_without_weights_and_can_be_compared(order, here, tmp_path, monkeypatch):
    lane, file, to = tmp_path / "lane", order(), tmp_path / "results"
    worker.work(file, lane)
    (lane / "small/a/clean/conv/0-fold-1/finished.json").unlink()
    monkeypatch.setattr("benchmarks.lane.results.ROOT", tmp_path / "checkout")
    copied = copy_results(read_order(file, lane), to)
    names = {str(path.relative_to(to)) for path in to.rglob("*") if path.is_file()}
    runs = ["ka/0-fold-0", "conv/0-fold-0", "ka/0-fold-1"]
    kept = ["config.yaml", "splits.json", "history.csv", "finished.json", "model/config.json"]
    kept += ["evaluation/cases.csv", "evaluation/summary.json"]
    assert names == {"proxy/done.json", "small/study.json", *(f"small/a/clean/{run}/{name}" for run in runs for name in kept)}
    assert copied == {"proxy": 1, "small": 1 + 3 * 7}
    assert not any(str(tmp_path) in path.read_text() for path in to.rglob("*") if path.is_file())
    assert json.loads((to / "small/study.json").read_text())["data"]["a"]["path"] == "../data"
    (lane / "small/a/clean/ka/0-fold-1/finished.json").unlink()
    mine, theirs = (compare([folder], "conv").differences for folder in (lane / "small", to / "small"))
    assert (mine[0].images, mine[0].crossed.mean) == (6, pytest.approx(theirs[0].crossed.mean))


def test_an_entry_that_cannot_be_done_does_not_stop_the_others(order, here, tmp_path, caplog):
    file = order()
    wrong = [{"study": "nowhere.yaml"}, {"command": ["python", "-c", "raise SystemExit(3)"], "done": "{lane}/x/y"}]
    file.write_text(yaml.safe_dump({"order": [*wrong, *yaml.safe_load(file.read_text())["order"][:1]]}))
    with caplog.at_level("INFO", "allukan"):
        worker.work(file, tmp_path / "lane")
    assert any("nowhere.yaml cannot be read" in message for message in caplog.messages)
    assert any("ended with exit code 3 and without" in message for message in caplog.messages)
    assert (tmp_path / "lane/proxy/done.json").is_file()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"entries": []}, "unknown key of .*lane.yaml 'entries'"),
        ({"order": [{"studie": "a.yaml"}]}, "did you mean 'study'"),
        ({"order": [{"command": ["a"]}]}, "an entry is 'study: FILE'"),
        ({"order": [{"command": "a", "done": "b"}]}, "an entry is 'study: FILE'"),
        ({"order": [{"command": [], "done": "b"}]}, "an entry is 'study: FILE'"),
        ({"order": [{"study": ["a"]}]}, "an entry is 'study: FILE'"),
        ({"order": [{"study": "a", "done": "b"}]}, "an entry is 'study: FILE'"),
        ({"order": ["a.yaml"]}, "must be 'name: value' pairs"),
    ],
)
def test_wrong_orders(tmp_path, given, words):
    (tmp_path / "lane.yaml").write_text(yaml.safe_dump(given))
    with pytest.raises(UserError, match=words):
        read_order(tmp_path / "lane.yaml", tmp_path)


def test_the_lane_is_outside_the_repository():
    with pytest.raises(UserError, match=r"inside the repository: choose another, make lane LANE=\.\./lane"):
        program._place(ROOT / "runs")


def test_the_studies_of_the_lane_can_be_read(tmp_path):
    proxy, *studies = read_order(ORDER, tmp_path)
    assert isinstance(proxy, CommandEntry)
    rows, seeds = (proxy.command[proxy.command.index(name) + 1].split(",") for name in ("--rows", "--seeds"))
    assert proxy.done == tmp_path / "proxy" / f"{rows[-1].replace('/', '-')}@{seeds[-1]}.json"
    assert set(rows) <= ROWS.keys()
    found = {entry.name: entry.trials() for entry in studies if isinstance(entry, StudyEntry)}
    folds, full = found["folds_cpu"], found["ukan_busi"]
    assert len(folds) == 3 * 3 * 5 * 8
    assert [trial.model for trial in folds[:8]] == list(load_study(ORDER.with_name("folds_cpu.yaml")).models)
    for trial, images in zip(folds[:120:40], (453, 115, 428), strict=True):
        assert 780 <= trial.config({}).epochs * (images // 8) <= 820
    assert [(trial.model, trial.options["seed"]) for trial in full[:3]] == [("best", 2981), ("ukan", 2981), ("convtwin", 2981)]


@pytest.mark.slow
def test_paused_in_the_middle_it_goes_on_from_the_last_epoch_and_only_one_works(order, tmp_path):
    lane, file = tmp_path / "lane", order(epochs=60, models={"ka": {"model": "convtwin-tiny"}})
    run = lane / "small/a/clean/ka/0-fold-0"

    def epochs():
        with (run / "history.csv").open() as history:
            return [row["epoch"] + " " + row["seconds"] for row in csv.DictReader(history)]

    assert lane_program("start", lane, "--order", file).returncode == 0
    until(lambda: (run / "last.ckpt").is_file() and len(epochs()) >= 3)
    for again in (worker.start, worker.work):
        with pytest.raises(UserError, match=r"the lane .* runs already"):
            again(file, lane)
    assert holder.pause(lane)
    before = epochs()
    assert 3 <= len(before) < 60
    assert holder.worker(lane) is None
    assert not list(lane.rglob("0-fold-*.lock"))
    assert not holder.pause(lane)
    time.sleep(2)
    assert epochs() == before  # the run ended with it
    said = lane_program("status", lane, "--order", file).stdout
    assert said.startswith("The lane is not running.\n")
    assert "proxy: 1 of 1 done\nsmall: 0 of 2 done, about " in said
    assert "begun   a/clean/ka/0-fold-0" in said
    assert lane_program("start", lane, "--order", file).returncode == 0
    until(lambda: len(epochs()) > len(before))
    assert holder.pause(lane)
    assert epochs()[: len(before) - 1] == before[:-1]  # seconds included: those epochs, which last.ckpt has, were not done again
    assert [int(row.split()[0]) for row in epochs()] == list(range(1, len(epochs()) + 1))
    assert not list((lane / "small").rglob("failed.txt"))


def test_a_pause_imports_nothing_heavy():
    code = "import sys, benchmarks.lane.__main__; assert not {'torch', 'numpy', 'allukan.study'} & set(sys.modules)"
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_make_lane_has_the_lowest_priority_and_one_thread():
    done = subprocess.run(
        ["make", "-n", "lane", "lane-pause", "LANE=/elsewhere"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "OMP_NUM_THREADS=1 nice -n 19 .venv/bin/python -m benchmarks.lane start /elsewhere\n" in done.stdout
    assert ".venv/bin/python -m benchmarks.lane pause /elsewhere\n" in done.stdout
