"""The networks of nnU-Net's plans side by side."""

import json

import pytest

from allukan.costs import parameter_count
from benchmarks.nnunet import HIPPOCAMPUS, planned_networks


@pytest.fixture
def small(tmp_path):
    """Plans of nnU-Net with narrow stages."""
    pytest.importorskip("dynamic_network_architectures")
    plans = json.loads(HIPPOCAMPUS.read_text(encoding="utf-8"))
    plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["features_per_stage"] = [4, 4, 6, 8]
    (tmp_path / "nnUNetPlans.json").write_text(json.dumps(plans), encoding="utf-8")
    return tmp_path / "nnUNetPlans.json"


def test_a_row_for_each_network_of_the_configuration(program, small, tmp_path):
    out = tmp_path / "result.json"
    code, text, err = program(
        "nnunet", "--plans", small, "--configuration", "2d", "--batch", 1, "--repeats", 1, "--threads", 1, "--out", out
    )
    assert code == 0, err
    rows = {row["network"]: row for row in json.loads(out.read_text(encoding="utf-8"))["rows"]}
    assert list(rows) == ["PlainConvUNet", "ALL U-KAN", "PlainConvUNet, converted"]
    networks = planned_networks(small, "2d")
    assert {name: row["parameters"] for name, row in rows.items()} == {n: parameter_count(net) for n, net in networks.items()}
    assert rows["PlainConvUNet, converted"]["saved_bytes"] < rows["PlainConvUNet"]["saved_bytes"]
    assert rows["PlainConvUNet"]["step_ratio"] == 1
    assert "patches 1×1×56×40" in text
    assert all(row["step_seconds"] > 0 for row in rows.values())


def test_what_cannot_be_measured_is_told(program, small):
    assert "did you mean '2d'" in program("nnunet", "--plans", small, "--configuration", "2dd")[2]
    assert program("nnunet", "--plans", small, "--batch", 0)[0] == 2
