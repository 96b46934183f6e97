from pathlib import Path

import pytest

from benchmarks import Settings

LINEAR = """
import torch
from helper_of_peer import double

class {name}(torch.nn.Linear):
    def forward(self, x):
        assert x.ndim == 2
        return double(super().forward(x))
"""


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
