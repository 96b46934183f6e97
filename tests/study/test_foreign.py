"""A study trusts the networks that it trains, foreign and converted ones too."""

import sys

from allukan.study import check_study, compare, load_study, run_study

CODE = """
from torch import nn


def small(in_channels, out_channels, spatial_dims=2, width=4):
    layers = nn.Conv2d(in_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, out_channels, 1)
    return nn.Sequential(*layers)
"""


def test_a_network_and_its_conversion_are_tuned_trained_and_compared(here, write, tmp_path, monkeypatch):
    (tmp_path / "study_nets.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    own = {"model": "study_nets:small", "options": {"width": 6}}
    models = {"own": own, "ka": {**own, "options": {**own["options"], "convert": True}}}
    study = load_study(write(models=models, tune={"grid": {"spline_lr": [0.001, 0.002]}}))
    check_study(study, tmp_path / "out")
    points = [trial.name for trial in study.trials(tmp_path / "out") if trial.point is not None]
    assert points == ["a/tune/own/default", "a/tune/ka/spline_lr=0.001", "a/tune/ka/spline_lr=0.002"]
    assert run_study(study, tmp_path / "out") == []
    sys.modules.pop("study_nets")
    rows = compare([tmp_path / "out"], trust=True).tables[0].rows
    assert [row[2:4] for row in rows] == [["own", 6 * 9 + 6 + 12 + 7], ["ka", 6 * 9 + 6 + 12 + 7 + 2 * 9]]
    sys.modules.pop("study_nets")
