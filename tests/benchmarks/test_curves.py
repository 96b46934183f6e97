"""Learning curves: what they say of histories that were made by hand."""

import pytest

from allukan.errors import UserError
from allukan.files import write_table
from benchmarks.curves import curves, draw


def write(study, model, fold, iou, seconds):
    folder = study / f"a/clean/{model}/0-fold-{fold}"
    folder.mkdir(parents=True)
    write_table(
        folder / "history.csv",
        [{"epoch": n, "val_iou": v, "seconds": s} for n, (v, s) in enumerate(zip(iou, seconds, strict=True), 1)],
    )


def test_the_mean_curve_and_when_it_reaches_the_goal(tmp_path):
    write(tmp_path, "twin", 0, [0.2, 0.4, 0.8], [60, 90, 600])  # another program held it up
    write(tmp_path, "twin", 1, [0.4, 0.6, 0.8], [66, 60, 60])
    write(tmp_path, "ka", 0, [0.5, 0.7, 0.6], [120, 120, 130])
    twin, ka = curves(tmp_path, "twin,ka,other", 0.75).rows
    assert (twin["trainings"], twin["curve"], twin["best mean IoU"]) == (2, [0.3, 0.5, 0.8], 0.8)
    assert (twin["epochs to goal"], twin["minutes an epoch"], twin["minutes to goal"]) == (3, 1.0, 3.0)
    assert (ka["epochs to goal"], ka["minutes to goal"]) == (2, 4.0)
    assert curves(tmp_path, "twin,ka", 0.9).rows[1]["epochs to goal"] is None
    draw(tmp_path / "curves.svg", [twin, ka], {})
    assert (tmp_path / "curves.svg").stat().st_size > 1000
    with pytest.raises(UserError, match="has no history of other"):
        curves(tmp_path, "other")
