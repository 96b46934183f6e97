"""What the page says, that no name can break it, and that it needs nothing but itself."""

import re

import pytest

from allukan.report import HEADINGS, Difference, Paired, Table, write_report
from allukan.scores import METRICS
from tests.report.pages import page, run, score, shown

BAD = "</td><script>alert('1')</script>\"<img src=x onerror=y>&amp;{{ 7 * 7 }}"


def test_nothing_is_asked_of_the_network(tmp_path):
    found = page(tmp_path, run(pictures={f"c{i}": shown() for i in range(5)}, examples=[("e", shown())]))
    for element in found.elements:
        for name in ("src", "href", "srcset", "action", "poster", "data", "xlink:href"):
            assert element.get(name, "#").startswith(("#", "data:")), element
    assert len(found.all("image")) == 5 + 3 + 1
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttp|WebSocket|import\(", text)
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_a_hundred_cases_with_pictures_stay_below_3_mb(tmp_path):
    names = [f"c{i}" for i in range(100)]
    one = run([score(name, i / 100) for i, name in enumerate(names)], pictures=dict.fromkeys(names, shown()))
    path = write_report([one], tmp_path / "r.html", "t")
    assert path.stat().st_size - sum(one.pictures[name].size for name in names) < 600_000  # pictures have room for 2.1 MB


def test_every_case_is_in_the_table_failures_first(tmp_path):
    scores = [
        score("good", 0.9),
        score("none", 1.0, status="both_empty"),
        score("gone", 0.0, status="missed"),
        score("bad", 0.25),
    ]
    rows = page(tmp_path, run(scores, pictures={"gone": shown()})).cells()
    assert rows[0][:6] == ["case", "outcome", "Dice", "IoU", "HD95 (pixel)", "surface Dice"]
    assert [row[:3] for row in rows[1:]] == [
        ["gone", "missed", "0.000"],
        ["bad", "outlined", "0.250"],
        ["good", "outlined", "0.900"],
        ["none", "both empty", "1.000"],
    ]


def test_the_first_screen_says_the_answer_and_the_worst(tmp_path):
    found = page(tmp_path, run([score(f"c{i}", 0.1 * i) for i in range(6)], summary={"notes": ["2 were seen."]}))
    (answer,) = found.all("p", class_="answer")
    assert "0.250" in answer["text"]
    first = found.all("section", class_="first")[0]["text"]
    for words in ("trained on 7 images of set to outline class 0", "6 masks", "2 were seen.", "Worst 3 cases"):
        assert words in first
    assert [element["text"].strip()[:2] for element in found.all("a", class_="case")] == ["c0", "c1", "c2"]


def test_a_case_is_reached_from_its_dot_from_the_table_and_without_a_picture_too(tmp_path):
    found = page(tmp_path, run([score("a", 0.1), score("b", 0.9)], pictures={"a": shown()}))
    places = {element["id"]: element["tag"] for element in found.elements if "id" in element}
    assert len(places) == sum("id" in element for element in found.elements)
    links = [element["href"] for element in found.all("a") if element.get("href", "").startswith("#case")]
    assert {places[link[1:]] for link in links} == {"article", "tr"}
    assert set(links) == {"#case-0", "#case-1"}
    titles = [element["text"] for element in found.all("title")]
    assert "a: Dice 0.100" in titles
    assert "b: Dice 0.900" in titles


def test_no_text_of_a_user_becomes_an_element(tmp_path):
    """In every place that takes text: nothing but our own elements is there, and it is read back as it was written."""
    scores = [score(BAD, 0.4, label) for label in (BAD, f"{BAD}2")]
    one = run(
        scores,
        BAD,
        BAD,
        model=BAD,
        summary={"notes": [BAD], "ukan": {"iou_pooled": 0.5, "dice_pooled": 0.6}},
        pictures={BAD: shown()},
        examples=[(BAD, shown())],
        facts={BAD: BAD},
        options=BAD,
        commands=[BAD],
    )
    table = Table(BAD, BAD, [BAD], [[BAD]])
    paired = Paired(BAD, BAD, BAD, False, [Difference(BAD, 0.1, -0.1, 0.2, 0.5)], [table])
    clean = page(tmp_path, run(scores=[score("c", 0.4, label) for label in ("a", "b")]))
    found = page(tmp_path, one, run(name="second"), title=BAD, paired=paired)
    assert len(found.all("script")) == len(clean.all("script")) == 1
    assert not found.all("img")
    assert not any("onerror" in element for element in found.elements)
    for tag in ("title", "h1", "td", "th", "li", "pre", "summary", "option", "figcaption", "text"):
        assert any(BAD[:50] in element["text"] for element in found.all(tag)), tag
    assert any(BAD in element.get("aria-label", "") for element in found.all("div"))


@pytest.mark.parametrize("name", ["_hidden", "a$b$^", "$\\frac{", "肝臓", "<b>&amp;", "{0}%s"])
def test_names_are_shown_as_they_are(tmp_path, name):
    assert page(tmp_path, run(name=name, data=name), title=name).text.count(name) >= 4


def test_what_a_run_lacks_is_said_in_lines(tmp_path):
    text = page(tmp_path, run([score("e", 1.0, status="both_empty", truth=float("nan"), predicted=float("nan"))])).text
    for line in (
        "No learning curves",
        "No case has anything to show",
        "No case has a picture",
        "no probabilities",
        "No sizes are known",
    ):
        assert line in text


def test_cases_without_room_for_a_picture_are_counted(tmp_path):
    assert "1 of 5 cases have a picture" in page(tmp_path, run(pictures={"c0": shown()})).text


def test_every_metric_has_a_heading():
    assert set(HEADINGS) == set(METRICS)


def test_several_classes_have_rows_and_strips_of_their_own_one_called_all_too(tmp_path):
    scores = [score("x", 0.25, "all"), score("x", 0.75, "b<i>")]
    found = page(tmp_path, run(scores))
    rows = [[cell["text"] for cell in found.all("td")][i : i + 3] for i in (0, 8, 16)]
    assert rows == [["plain", "all", "2"], ["plain", "all", "1"], ["plain", "b<i>", "1"]]
    assert {(row[1], row[3]) for row in found.cells()[1:]} == {("all", "0.250"), ("b<i>", "0.750")}
    assert [element["text"] for element in found.all("select", name="class")] == ["allallb<i>"]


def test_runs_side_by_side_share_cases_and_are_compared_in_words(tmp_path):
    runs = [run(name="a", pictures={"c0": shown()}), run([score(f"c{i}", 0.9) for i in range(5)], "b", pictures={"c0": shown(5)})]
    paired = Paired(
        "", "Dice", "a", False, [Difference("b", 0.5, 0.25, 0.75, 0.01)], [Table("Against a", "n", ["p"], [["0.01"]])]
    )
    found = page(tmp_path, *runs, paired=paired)
    assert "b against a: +0.500 Dice (95 % interval +0.250 … +0.750, p = 0.01): the interval leaves out 0." in found.text
    assert len(found.all("article")) == 1
    assert [row[1] for row in found.cells() if row[0] == "c0"] == ["a", "b"]
    assert "Against a" in found.text
    apart = page(tmp_path, run(data="one"), run(name="b", data="two"), paired=Paired("Not compared: other images."))
    assert len({row[0] for row in apart.cells()[1:]}) == 5
    assert "Not compared: other images." in apart.text


def test_a_difference_without_an_interval_says_nothing_about_0(tmp_path):
    nan = float("nan")
    paired = Paired("", "Dice", "a", False, [Difference("b", 0.5, nan, nan, nan)])
    found = page(tmp_path, run(name="a"), run(name="b"), paired=paired)
    assert "b against a: +0.500 Dice (all images are of one group: there is no interval)." in found.text
    assert "b +0.500." in [element.get("aria-label") for element in found.all("svg")]
    drawn = [str(value) for element in found.elements for name, value in element.items() if name != "text"]
    assert not any("nan" in value.lower() for value in drawn)


def test_units_are_beside_the_numbers_where_runs_differ_in_them(tmp_path):
    found = page(tmp_path, run(name="a"), run(name="b", data="other", size_unit="ml", summary={"distance_unit": "mm"}))
    header, *rows = found.cells()
    assert {"HD95", "truth"} <= set(header)
    assert {(row[1], row[5], row[7]) for row in rows} == {("a", "3.0 pixel", "120 pixels"), ("b", "3.0 mm", "120 ml")}
    titles = [element["text"] for element in found.all("figcaption")]
    assert titles.count("Dice by size of the truth") == 2


def test_cases_of_two_sets_of_one_name_are_not_taken_for_one(tmp_path):
    runs = [run(name=name, summary={"data": f"/{name}/set"}) for name in "ab"]
    found = page(tmp_path, *runs)
    assert len(found.all("tr", id="case-9")) == 1


def test_figures_of_the_ukan_protocol_are_named_where_there_are_some(tmp_path):
    runs = [run(name="a", summary={"protocol": "ukan", "ukan": {"iou_pooled": 0.6543, "dice_pooled": 0.79}}), run(name="b")]
    assert "a: IoU 0.654, Dice 0.790." in page(tmp_path, *runs).text
    assert "the epoch was chosen on these images" in page(tmp_path, runs[0]).text


def test_an_unwritable_page_leaves_the_old_one(tmp_path, monkeypatch):
    out = tmp_path / "r.html"
    out.write_text("old")
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        write_report([run()], out, "t")
    assert out.read_text() == "old"
