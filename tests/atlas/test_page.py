"""The page by itself: whole, escaped, without anything from elsewhere, and readable without eyes or a mouse."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from allukan.atlas import Course, Shares, portrait, write_atlas
from allukan.nn import SplineActivation
from allukan.nn.histogram import collect_inputs

VOID = {"meta", "input", "br", "wbr", "path", "rect"}
EVIL = "</script><script>alert(1)</script>"


class Page(HTMLParser):
    """Fails on an element that is closed in the wrong place."""

    def __init__(self):
        super().__init__()
        self.open, self.elements, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def drawn(tmp_path):
    def draw(names=("encoder.0.a", "decoder.0.a", "head"), share=0.5, bend=0.25, course=None, note="over 3 validation images."):
        phi = SplineActivation()
        found = portrait(phi, collect_inputs(phi, [torch.randn(500)])[""])
        facts = {"kind": "KAConv2d", "sharing": "layer", "activations": 1, "bend": bend}
        facts |= {"outside": 0.01, "intervals": 5, "dead": 1}
        rows = [{"name": name, **facts, "ka_share": share} for name in names]
        shares = Shares() if share is None else Shares(70.0, 4.0)
        portraits = dict.fromkeys(names, found)
        path = tmp_path / "a.html"
        write_atlas(path, f"Atlas {EVIL}", rows, portraits, note=note, bend=bend, shares=shares, course=course)
        text = path.read_text(encoding="utf-8")
        page = Page()
        page.feed(text)
        assert page.open == []
        return page, text

    return draw


def test_it_loads_nothing_from_elsewhere(drawn):
    page, text = drawn()
    assert not {"src", "href", "action", "data"} & {name for _, attributes, _ in page.elements for name in attributes}
    assert not re.search(r"https?:|//[a-z]|@import|fetch\(|XMLHttp", text)
    assert set(re.findall(r"url\(([^)]*)\)", text)) == {"#hatch", "#plot"}


def test_names_are_text(drawn):
    course = Course([1, 2], [0.1, float("nan")], {EVIL: np.zeros((2, 81))})
    page, text = drawn(names=(EVIL,), course=course, note=f"because of {EVIL}")
    assert len([tag for tag, *_ in page.elements if tag == "script"]) == 2
    assert "<script>alert" not in text
    assert EVIL in page.text


def test_everything_has_words_and_can_be_reached_by_keyboard(drawn):
    page, _ = drawn()
    of = {tag: [attributes for found, attributes, _ in page.elements if found == tag] for tag in ("svg", "button", "html")}
    meta = [attributes.get("content") for tag, attributes, _ in page.elements if tag == "meta"]
    assert of["html"] == [{"lang": "en"}]
    assert "width=device-width, initial-scale=1" in meta
    assert all(attributes.get("aria-hidden") == "true" for attributes in of["svg"])  # their words are those of the button around
    labels = [attributes["aria-label"] for attributes in of["button"]]
    assert "head: bend 0.250, nearest to silu (0.0 % off), 1 of 5 grid cells dead, +0.50 points of Dice. Enlarge." in labels
    assert all(tag != "button" or attributes["type"] == "button" for tag, attributes, _ in page.elements)


def test_the_answer_is_in_words(drawn):
    page, _ = drawn()
    words = " ".join(page.text.split())
    assert "3 layers learned 3 activations. 3 of the 3 bend by 0.1 or more" in words
    assert "Dice falls from 70.0 to 66.0" in words
    assert "inspect RUN/model --atlas" not in words
    assert "After epoch" not in words


def test_a_layer_that_met_nothing_has_no_figures(drawn):
    page, text = drawn(bend=float("nan"))
    assert "bend unknown" in text
    assert "nan" not in page.text


def test_what_was_not_measured_is_said_with_what_to_do(drawn):
    page, _ = drawn(share=None)
    words = " ".join(page.text.split())
    assert "allukan inspect RUN/model --atlas" in words
    assert "Dice falls" not in words
    assert "points of Dice." not in words


def test_the_slider_has_the_curves_of_every_epoch_that_was_kept(drawn):
    phi = np.linspace(-1, 1, 81) * np.arange(60)[:, None]
    page, text = drawn(course=Course(range(1, 61), np.arange(60) / 100, {"head": phi}))
    course = json.loads(re.search(r'id="course">(.*?)</script>', text)[1])
    assert len(course["epochs"]) == 24
    assert (course["epochs"][0], course["epochs"][-1], course["bends"][-1]) == (1, 60, 0.59)
    assert [len(course["curves"]["head"]), len(course["curves"]["head"][0])] == [24, 81]
    assert ("max", "24") in [item for tag, attributes, _ in page.elements if tag == "input" for item in attributes.items()]
