"""What the page says when runs lack something, and that no name or number can break it."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from allukan.report import Activation, Overlay, RunReport, plots, write_report
from allukan.scores import METRICS, summarise

VOID = {"meta", "img", "br", "wbr"}
ROWS = [{**dict.fromkeys(METRICS, 0.5), "hd95": 3.0, "status": "ok"}]


class Balanced(HTMLParser):
    """Fails on an element that is closed in the wrong place; keeps the text."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


class Elements(HTMLParser):
    """Every tag, attribute and alternative text of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.alternatives = set(), set(), set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.alternatives |= {value for name, value in attrs if name == "alt"}


def run(name="plain", history=(), overlays=(), activations=(), **summary):
    return RunReport(name, history, {**summarise(ROWS), **summary}, overlays, activations, {})


def text_of(path):
    parser = Balanced()
    parser.feed(path.read_text())
    assert parser.open == []
    return parser.text


def test_a_run_without_anything_is_said_in_lines(tmp_path):
    text = text_of(write_report([run()], tmp_path / "r.html", "Nothing"))
    for line in ("No learning curves", "No case has anything", "no shared activations", "HD95 is the diagonal", "3.0 mm"):
        assert line in text


@pytest.mark.parametrize("name", ["_hidden", "a$b$^", "$\\frac{", "肝臓", "<b>&amp;", "{0}%s"])
def test_names_are_shown_as_they_are(tmp_path, name):
    t = np.linspace(-1, 1, 5)
    shown = run(name, [{"epoch": 1, "train_loss": 0.5}], activations=[Activation(name, t, t[None])])
    text = text_of(write_report([shown], tmp_path / "r.html", name))
    assert text.count(name) >= 5  # title twice, legend, table, activation


def test_no_text_of_a_user_becomes_an_element(tmp_path):
    """In every place that takes text: it is read back as it was written, and nothing but our own elements is there."""
    bad = "</td><script>alert('1')</script>\"<img src=x onerror=y>&amp;{{ 7 * 7 }}"
    t, image, mask = np.linspace(-1, 1, 5), np.zeros((9, 12), np.uint8), np.ones((1, 9, 12), bool)
    classes = [{**row, "class": name} for row in ROWS for name in (bad, f"{bad}2")]
    shown = RunReport(
        bad,
        [{"epoch": 1, "train_loss": 0.5}],
        {**summarise(classes), "distance_unit": bad, "ukan": {"iou_pooled": 0.5, "dice_pooled": 0.6}},
        [Overlay(bad, bad, image, mask, mask, 0.5)],
        [Activation(bad, t, t[None])],
        {bad: bad},
    )
    out = write_report([shown], tmp_path / "r.html", bad)
    places = {"title": 2, "runs": 3, "scores": 3 + 2 + 3, "pooled": 1, "legend": 1, "headings": 2, "case": 2, "activation": 1}
    assert text_of(out).count(bad) == sum(places.values())
    found = Elements()
    found.feed(out.read_text())
    assert not {"script", "onerror"} & (found.tags | found.attributes)
    assert {f"outlines of case {bad}", f"activation of {bad}"} <= found.alternatives


def test_nothing_is_asked_of_the_network_and_every_layer_is_there(tmp_path):
    t = np.linspace(-3, 3, 11)
    layers = [Activation(f"stage.{i}", t, np.stack([t * i] * (20 if i == 0 else 2))) for i in range(70)]
    image, mask = np.zeros((9, 12, 3), np.uint8), np.ones((2, 9, 12), bool)
    cases = [Overlay(f"case-{i}", "best", image, mask, mask, 1.0) for i in range(3)]
    page = write_report([run(activations=layers, overlays=cases)], tmp_path / "r.html", "t").read_text()
    assert not re.search(r"https?://|@import|url\(|<script|<link", page)
    assert all(f"activation of stage.{i}" in page for i in range(70))
    assert all(f">case-{i}<" in page for i in range(3))


def test_figures_of_the_ukan_protocol_are_named_where_there_are_some(tmp_path):
    runs = [run("a", ukan={"iou_pooled": 0.6543, "dice_pooled": 0.79}), run("b")]
    assert "a: IoU 0.654, Dice 0.790." in text_of(write_report(runs, tmp_path / "r.html", "t"))


def test_curves_skip_what_is_missing():
    assert plots.curves([[], [{"epoch": 1, "val_loss": float("nan")}]], {"val_loss": "-"}) is None
    assert plots.curves([[{"val_dice": 0.5}, {"epoch": 2, "lr": 0.1}, {"epoch": 3, "val_dice": 0.7}]], {"val_dice": "-"}, 1.0)


def test_a_layer_with_hundreds_of_activations_stays_small():
    t = np.linspace(-3, 3, 101)
    assert len(plots.activation(t, np.sin(t * np.linspace(1, 3, 256)[:, None]))) < 150_000


def test_an_unwritable_page_leaves_the_old_one(tmp_path, monkeypatch):
    out = tmp_path / "r.html"
    out.write_text("old")
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        write_report([run()], out, "t")
    assert out.read_text() == "old"
