import sys
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.settings import Settings

LINEAR = """
import torch
from helper_of_peer import double

class {name}(torch.nn.Linear):
    def forward(self, x):
        assert x.ndim == 2
        return double(super().forward(x))
"""


@pytest.fixture
def program(monkeypatch, capsys):
    """Runs ``python -m benchmarks.NAME ARGUMENTS`` in this process; returns exit code, stdout and stderr."""

    def run(name, *arguments):
        module = import_module(f"benchmarks.{name}")
        monkeypatch.setattr(sys, "argv", [module.__file__, *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            module.program()
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def quick():
    return Settings("cpu", repeats=1, seconds=0.01)


@pytest.fixture
def clones(tmp_path) -> Path:
    """A folder with clones of two peers: one that works, and one that needs a package which is not there."""
    root = tmp_path / "peers"
    good, bad = root / "efficient-kan/src", root / "fast-kan"
    for folder in (good / "efficient_kan", bad / "fastkan"):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
    (good / "helper_of_peer.py").write_text("def double(x):\n    return 2 * x\n")
    (good / "efficient_kan/kan.py").write_text(LINEAR.format(name="KANLinear"))
    (bad / "fastkan/fastkan.py").write_text("import package_that_nobody_has\n")
    return root
