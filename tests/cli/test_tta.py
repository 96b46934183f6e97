"""What flips are worth, against the command line."""

import pytest

from allukan.data import write_phantoms
from allukan.errors import UserError
from allukan.files import read_table, write_json
from allukan.inference import Predictor, evaluate, open_run
from allukan.training import TrainConfig, train
from benchmarks.tta import tta


def test_flips_are_scored_as_the_command_line_does(shell, tmp_path):
    run = tmp_path / "study/a/clean/conv/0"
    write_phantoms(tmp_path / "a", count=12, size=32, seed=3)
    options = {"size": 32, "epochs": 1, "accelerator": "cpu", "devices": "1", "batch_size": 4}
    train(TrainConfig(str(tmp_path / "a"), str(run), model="convtwin-tiny", **options))
    evaluate(open_run(run), predictor=Predictor(run / "model", "cpu"))
    write_json(run / "finished.json", {})
    [row] = tta(tmp_path / "study", "conv").rows
    assert shell("evaluate", run, "--tta", "--device", "cpu", "--out", tmp_path / "flips").code == 0
    before, after = (
        [float(case["iou"]) for case in read_table(folder / "cases.csv")] for folder in (run / "evaluation", tmp_path / "flips")
    )
    assert row["IoU"] == pytest.approx(sum(before) / len(before), abs=1e-4)
    assert row["IoU with flips"] == pytest.approx(sum(after) / len(after), abs=1e-4)
    assert row["difference"] == pytest.approx(row["IoU with flips"] - row["IoU"], abs=2e-4)
    with pytest.raises(UserError, match="has no model best"):
        tta(tmp_path / "study", "best")
