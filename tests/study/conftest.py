import os
from pathlib import Path

import pytest
import yaml

from allukan.data import write_phantoms
from allukan.study import load_study, run_study, runner

COMMON = {"size": 32, "epochs": 1, "accelerator": "cpu"}


class InThisProcess:
    """Stands for the process of a trial; it is over as soon as it has begun."""

    def __init__(self, trial, config, threads):
        runner.attempt(trial, config)
        self.sentinel, end = os.pipe()
        os.close(end)
        self.exitcode = 0

    def is_alive(self):
        return False

    def kill(self):
        pass

    def join(self):
        os.close(self.sentinel)


@pytest.fixture(scope="session")
def here():
    """The trials of a study run in this process, without the seconds that starting another takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_spawn", InThisProcess)
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Two sets of phantoms."""
    root = tmp_path_factory.mktemp("study")
    write_phantoms(root / "a", count=20, size=32, seed=1)
    write_phantoms(root / "b", count=10, size=32, seed=2)
    return root


@pytest.fixture
def write(folder, tmp_path):
    """Writes a study beside its data, with what is given instead of the usual, and returns its path."""

    def one(**given) -> Path:
        plan = {"data": {"a": "a"}, "models": {"ka": {"model": "allukan-tiny"}}, "common": COMMON, **given}
        path = folder / f"{tmp_path.name}.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in plan.items() if value is not None}, sort_keys=False))
        return path

    return one


@pytest.fixture(scope="session")
def done(folder, here, tmp_path_factory) -> Path:
    """A finished study: two models, both protocols, tested on other data too."""
    plan = {
        "data": {"a": "a"},
        "test_data": {"b": "b"},
        "models": {"ka": {"model": "allukan-tiny"}, "conv": {"model": "convtwin-tiny"}},
        "protocols": ["clean", "ukan"],
        "seeds": [0],
        "common": COMMON,
        "cross": [{"train": "a", "test": "b"}],
    }
    (folder / "done.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    out = tmp_path_factory.mktemp("out") / "done"
    assert run_study(load_study(folder / "done.yaml"), out) == []
    return out
