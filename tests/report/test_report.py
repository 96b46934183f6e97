import re
from html.parser import HTMLParser

import numpy as np

from allukan.report import HEADINGS, Activation, Overlay, RunReport, write_report
from allukan.scores import METRICS, summarise


def run(name="<script>alert(1)</script>"):
    rows = [
        {"class": "a", "group": str(i), **dict.fromkeys(METRICS, 0.5), "dice": 0.6, "hd95": 3.0, "status": "ok"} for i in range(4)
    ]
    mask = np.zeros((1, 20, 30), bool)
    mask[0, 5:9, 5:9] = True
    image = np.zeros((20, 30), np.uint8)
    history = [{"epoch": e, "train_loss": 1 / e, "val_dice": 0.5} for e in (1.0, 2.0)]
    t = np.linspace(-3, 3, 20)
    return RunReport(
        name,
        history,
        {**summarise(rows), "distance_unit": "pixel"},
        [Overlay("case <7>", "worst", image, mask, ~mask & False, 0.0)],
        [Activation("encoder.0", t, np.stack([t, t**2]))],
        {"model": "allukan-tiny"},
    )


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href")]
        assert tag != "script"


def test_the_page_is_one_file_and_escapes_what_users_wrote(tmp_path):
    page = write_report([run(), run("second")], tmp_path / "deep" / "r.html", "A & B").read_text()
    links = Links()
    links.feed(page)
    assert links.found
    assert all(link.startswith("data:") for link in links.found)
    for text in ("A &amp; B", "case &lt;7&gt;", "encoder.0", "second", "0.600", "3.0 pixel", "4 ok"):
        assert text in page
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["r.html"]


def test_every_metric_has_a_heading():
    assert set(HEADINGS) == set(METRICS)


def test_a_class_of_the_name_that_all_have_is_a_row_of_its_own(tmp_path):
    rows = [
        {"class": name, "group": "g", **dict.fromkeys(METRICS, score), "status": "ok"}
        for name, score in (("all", 0.25), ("b<i>", 0.75))
    ]
    shown = RunReport("run", [], {**summarise(rows), "distance_unit": "pixel"}, [], [], {})
    page = write_report([shown], tmp_path / "r.html", "t").read_text(encoding="utf-8")
    scores = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", page)]
    found = {(row[1], row[3].partition("<")[0]) for row in scores if len(row) == 4 + len(METRICS)}
    assert {("all", "0.500"), ("all", "0.250"), ("b&lt;i&gt;", "0.750")} <= found
