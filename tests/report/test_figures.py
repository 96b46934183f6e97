"""Charts read back from the SVG of the page: marks are where their numbers are."""

import re

import numpy as np
import pytest

from allukan.report import Probabilities
from tests.report.pages import page, run, score

LEFT, RIGHT = 18, 382  # of a chart without numbers at its left


def charts(found):
    """Elements of the drawings by the title of their chart."""
    parts, title = {}, None
    for element in found.elements:
        if element["tag"] == "figcaption":
            title = element["text"]
        parts.setdefault(title, []).append(element)
    return parts


def circles(elements):
    return np.array([[float(e["cx"]), float(e["cy"])] for e in elements if e["tag"] == "circle"])


def alt(elements):
    return next(e["aria-label"] for e in elements if e["tag"] == "svg" and "aria-label" in e)


def test_dots_stand_at_their_dice_and_none_on_another(tmp_path):
    values = [0.1, 0.5, 0.5, 0.5, 0.9]
    found = charts(page(tmp_path, run([score(f"c{i}", v) for i, v in enumerate(values)])))["Dice of every case"]
    dots = circles(found)
    assert np.sort(dots[:, 0]) == pytest.approx([LEFT + v * (RIGHT - LEFT) for v in values], abs=0.1)
    assert len(np.unique(dots, axis=0)) == 5
    assert "mean Dice 0.500" in alt(found)


def test_failures_have_a_shape_of_their_own(tmp_path):
    scores = [score("m", 0.0, status="missed", predicted=0.0), score("f", 0.0, status="false_alarm", truth=0.0)]
    scores.append(score("e", 1.0, status="both_empty", truth=0.0, predicted=0.0))
    found = page(tmp_path, run(scores))
    assert len(found.all("path", class_="cross")) >= 1
    assert len(found.all("circle", class_="hollow")) == 1
    titles = {element["text"] for element in found.all("title")}
    assert {"m: Dice 0.000, missed", "f: Dice 0.000, false alarm", "e: Dice 1.000, both empty"} <= titles


def test_agreement_has_bias_and_limits_of_bland_and_altman(tmp_path):
    random = np.random.default_rng(0)
    truth = random.uniform(100, 900, 30)
    found_sizes = truth + random.normal(20, 50, 30)
    scores = [score(f"c{i}", 0.5, truth=t, predicted=p) for i, (t, p) in enumerate(zip(truth, found_sizes, strict=True))]
    scores.append(score("empty", 1.0, status="both_empty", truth=0.0, predicted=0.0))
    words = alt(charts(page(tmp_path, run(scores)))["Agreement of sizes: plain"]).replace("−", "-").replace(",", "")
    bias, low, high = (float(value) for value in re.findall(r"-?\d+\.?\d*", words.replace("95 %", "")))
    gaps = found_sizes - truth
    expected = gaps.mean(), gaps.mean() - 1.96 * gaps.std(ddof=1), gaps.mean() + 1.96 * gaps.std(ddof=1)
    assert (bias, low, high) == pytest.approx(expected, rel=0.01)


def test_sizes_are_on_a_logarithmic_axis_without_what_is_not_there(tmp_path):
    scores = [score(f"c{i}", 0.5, truth=float(t)) for i, t in enumerate((10, 100, 1000, 0))]
    dots = circles(charts(page(tmp_path, run(scores)))["Dice by size of the truth"])
    assert len(dots) == 3
    assert np.diff(dots[:, 0])[0] == pytest.approx(np.diff(dots[:, 0])[1], abs=0.2)


def test_calibration_and_thresholds_are_drawn_and_said(tmp_path):
    said, share = np.array([[0.1, np.nan, 0.9]]), np.array([[0.2, np.nan, 0.8]])
    dice = np.linspace(0, 1, 100)[None] * (np.arange(100) < 60)
    drawn = charts(page(tmp_path, run(probabilities=Probabilities(("0",), said, share, np.array([0.0321]), dice, 0.5))))
    dots = circles(drawn["Calibration"])
    assert dots[:, 0] == pytest.approx([42 + 0.1 * 340, 42 + 0.9 * 340], abs=0.1)
    assert dots[0, 1] - dots[1, 1] == pytest.approx(0.6 * (260 - 36 - 20), abs=0.1)
    assert "0.0321" in alt(drawn["Calibration"])
    assert "best 0.596 at 0.59" in alt(drawn["Dice by threshold"])
    assert any(e["text"] == "in use: 0.5" for e in drawn["Dice by threshold"])


def test_curves_skip_what_is_missing_and_say_where_they_end(tmp_path):
    history = [{"epoch": 1.0, "val_dice": 0.5}, {"epoch": 2.0, "train_loss": float("nan")}, {"epoch": 3.0, "val_dice": 0.7}]
    drawn = charts(page(tmp_path, run(history=history)))
    assert "Loss" not in drawn
    (line,) = [e for e in drawn["Validation Dice"] if e["tag"] == "polyline"]
    assert len(line["points"].split()) == 2
    assert alt(drawn["Validation Dice"]).endswith("from 0.5 to 0.7.")


def test_one_case_and_equal_sizes_can_be_drawn(tmp_path):
    drawn = charts(page(tmp_path, run([score("only", 0.6)])))
    for title in ("Dice of every case", "Dice by size of the truth", "Agreement of sizes: plain"):
        assert np.isfinite(circles(drawn[title])).all()
        assert len(circles(drawn[title])) == 1
