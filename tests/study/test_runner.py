"""Trials are done once, whoever works on them, and whatever happens to some of them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from filelock import SoftFileLease

from allukan.errors import UserError
from allukan.study import load_study, run_study, runner
from allukan.study.trials import Trial

ALLUKAN = [sys.executable, "-c", "from allukan.cli.main import main; main()"]


def shell(*arguments, **options):
    return subprocess.Popen(
        [*ALLUKAN, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def epochs(trial):
    with (trial / "history.csv").open() as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


def until(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_finished_study(done):
    trials = [done / "a" / p / m / "0" for p in ("clean", "ukan") for m in ("ka", "conv")]
    for trial in trials:
        assert json.loads((trial / "evaluation/summary.json").read_text())["subset"] == "test"
        cross = json.loads((trial / "evaluation-b/summary.json").read_text())
        assert (cross["subset"], cross["overall"]["cases"]) == ("all", 10)
        record = json.loads((trial / "finished.json").read_text())
        assert record["train_seconds"] > 0
        assert {"command", "commit", "date", "device", "threads", "versions"} <= record.keys()
    assert not list(done.rglob("*.lock"))


def test_what_is_done_is_not_done_again(done, here, folder, monkeypatch):
    monkeypatch.setattr(runner, "_spawn", None)
    assert run_study(load_study(folder / "done.yaml"), done) == []


@pytest.mark.slow
def test_a_failed_cell_is_recorded_and_the_rest_is_done(write, here, tmp_path, monkeypatch):
    study, out = (
        load_study(write(seeds=[0, 1], models={"bad": {"model": "ukan"}, "ka": {"model": "allukan-tiny"}})),
        tmp_path / "o",
    )
    finish, broken = runner.finish, {"a/clean/bad/0": UserError("no memory"), "a/clean/bad/1": RuntimeError("bug")}

    def spoiled(trial, config):
        if trial.name in broken:
            raise broken[trial.name]
        finish(trial, config)

    monkeypatch.setattr(runner, "finish", spoiled)
    assert [trial.name for trial in run_study(study, out)] == ["a/clean/bad/0", "a/clean/bad/1"]
    assert (out / "a/clean/bad/0/failed.txt").read_text() == "no memory\n"
    assert "Traceback" in (out / "a/clean/bad/1/failed.txt").read_text()
    assert (out / "a/clean/ka/1/finished.json").is_file()
    broken.pop("a/clean/bad/0")
    assert len(run_study(study, out)) == 2  # left as they are
    assert [trial.name for trial in run_study(study, out, retry_failed=True)] == ["a/clean/bad/1"]
    assert (out / "a/clean/bad/0/finished.json").is_file()
    assert not (out / "a/clean/bad/0/failed.txt").exists()


def test_a_cell_that_diverges_is_failed_with_its_sentence(write, here, tmp_path):
    plan = write(models={"wild": {"model": "convtwin-tiny", "lr": 1e30, "batch_size": 4}, "ka": {"model": "convtwin-tiny"}})
    out = tmp_path / "o"
    assert [trial.name for trial in run_study(load_study(plan), out)] == ["a/clean/wild/0"]
    assert (out / "a/clean/wild/0/failed.txt").read_text().startswith("the loss is nan in epoch 1, step 2 of 3 (images phantom_")
    assert not (out / "a/clean/wild/0/finished.json").exists()
    assert not (out / "a/clean/wild/0/model").exists()
    assert (out / "a/clean/ka/0/finished.json").is_file()


def test_weights_to_start_from_are_found_beside_the_study(write, folder):
    study = load_study(write(models={"ka": {"model": "allukan-tiny", "init": "old/model"}}, common={"size": 32, "init": "older"}))
    assert study.models["ka"]["init"] == str(folder / "old/model")
    assert study.common["init"] == str(folder / "older")


def test_a_process_that_dies_is_a_failed_cell(write, tmp_path, monkeypatch):
    class Dead:
        exitcode = -9
        sentinel = None

        def __init__(self, *_):
            self.sentinel, end = os.pipe()
            os.close(end)

        def is_alive(self):
            return False

    monkeypatch.setattr(runner, "_spawn", Dead)
    [trial] = run_study(load_study(write()), tmp_path)
    assert "exit code -9" in trial.failure


@pytest.mark.slow
def test_tuning_takes_what_is_best_on_validation(write, here, tmp_path):
    tune = {"grid": {"lr": [1e-7, 0.01], "weight_decay": [0.0, 0.1]}, "seed": 3}
    assert run_study(load_study(write(tune=tune)), tmp_path) == []
    scores = {}
    for point in (tmp_path / "a/tune/ka").iterdir():
        assert not (point / "evaluation").exists()  # test images have no say
        with (point / "history.csv").open() as file:
            scores[point.name] = max(float(row["val_iou"]) for row in csv.DictReader(file))
    best = max(scores.values())
    found = json.loads((tmp_path / "tuning.json").read_text())["a"]["ka"]
    assert [point["val_iou"] for point in found["points"]] == [
        scores[f"lr={p['lr']},weight_decay={p['weight_decay']}"] for p in found["points"]
    ]
    chosen = found["chosen"]
    assert scores[f"lr={chosen['lr']},weight_decay={chosen['weight_decay']}"] == best
    assert len(scores) == 4
    used = (tmp_path / "a/clean/ka/0/config.yaml").read_text()
    assert f"lr: {chosen['lr']}\n" in used.replace("1.0e-07", "1e-07")
    assert f"weight_decay: {chosen['weight_decay']}\n" in used


def test_runs_whose_tuning_failed_are_not_done(write, here, tmp_path, monkeypatch):
    finish = runner.finish
    monkeypatch.setattr(
        runner, "finish", lambda trial, *a: trial.fail("spoiled") if "lr=0.1" in trial.name else finish(trial, *a)
    )
    undone = run_study(load_study(write(tune={"grid": {"lr": [0.01, 0.1]}})), tmp_path)
    assert [(trial.name, trial.state) for trial in undone] == [("a/tune/ka/lr=0.1", "failed"), ("a/clean/ka/0", "to do")]


@pytest.mark.slow
def test_a_cell_in_other_hands_is_left_and_a_dead_lock_is_taken_over(write, here, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.1)
    study, out = load_study(write(seeds=[0, 1])), tmp_path
    trial = out / "a/clean/ka/0"
    trial.parent.mkdir(parents=True)
    other = SoftFileLease(trial.with_name("0.lock"), lease_duration=1.0)
    other.acquire()
    order = []

    def watched(trial, *rest):
        order.append((trial.name, other.is_locked, time.monotonic()))
        return spawn(trial, *rest)

    spawn = runner._spawn
    monkeypatch.setattr(runner, "_spawn", watched)
    other._stop_heartbeat()  # as when its machine is gone
    begin = time.monotonic()
    assert run_study(study, out) == []
    assert [name for name, *_ in order] == ["a/clean/ka/1", "a/clean/ka/0"]
    assert order[1][2] - begin >= 1.0


def test_a_cell_that_another_took_over_is_dropped_and_waited_for(write, here, tmp_path, monkeypatch):
    """A machine that slept finds its lock gone: what it was doing ends, and is not recorded as failed."""
    monkeypatch.setattr(runner, "LEASE_SECONDS", 0.6)
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.1)
    spawn, killed = runner._spawn, []

    class Slow:
        exitcode = None

        def __init__(self, trial):
            self.sentinel, self.end = os.pipe()
            trial.lock.unlink()

        def is_alive(self):
            return not killed

        def kill(self):
            killed.append(self)
            os.close(self.end)

        def join(self):
            os.close(self.sentinel)

    monkeypatch.setattr(runner, "_spawn", lambda trial, *rest: spawn(trial, *rest) if killed else Slow(trial))
    assert run_study(load_study(write()), tmp_path) == []
    assert len(killed) == 1


@pytest.mark.slow
def test_a_broken_checkpoint_starts_the_training_again(write, here, tmp_path):
    study = load_study(write())
    assert run_study(study, tmp_path) == []
    trial = tmp_path / "a/clean/ka/0"
    (trial / "finished.json").unlink()
    (trial / "last.ckpt").write_bytes((trial / "last.ckpt").read_bytes()[:1000])
    assert run_study(study, tmp_path) == []
    assert epochs(trial) == [1]


def test_states(tmp_path):
    trial = Trial(tmp_path / "run", "a", "clean", "ka", {}, tests={"b": {}})
    seen = [trial.state]
    for name in ("splits.json", "failed.txt", "finished.json", "evaluation-b/summary.json"):
        (trial.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (trial.folder / name).touch()
        seen.append(trial.state)
    assert seen == ["to do", "started", "failed", "failed", "done"]


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_from_the_last_epoch(write, tmp_path):
    plan, out = write(common={"size": 32, "epochs": 12, "accelerator": "cpu"}), tmp_path / "out"
    trial = out / "a/clean/ka/0"
    process = shell("study", plan, "--out", out)
    until(lambda: (trial / "history.csv").is_file() and len(epochs(trial)) >= 3 and (trial / "last.ckpt").is_file())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    time.sleep(1)
    before = (trial / "history.csv").read_text().splitlines()
    time.sleep(1)
    assert (trial / "history.csv").read_text().splitlines() == before  # its trial ended with it
    assert not (trial / "finished.json").exists()
    again = shell("study", plan, "--out", out)
    said, _ = again.communicate(timeout=900)
    assert again.returncode == 0, said
    after = (trial / "history.csv").read_text().splitlines()
    assert after[: len(before) - 1] == before[:-1]  # seconds included: those epochs were not trained again
    assert epochs(trial) == list(range(1, 13))
    assert "Next: allukan compare" in said


@pytest.mark.slow
def test_two_processes_do_each_cell_once(write, tmp_path):
    plan, out = write(seeds=[0, 1]), tmp_path / "out"
    processes = [shell("study", plan, "--out", out) for _ in range(2)]
    said = [process.communicate(timeout=900)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    told = [line for text in said for line in text.splitlines() if ": done in" in line]
    assert len(told) == 2, said
    for seed in range(2):
        assert (out / f"a/clean/ka/{seed}.log").read_text().count("epoch 1/1") == 1
    assert all(": done in" in text for text in said)  # both worked
    assert not list(out.rglob("*.lock"))
