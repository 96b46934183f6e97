"""Runs to write pages on, and what a browser would see in one."""

from html.parser import HTMLParser

import numpy as np

from allukan.report import Paired, RunReport, Score, picture, write_report
from allukan.scores import METRICS, summarise

VOID = {"meta", "img", "br", "wbr", "link", "input", "path", "circle", "image", "polyline"}
METRIC = {**dict.fromkeys(METRICS, 0.5), "hd95": 3.0}


def score(case, dice, label="0", status="ok", truth=120.0, predicted=100.0):
    return Score(case, label, status, {**METRIC, "dice": dice}, truth, predicted)


def run(scores=None, name="plain", data="set", **given):
    """A report of made-up scores, the summary of which is that of ``summarise``."""
    scores = [score(f"c{i}", 0.2 * i) for i in range(5)] if scores is None else scores
    rows = [{"id": s.case, "class": s.label, "status": s.status, **s.metrics} for s in scores]
    summary = {**summarise(rows), "distance_unit": "pixel", **given.pop("summary", {})}
    classes = tuple(dict.fromkeys(s.label for s in scores))
    counts = {"train": 7, "val": 2, "test": len(rows)}
    return RunReport(name, given.pop("model", "allukan-tiny"), data, "images", classes, counts, summary, scores, **given)


def square(side=24, at=4, size=8):
    mask = np.zeros((1, side, side), bool)
    mask[0, at : at + size, at : at + size] = True
    return mask


def shown(at=6):
    """A picture of a square that was found a little off."""
    return picture(np.full((24, 24, 1), 90, np.uint8), square(), square(at=at))


class Page(HTMLParser):
    """Fails on an element that is closed in the wrong place; keeps elements with their text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "text": "", **dict(attrs)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append({"tag": tag, "text": "", **dict(attrs)})

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        self.text += data
        for element in self.open:
            element["text"] += data

    def all(self, tag, **wanted):
        """Elements of one kind whose attributes are as wanted; ``class_`` is one of its classes."""
        label = wanted.pop("class_", None)
        found = [e for e in self.elements if e["tag"] == tag and all(e.get(k) == v for k, v in wanted.items())]
        return [e for e in found if label is None or label in (e.get("class") or "").split()]

    def cells(self):
        """Rows of the table of cases."""
        place = next(i for i, e in enumerate(self.elements) if e.get("id") == "cases")
        end = next(i for i, e in enumerate(self.elements) if e.get("id") == "pictures")
        rows = []
        for element in self.elements[place:end]:
            if element["tag"] == "tr":
                rows.append([])
            elif element["tag"] in ("td", "th"):
                rows[-1].append(element["text"])
        return rows


def page(tmp_path, *runs, title="t", paired: Paired | None = None):
    return Page(write_report(runs, tmp_path / "r.html", title, paired).read_text(encoding="utf-8"))
