"""``allukan study`` and ``allukan compare`` from the shell, with the studies of docs/study.md."""

import re
from pathlib import Path

import pytest

from allukan.data import write_phantoms

ROOT = Path(__file__).parents[2]
SMALL, LARGE = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/study.md").read_text(), re.DOTALL)


@pytest.fixture
def places(tmp_path):
    for number, name in enumerate(("phantoms", "data/clinic", "data/fine", "data/elsewhere")):
        write_phantoms(tmp_path / name, count=12, size=32, seed=number)
    return tmp_path


@pytest.fixture
def in_this_process(monkeypatch):
    """The trials are trained without the seconds that starting another process takes."""
    import os

    from allukan.study import runner

    class Process:
        exitcode = 0

        def __init__(self, trial, config, threads):
            runner.attempt(trial, config)
            self.sentinel, end = os.pipe()
            os.close(end)

        def is_alive(self):
            return False

    monkeypatch.setattr(runner, "_spawn", Process)


@pytest.mark.slow
def test_the_small_study_of_the_docs(shell, places, in_this_process):
    (places / "s.yaml").write_text(SMALL)
    out = places / "out"
    done = shell("study", places / "s.yaml", "--out", out, "--dry-run")
    assert done.code == 0, done
    assert re.search(r"to do +phantoms/clean/ka/0", done.out)
    assert "0 of 2 runs are done" in done.out
    assert not out.exists()
    done = shell("study", places / "s.yaml", "--out", out)
    assert (done.code, "allukan compare" in done.out) == (0, True), done
    assert "2 of 2 runs are done" in shell("study", places / "s.yaml", "--out", out, "--dry-run").out
    told = shell("compare", out, "--against", "conv", "--figure", places / "f.svg")
    assert "| phantoms | clean | ka |" in told.out
    assert (places / "f.svg").stat().st_size > 1000
    assert shell("compare", out, "--format", "csv", "--out", places / "t.csv").code == 0
    assert (places / "t.csv").read_text().startswith("table,data,protocol,model,quantity,value\n")
    runs = [out / "phantoms/clean" / name / "0" for name in ("ka", "conv")]
    assert "same folder name" in shell("compare", *runs).sentence
    assert "--figure" in shell("compare", out, "--figure", "f.gif").sentence


def test_the_large_study_of_the_docs_is_valid(shell, places):
    (places / "l.yaml").write_text(LARGE)
    done = shell("study", places / "l.yaml", "--out", places / "out", "--dry-run")
    assert done.code == 0, done
    assert "0 of 108 runs are done" in done.out  # 2 × 3 models × (2 protocols × 3 seeds + 12 points)


def test_failures_are_told_and_the_exit_code_is_1(shell, places, in_this_process, monkeypatch):
    from allukan.study import runner

    (places / "s.yaml").write_text(SMALL)
    finish = runner.finish
    monkeypatch.setattr(runner, "finish", lambda trial, *a: trial.fail("spoiled") if trial.model == "ka" else finish(trial, *a))
    done = shell("study", places / "s.yaml", "--out", places / "out")
    assert done.code == 1
    assert "phantoms/clean/ka/0: spoiled" in done.err
    assert "--retry-failed" in done.err
    assert (places / "out/phantoms/clean/conv/0/finished.json").is_file()


def test_wrong_use(shell, places):
    (places / "s.yaml").write_text(SMALL)
    assert "cannot be read" in shell("study", places / "none.yaml", "--out", places / "out").sentence
    assert "jobs" in shell("study", places / "s.yaml", "--out", places / "out", "--jobs", 0).sentence
    assert not (places / "out").exists()


@pytest.mark.parametrize("name", ["accuracy_cpu", "accuracy_ukan_gpu", "accuracy_clean_gpu", "ablation_gpu", "search_cpu"])
def test_the_studies_of_the_benchmarks_are_valid(name):
    from allukan.study import load_study

    study = load_study(ROOT / "benchmarks/studies" / f"{name}.yaml")
    assert len(study.seeds) == 3
    assert [Path(given["path"]).name for given in study.data.values()] == ["busi_256", "glas_512", "cvc_256"]
    if not all(Path(given["path"]).is_dir() for given in study.data.values()):
        pytest.skip("shared/data is not beside this checkout")
    from allukan.study import check_study

    check_study(study, Path("nowhere"))
