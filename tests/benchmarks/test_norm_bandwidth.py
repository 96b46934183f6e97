"""The script in ``benchmarks/gpu`` runs where there is no GPU, too, and says of every pass how fast it is."""

import importlib.util
import json
import sys
from pathlib import Path

import torch

PATH = Path(__file__).parents[2] / "benchmarks/gpu/norm_bandwidth.py"


def load():
    spec = importlib.util.spec_from_file_location(PATH.stem, PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_pass_is_measured_beside_a_copy(tmp_path, monkeypatch):
    script = load()
    monkeypatch.setattr(script, "SHAPES", [(1, 8, 4, 4)])
    monkeypatch.setattr(script, "DTYPES", [torch.float32])
    monkeypatch.setattr(script, "NORMS", {"group": script.NORMS["group"]})
    out = tmp_path / "norm.json"
    monkeypatch.setattr(sys, "argv", [PATH.name, "--device", "cpu", "--seconds", "1e-4", "--out", str(out)])
    script.main()
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 2 * 2 * 8  # formats, gradients, passes
    assert all(row["seconds"] > 0 for row in rows)
    assert {row["pass"] for row in rows if "copy_ratio" not in row} == {"affine", "input_gradient"}
