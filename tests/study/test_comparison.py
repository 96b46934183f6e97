"""What ``compare`` says, against scipy, scikit-learn and by hand."""

import csv
import io
import json
import math
import re
import shutil
import unicodedata

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_ind, wilcoxon
from sklearn.metrics import f1_score

from allukan.errors import UserError
from allukan.scores import AREAS, METRICS, case_metrics, crossed_difference
from allukan.study import Interval, Spread, Table, compare, draw_forest, render

IMAGES = [f"i{number}" for number in range(24)]
CARD = {
    "model": "allukan-tiny",
    "in_channels": 3,
    "classes": ["x"],
    "target": "binary",
    "size": [32, 32],
    "mean": [0, 0, 0],
    "std": [1, 1, 1],
}


def write_run(folder, scores, *, data="a", protocol="clean", seed=0, ukan=None, areas=None):
    """An evaluated run as ``evaluate`` leaves it; two images are one patient. ``scores``: IoU by image, one or more classes.

    ``areas``: by image and class; without them it is a run of before there were any.
    """
    (folder / "evaluation").mkdir(parents=True)
    (folder / "model").mkdir()
    with (folder / "evaluation/cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "group", "class", *METRICS, "status", *(AREAS if areas else ())])
        writer.writeheader()
        for name, values in scores.items():
            for label, value in enumerate(np.atleast_1d(values)):
                row = {**dict.fromkeys(METRICS, value), "hd95": 10 * (1 - value), **(areas[name][label] if areas else {})}
                writer.writerow({"id": name, "group": f"p{int(name[1:]) // 2}", "class": label, "status": "ok", **row})
    summary = {"data": f"/somewhere/{data}", "protocol": protocol, "seed": seed, **({"ukan": ukan} if ukan else {})}
    (folder / "evaluation/summary.json").write_text(json.dumps(summary))
    (folder / "model/config.json").write_text(json.dumps(CARD))
    (folder / "config.yaml").write_text("data: a\n")
    (folder / "finished.json").write_text("{}")
    return folder


def draw(seed, images=IMAGES, shift=0.0):
    return dict(zip(images, np.random.default_rng(seed).uniform(0.1, 0.8, len(images)) + shift, strict=True))


@pytest.fixture
def study(tmp_path):
    """Three models; each of two seeds has test images of its own, and eight that both have."""
    for seed, images in enumerate((IMAGES[:16], IMAGES[8:])):
        for model, shift in (("conv", 0.0), ("ka", 0.1), ("other", 0.001)):
            scores = draw(10 * seed + len(model), images, shift)
            write_run(tmp_path / "a/clean" / model / str(seed), scores, seed=seed)
    return tmp_path


def table(found, title):
    return next(t for t in found.tables if t.title.startswith(title))


def test_minutes_are_of_the_epochs_and_of_folds_of_one(study):
    for seed, folder in enumerate(sorted((study / "a/clean/ka").iterdir())):
        (folder / "history.csv").write_text(f"epoch,seconds\n1,{60 * (seed + 1)}\n2,30\n")
    for fold in range(2):
        scores = draw(fold, IMAGES[12 * fold : 12 * fold + 12])
        folder = write_run(study / f"a/clean/folds/0-fold-{fold}", scores)
        (folder / "config.yaml").write_text("data: a\nfolds: 2\n")
        (folder / "history.csv").write_text(f"epoch,seconds\n1,{120 * fold}\n")
    shutil.rmtree(study / "a/clean/conv/0"), shutil.rmtree(study / "a/clean/other/0"), shutil.rmtree(study / "a/clean/ka/0")
    found = {row[2]: row[4] for row in table(compare([study], against="ka"), "Scores").rows}
    assert found["ka"] == Spread(2.5, None)
    assert found["folds"] == Spread(1.0, None)
    assert math.isnan(found["conv"].mean)
    rows = table(compare([study], against="ka"), "Scores")
    assert "| – |" in render([rows], "markdown")
    assert "2.5" in render([rows], "latex")


def test_differences_are_over_seeds_and_patients(study):
    found = compare([study])
    assert found.reference == "conv"
    for difference, model in zip(found.differences, ("ka", "other"), strict=True):
        d = np.full((2, 24), np.nan)
        for seed, tested in enumerate((IMAGES[:16], IMAGES[8:])):
            shift = {"ka": 0.1, "other": 0.001}[model]
            ours, theirs = draw(10 * seed + len(model), tested, shift), draw(10 * seed + 4, tested)
            d[seed, [IMAGES.index(name) for name in tested]] = [ours[name] - theirs[name] for name in tested]
        crossed = crossed_difference(d, [i // 2 for i in range(24)])
        assert (difference.images, difference.groups, difference.crossed.seeds) == (24, 12, 2)
        assert difference.crossed.mean == pytest.approx((np.mean(d[0, :16]) + np.mean(d[1, 8:])) / 2)
        assert difference.crossed == crossed
        assert difference.images_alone == pytest.approx(wilcoxon(np.nanmean(d, axis=0).reshape(12, 2).mean(1)).pvalue)
    small, large = sorted(found.differences, key=lambda d: d.crossed.p)
    assert small.p_holm == pytest.approx(min(1, 2 * small.crossed.p))
    assert large.p_holm == pytest.approx(max(large.crossed.p, small.p_holm))


def test_the_table_has_both_standard_errors_and_the_trainings_that_half_a_point_needs(study):
    found = compare([study], detect=0.05)
    against, crossed = table(found, "Against"), found.differences[0].crossed
    row = dict(zip(against.columns, against.rows[0], strict=True))
    assert row["Δ IoU"] == Interval(crossed.mean, *crossed.interval)
    assert (row["± trainings, IoU"], row["± images, IoU"]) == (crossed.se_trainings, crossed.se_cases)
    assert (row["trainings needed"], row["p"]) == (crossed.seeds_needed(0.05), crossed.p)
    assert "show a difference of 0.05 with" in against.note
    assert "difference of 0.5 with" in table(compare([study], metric="hd95"), "Against").note
    for nothing in (0.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="number of trainings"):
            compare([study], detect=nothing)


def test_one_training_is_said_and_gets_no_p(tmp_path, study):
    found = compare([write_run(tmp_path / name, draw(i)) for i, name in enumerate("rs")])
    assert "Of one training the interval is over images alone" in table(found, "Against").note
    assert "Of one training" not in table(compare([study]), "Against").note
    [line] = [line for line in render(found.tables, "markdown").splitlines() if line.startswith("| a | clean | s | 1 |")]
    cells = [cell.strip() for cell in line.split("|")]
    assert [cells[number] for number in (8, 10, 11, 12)] == ["–"] * 4  # ± trainings, trainings needed and both p
    assert re.search(r"--\s+& \d\.\d+ & --\s+& --", render(found.tables, "latex"))
    assert "over images alone" in draw_forest(found, tmp_path / "f.svg").read_text()


def test_of_one_group_of_images_no_interval_is_made_up(tmp_path):
    found = compare([write_run(tmp_path / name, draw(i, IMAGES[:2])) for i, name in enumerate("rs")])
    mean = f"{found.differences[0].crossed.mean:+.3f}"
    assert f" | 1 | 2 | 1 | {mean} | " in render(found.tables, "markdown")
    assert f" & {mean} & " in render(found.tables, "latex")


def test_validation_images_of_a_trial_are_no_other_data_set(study):
    """``evaluate --subset val`` of one trial leaves its scores beside those of the test images."""
    run = study / "a/clean/ka/0"
    for subset in ("val", "train", "all"):
        shutil.copytree(run / "evaluation", run / f"evaluation-{subset}")
    assert {row[0] for row in table(compare([study]), "Scores").rows} == {"a"}
    (study / "study.json").write_text('{"data": {"a": {}}, "test_data": {"val": {}}}')
    assert {row[0] for row in table(compare([study]), "Scores").rows} == {"a", "a → val"}


def test_folds_of_one_seed_are_a_t_test_of_their_means(tmp_path):
    """Each has images of its own and here a gain of its own, so that nothing but their means counts."""
    means = []
    for fold in range(3):
        own = IMAGES[8 * fold : 8 * fold + 8]
        scores = {"ka": draw(fold, own, 0.1 * fold), "conv": draw(fold + 10, own)}
        for model, found in scores.items():
            run = write_run(tmp_path / f"a/clean/{model}/0-fold-{fold}", found)
            (run / "config.yaml").write_text("data: a\nfolds: 3\n")
        means.append(np.mean([scores["ka"][name] - scores["conv"][name] for name in own]))
    found, oracle = compare([tmp_path], "conv"), ttest_1samp(means, 0)
    [one] = found.differences
    assert (one.crossed.seeds, one.images) == (3, 24)
    assert one.p_holm == pytest.approx(oracle.pvalue)
    assert one.crossed.interval == pytest.approx(tuple(oracle.confidence_interval()))
    assert "over trainings and images" in draw_forest(found, tmp_path / "f.svg").read_text()


@pytest.mark.slow
def test_several_sets_together(tmp_path):
    """Without a spread over images it is Welch's test; cross evaluations and models that lack a set are no part of it."""
    shifts = {"a": [0.1, 0.2, 0.15], "b": [0.0, 0.3]}
    for data, of_seeds in shifts.items():
        for seed, shift in enumerate(of_seeds):
            for model, more in (("conv", 0.0), ("ka", shift), *([("only", 0.5)] if data == "a" else [])):
                folder = write_run(tmp_path / data / "clean" / model / str(seed), draw(seed, shift=more), data=data, seed=seed)
                shutil.copytree(folder / "evaluation", folder / "evaluation-else")
    found = compare([tmp_path], against="conv")
    *_, both = found.differences
    assert [d.data for d in found.differences if "all" in d.data] == ["all 2 sets"]
    assert (both.model, both.images, both.groups, both.crossed.seeds) == ("ka", 48, 24, 2)
    assert both.crossed.mean == pytest.approx(0.15)
    assert both.crossed.p == pytest.approx(ttest_ind(shifts["a"], -np.array(shifts["b"]), equal_var=False).pvalue)
    assert both.p_holm >= both.crossed.p


def test_group_dice_is_the_dice_of_the_volume(tmp_path):
    """Twelve volumes of two slices and two classes, against scikit-learn on whole volumes; a class may be nowhere."""
    rng = np.random.default_rng(0)
    truth = rng.random((24, 2, 6, 6)) > rng.choice([0.5, 1.0], (24, 2, 1, 1))
    truth[:2, 1] = False
    wanted = {}
    for name, level in (("r", 0.4), ("s", 0.9)):
        masks = truth & (rng.random(truth.shape) > 0.3) | (rng.random(truth.shape) > level)
        masks[:2, 1] = False
        rows = {image: case_metrics(*pair) for image, pair in zip(IMAGES, zip(masks, truth, strict=True), strict=True)}
        areas = {image: [{area: row[area] for area in AREAS} for row in of] for image, of in rows.items()}
        write_run(tmp_path / name, {image: [row["iou"] for row in of] for image, of in rows.items()}, areas=areas)
        volumes = [a.reshape(12, 2, 2, 36).transpose(0, 2, 1, 3).reshape(24, 72) for a in (truth, masks)]
        dice = [f1_score(*pair, zero_division=1.0) for pair in zip(*volumes, strict=True)]
        wanted[name] = np.reshape(dice, (12, 2)).mean(1)
    found = compare([tmp_path / "r", tmp_path / "s"], metric="group_dice")
    [difference] = found.differences
    assert difference.crossed.mean == pytest.approx((wanted["s"] - wanted["r"]).mean())
    assert difference.crossed.se_cases == pytest.approx((wanted["s"] - wanted["r"]).std(ddof=1) / 12**0.5)
    assert (difference.images, difference.groups) == (24, 12)
    assert table(found, "Scores").columns[-1] == "group Dice"
    assert [row[-1].mean for row in table(found, "Scores").rows] == pytest.approx([wanted["r"].mean(), wanted["s"].mean()])
    assert "group Dice" in draw_forest(found, tmp_path / "f.svg").read_text()


def test_areas_are_asked_for_where_an_older_version_wrote_none(study):
    with pytest.raises(
        UserError, match=r"a/clean/conv/0 was evaluated before .* truth_pixels.*: run allukan evaluate .* again\."
    ):
        compare([study], metric="group_dice")


def test_scores_are_means_over_images_and_their_spread_over_seeds(study):
    means = [np.mean(list(draw(10 * seed + 4, tested).values())) for seed, tested in enumerate((IMAGES[:16], IMAGES[8:]))]
    row = next(row for row in table(compare([study]), "Scores").rows if row[2] == "conv")
    assert row[3] > 10_000
    assert row[5] == 2
    assert row[6] == pytest.approx((np.mean(means), np.std(means, ddof=1)))


def test_the_reference_and_the_metric_can_be_chosen(study):
    base, turned = compare([study]), compare([study], against="ka")
    assert turned.differences[0].model == "conv"
    assert turned.differences[0].crossed.mean == pytest.approx(-base.differences[0].crossed.mean)
    distance = compare([study], metric="hd95")
    assert distance.differences[0].crossed.mean == pytest.approx(-10 * base.differences[0].crossed.mean)
    assert "below 0 is better" in table(distance, "Against").note


def test_classes_of_an_image_count_once(tmp_path):
    two = {name: (a, b) for (name, a), b in zip(draw(1).items(), draw(2).values(), strict=True)}
    write_run(tmp_path / "r", two)
    write_run(tmp_path / "s", dict.fromkeys(IMAGES, (0.0, 0.0)))
    [difference] = compare([tmp_path / "r", tmp_path / "s"], against="s").differences
    assert difference.images == 24
    assert difference.crossed.mean == pytest.approx(np.mean(list(two.values())))


def test_seeds_that_only_one_model_has_are_left_out(study):
    shutil.rmtree(study / "a/clean/ka/1")
    [difference, other] = compare([study]).differences
    assert (difference.crossed.seeds, difference.images, other.crossed.seeds) == (1, 16, 2)
    shutil.rmtree(study / "a/clean/conv/0")
    assert [d.model for d in compare([study], against="conv").differences] == ["other"]


def test_the_bias_of_choosing_the_epoch(tmp_path):
    for seed, (best, last) in enumerate(((0.7, 0.6), (0.8, 0.66))):
        figures = {"iou_pooled": best, "dice_pooled": best + 0.1, "iou_pooled_mean_of_last_50_epochs": last}
        write_run(tmp_path / f"a/ukan/ka/{seed}", draw(seed), protocol="ukan", seed=seed, ukan=figures)
    [row] = table(compare([tmp_path]), "Choosing").rows
    assert row[4:] == [
        pytest.approx((0.75, 0.05 * 2**0.5)),
        pytest.approx((0.85, 0.05 * 2**0.5)),
        pytest.approx((0.63, 0.03 * 2**0.5)),
        pytest.approx((0.12, 0.02 * 2**0.5)),
    ]


def test_unpaired_runs_are_refused_by_the_first_image(tmp_path, study):
    first = write_run(tmp_path / "one", draw(1))
    fewer = write_run(tmp_path / "two", draw(2, IMAGES[1:]))
    with pytest.raises(UserError, match=r"one was tested on image 'i0' and .*two was not"):
        compare([first, fewer])
    shutil.rmtree(study / "a/clean/ka/0")
    write_run(study / "a/clean/ka/0", draw(3, IMAGES[:15]))
    with pytest.raises(UserError, match="'i15'"):
        compare([study])


def test_what_cannot_be_compared(tmp_path, study):
    one = write_run(tmp_path / "one", draw(1))
    other = write_run(tmp_path / "ukan", draw(1), protocol="ukan")
    elsewhere = write_run(tmp_path / "elsewhere", draw(1), data="b")
    raw = tmp_path / "raw"
    raw.mkdir()
    for folders, options, word in [
        ([one], {}, "is one run"),
        ([raw], {}, "no evaluated run of a study"),
        ([one, raw], {}, "has not been evaluated"),
        ([one, other], {}, "by protocol clean"),
        ([one, elsewhere], {}, "tested on a by"),
        ([one, one], {}, "same folder name"),
        ([study], {"against": "unet"}, "'unet'"),
        ([study], {"metric": "auc"}, "'auc'"),
    ]:
        with pytest.raises(UserError, match=word):
            compare(folders, **options)


def test_scores_of_validation_are_none_of_the_test(tmp_path):
    folders = [write_run(tmp_path / name, draw(1)) for name in ("one", "other")]
    summary = folders[1] / "evaluation/summary.json"
    summary.write_text(json.dumps({**json.loads(summary.read_text()), "subset": "val"}))
    with pytest.raises(UserError, match=r"other.evaluation holds the scores of val images: run allukan evaluate .*other anew"):
        compare(folders)


def test_a_whole_study(done):
    found = compare([done], against="conv")
    assert [(row[0], row[1], row[2]) for row in table(found, "Scores").rows] == [
        (data, protocol, model) for data in ("a", "a → b") for protocol in ("clean", "ukan") for model in ("ka", "conv")
    ]
    assert {(d.data, d.protocol, d.images) for d in found.differences} >= {("a → b", "clean", 10), ("a → b", "ukan", 10)}
    assert [row[:3] for row in table(found, "Choosing").rows] == [["a", "ukan", "ka"], ["a", "ukan", "conv"]]


TABLE = Table(
    "A_b", "50 % & more", ("data", "protocol", "model", "parameters", "IoU", "Δ IoU", "trainings needed", "p"),
    [["d|e", "ukan", "a_b", 1234567, Spread(0.5, 0.01), Interval(0.25, -0.5, 0.75), math.inf, 0.00012]],
)  # fmt: skip


def test_markdown():
    text = render([TABLE], "markdown")
    assert "| d\\|e | ukan | a_b | 1,234,567 | 0.500 ± 0.010 | +0.250 [-0.500, +0.750] | ∞ | 0.00012 |" in text


def test_latex():
    text = render([TABLE], "latex")
    assert r"a\_b & 1,234,567 & 0.500 $\pm$ 0.010 & +0.250 [-0.500, +0.750] & $\infty$ & 0.00012 \\" in text
    assert r"\caption{A\_b. 50 \% \& more}" in text
    assert text.count(r"\begin") == text.count(r"\end") == 2


def test_csv_keeps_every_digit():
    rows = list(csv.DictReader(io.StringIO(render([TABLE], "csv"))))
    found = {row["quantity"]: row["value"] for row in rows}
    assert found == {
        "parameters": "1234567",
        "IoU": "0.5",
        "IoU sd": "0.01",
        "Δ IoU": "0.25",
        "Δ IoU low": "-0.5",
        "Δ IoU high": "0.75",
        "trainings needed": "inf",
        "p": "0.00012",
    }
    assert {row["model"] for row in rows} == {"a_b"}


def test_formats_and_figures_that_do_not_exist(study):
    with pytest.raises(UserError, match="'html'"):
        render([TABLE], "html")
    with pytest.raises(UserError, match=r"forest\.gif"):
        draw_forest(compare([study]), study / "forest.gif")
    shutil.rmtree(study / "a/clean/ka")
    shutil.rmtree(study / "a/clean/other")
    with pytest.raises(UserError, match="nothing was paired"):
        draw_forest(compare([study]), study / "forest.png")


def test_the_figure_shows_every_model(study):
    assert draw_forest(compare([study]), study / "forest.svg").read_text().count("<svg") == 1
    assert draw_forest(compare([study]), study / "forest.png").read_bytes()[1:4] == b"PNG"


def test_scores_of_an_older_version_are_to_be_made_again(tmp_path):
    runs = [write_run(tmp_path / name, draw(i)) for i, name in enumerate(("a", "b"))]
    table = runs[1] / "evaluation/cases.csv"
    table.write_text(table.read_text().replace("hd95", "hd100"))
    with pytest.raises(UserError, match=r"b/evaluation/cases\.csv holds no hd95: run allukan evaluate .*/b again\."):
        compare(runs)


HOSTILE = ["[b] a|b `c` *d* _e_ <f> x_y", "$1$ \\frac{", "100% & #1_2 ~^ <|>"]


def test_names_mean_nothing_to_markdown_latex_and_matplotlib(tmp_path):
    runs = [write_run(tmp_path / name, draw(i), data="[red] $x_1$") for i, name in enumerate(["ref", *HOSTILE])]
    found = compare(runs)
    rows = [line for line in render(found.tables, "markdown").splitlines() if line.startswith("| ")]
    bars = {len(re.findall(r"(?<!\\)\|", line)) for line in rows if "[red] $x_1$" in line}
    assert bars == {7 + len(METRICS), 14}  # no column more
    assert any(r"[b] a\|b \`c\` \*d\* \_e\_ \<f> x_y" in line for line in rows)
    assert any(r"$1$ \\frac{" in line for line in rows)
    text = render(found.tables, "latex")
    assert r"100\% \& \#1\_2 \textasciitilde{}\textasciicircum{} \textless{}\textbar{}\textgreater{}" in text
    assert r"\$1\$ \textbackslash{}frac\{" in text
    assert "\n{}[red] \\$x\\_1\\$" in text  # and not an option of the row before
    assert len(list(csv.DictReader(io.StringIO(render(found.tables, "csv"))))) > 20
    drawn = draw_forest(found, tmp_path / "f.svg")
    assert drawn.stat().st_size > 1000


def test_the_same_images_in_another_unicode_form_pair_up(tmp_path):
    names = {form: [f"i{n} {unicodedata.normalize(form, 'é')}" for n in range(8)] for form in ("NFC", "NFD")}
    for form, images in names.items():
        folder = write_run(tmp_path / form, draw(1, [f"i{n}" for n in range(8)], 0.1 * (form == "NFD")))
        text = (folder / "evaluation/cases.csv").read_text(encoding="utf-8")
        for number, image in enumerate(images):
            text = text.replace(f"\ni{number},", f"\n{image},")
        (folder / "evaluation/cases.csv").write_text(text, encoding="utf-8")
    (difference,) = compare([tmp_path / "NFC", tmp_path / "NFD"]).differences
    assert (difference.images, difference.crossed.mean) == (8, pytest.approx(0.1))


def area(truth):
    return [{"truth_pixels": truth, "predicted_pixels": 5, "common_pixels": 3}]


def rewrite(folder, **given):
    file = folder / "evaluation/summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | given))


def test_runs_that_were_scored_differently_are_not_paired(tmp_path):
    """In mm and in pixels, or against other masks of the same images."""
    names = IMAGES[:4]
    a, b = (write_run(tmp_path / name, draw(0, names), areas={i: area(7) for i in names}) for name in "ab")
    assert compare([a, b]).differences
    rewrite(a, distance_unit="mm")
    with pytest.raises(UserError, match=r"a has distances in mm and .*b in pixel: evaluate both alike"):
        compare([a, b])
    rewrite(a, distance_unit="pixel")
    c = write_run(tmp_path / "c", draw(0, names), areas={i: area(7 if i != "i2" else 8) for i in names})
    with pytest.raises(UserError, match=r"a and .*c were scored against other masks or classes of image 'i2'"):
        compare([a, c])


def test_scores_of_an_earlier_state_of_a_model_are_told(tmp_path):
    a, b = (write_run(tmp_path / name, draw(0, IMAGES[:4])) for name in "ab")
    (a / "model/model.safetensors").write_bytes(b"trained on")
    assert compare([a, b]).differences  # of a version that did not write it down
    rewrite(a, weights="0123456789abcdef")
    with pytest.raises(UserError, match=r"a/evaluation has scores of an earlier state of .*a, which was trained on"):
        compare([a, b])


def test_a_patient_called_as_an_image_counts_once(tmp_path):
    names = IMAGES[:8]
    runs = [write_run(tmp_path / name, draw(seed, names), areas={i: area(7) for i in names}) for seed, name in enumerate("ab")]
    for run in runs:
        for fold in range(2):
            (run / f"fold-{fold}").mkdir()
            (run / f"fold-{fold}/splits.json").write_text(json.dumps({"test": names[4 * fold : 4 * fold + 4]}))
    before = compare(runs).differences[0].crossed.mean
    for run in runs:
        file = run / "evaluation/cases.csv"
        file.write_text(file.read_text().replace(",p0,", ",i5,"))  # the patient of the first two images
    assert compare(runs).differences[0].crossed.mean == pytest.approx(before)
