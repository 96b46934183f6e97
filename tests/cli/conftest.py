import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from allukan.cli import main as cli


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line of a refused call."""
        assert self.code == 2, self
        assert "Traceback" not in self.err
        lines = [line for line in self.err.strip().splitlines() if line]
        assert len(lines) == 1, self.err
        return lines[0]


Shell = Callable[..., Result]


@pytest.fixture
def shell(monkeypatch, capsys) -> Shell:
    """Runs ``allukan ARGUMENTS`` in this process."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["allukan", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory) -> Path:
    from allukan.data import write_phantoms

    root = tmp_path_factory.mktemp("data") / "phantoms"
    write_phantoms(root, count=24, size=48, seed=1)
    return root


@pytest.fixture(scope="session")
def trained(tmp_path_factory, phantoms) -> Path:
    """A run of two epochs; tests read it and write elsewhere."""
    from allukan.training import TrainConfig, train

    run = tmp_path_factory.mktemp("runs") / "run"
    return train(
        TrainConfig(str(phantoms), str(run), model="allukan-tiny", size=(32, 32), epochs=2, accelerator="cpu", devices="1")
    )
