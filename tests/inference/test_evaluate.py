"""Evaluation end to end: the masks of the predictor scored again by scikit-learn and MONAI, and their means by numpy."""

import csv
import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
import yaml
from monai.metrics import HausdorffDistanceMetric, SurfaceDiceMetric
from PIL import Image
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score

from allukan.data import Splits
from allukan.inference import Predictor, evaluate, open_run
from allukan.inference.state import weights_digest
from allukan.models import ModelCard, save_model

SIDE = 32
IDS = tuple(f"c{i}" for i in range(7))
CARD = ModelCard("convtwin-tiny", 1, ("dark", "bright"), "multiclass", (SIDE, SIDE), (0.0,), (1.0,), label_values=(1, 3))


class Levels(torch.nn.Module):
    """Logits of background and two classes from the brightness alone."""

    def forward(self, x):
        return torch.cat([torch.full_like(x, 0.5), 2 * (0.5 - x), 2 * (x - 0.5)], 1)


def drawn(random, kind):
    """Image and label map ``(40, 56)``; the truth is noisy, and of some images lacks a class, as may the image."""
    image = np.full((40, 56), 128, np.uint8)
    image[4:20, 6:30], image[22:36, 30:50] = 20, 230
    labels = np.zeros_like(image)
    top, left = random.integers(0, 6, 2)
    labels[4 + top : 20, 6:30], labels[22:36, 30 + left : 52] = 1, 3
    labels[12, 30:44] = 1  # a spike: the largest distance is not that of 95 %
    if kind == 1:  # missed: the truth holds what the image does not show
        image[image > 128] = 128
    elif kind == 2:  # a false alarm
        labels[labels == 3] = 0
    elif kind == 3:  # rightly nothing
        image[image > 128], labels[labels == 3] = 128, 0
    elif kind == 4:  # wrong where nothing counts
        image[:, 52:], labels[:, 52:] = 20, 255
    return image, labels


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a training that never took place, its data beside it."""
    root, random = tmp_path_factory.mktemp("evaluated"), np.random.default_rng(0)
    for name, kind in zip(IDS, (0, 1, 2, 3, 4, 0, 0), strict=True):
        for folder, array in zip(("images", "masks"), drawn(random, kind), strict=True):
            (root / "data" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / "data" / folder / f"{name}.png")
    (root / "data/groups.csv").write_text("id,patient\n" + "".join(f"{name},{i // 2}\n" for i, name in enumerate(IDS)))
    folder = root / "run"
    save_model(folder / "model", CARD.build(), CARD)
    config = {"data": str(root / "data"), "ignore": 255, "foreground": False, "groups": str(root / "data/groups.csv")}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    Splits("clean", 0, IDS[5:6], IDS[6:], IDS[:5]).save(folder / "splits.json")
    (folder / "history.csv").write_text("epoch,val_iou_pooled\n" + "".join(f"{i},{i / 100}\n" for i in range(60)))
    return folder


@pytest.fixture
def predictor(run):
    """One that knows brightness only, so that its masks are known."""
    found = Predictor(run / "model", "cpu", mode="sliding")
    found._network = Levels()
    return found


def case(run, name):
    data = run.parent / "data"
    return tuple(np.asarray(Image.open(data / folder / f"{name}.png")) for folder in ("images", "masks"))


def scored(predicted, truth, spacing=(1.0, 1.0)):
    """The scores of one class of one case, by the rules for empty masks, and its areas."""
    counts = confusion_matrix(truth.ravel(), predicted.ravel(), labels=[False, True])
    areas = {"truth_pixels": counts[1].sum(), "predicted_pixels": counts[:, 1].sum(), "common_pixels": counts[1, 1]}
    if not predicted.any() and not truth.any():
        return {"status": "both_empty", "iou": 1.0, "dice": 1.0, "hd95": 0.0, "surface_dice": 1.0, **areas}
    if not predicted.any() or not truth.any():
        diagonal = math.hypot(*(n * s for n, s in zip(truth.shape, spacing, strict=True)))
        failed = {"iou": 0, "dice": 0, "hd95": diagonal, "surface_dice": 0}
        return {"status": "missed" if truth.any() else "false_alarm", **failed, **areas}
    flat, pair = (truth.ravel(), predicted.ravel()), [torch.from_numpy(m)[None, None] for m in (predicted, truth)]
    distance = HausdorffDistanceMetric(include_background=True, percentile=95)(*pair, spacing=list(spacing)).item()
    surface = SurfaceDiceMetric([2.0], include_background=True)(*pair, spacing=list(spacing)).item()
    overlap = {"iou": jaccard_score(*flat), "dice": f1_score(*flat)}
    return {"status": "ok", **overlap, "hd95": distance, "surface_dice": surface, **areas}


def rows_of(run, names, spacing=(1.0, 1.0)):
    """What ``cases.csv`` must hold, from the brightness of the images and their label maps."""
    rows = []
    for name in names:
        image, labels = case(run, name)
        counts = labels != 255
        for label, value, found in (("dark", 1, image < 64), ("bright", 3, image > 192)):
            rows.append({"id": name, "class": label, **scored(found & counts, labels == value, spacing)})
    return rows


def same(found, wanted):
    assert len(found) == len(wanted)
    for mine, theirs in zip(found, wanted, strict=True):
        assert [mine[k] for k in ("id", "class", "status")] == [theirs[k] for k in ("id", "class", "status")]
        for metric in ("iou", "dice", "hd95", "surface_dice", "truth_pixels", "predicted_pixels", "common_pixels"):
            assert float(mine[metric]) == pytest.approx(theirs[metric], abs=1e-6), (metric, theirs)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # MONAI warns of an argument that it passes to itself
@pytest.mark.parametrize("spacing", [None, (0.5, 2.0)])
def test_every_case_is_scored_as_others_score_it(run, predictor, tmp_path, spacing):
    summary = evaluate(open_run(run), predictor=predictor, out=tmp_path / "out", spacing_mm=spacing)
    with open(tmp_path / "out/cases.csv", newline="") as file:
        found = list(csv.DictReader(file))
    wanted = rows_of(run, IDS[:5], spacing or (1.0, 1.0))
    same(found, wanted)
    assert [row["group"] for row in found] == [str(i // 2) for i in range(5) for _ in range(2)]
    assert {row["status"] for row in wanted} == {"ok", "missed", "false_alarm", "both_empty"}
    assert (summary["distance_unit"], summary["subset"]) == ("mm" if spacing else "pixel", "test")
    assert (summary["mode"], summary["tta"]) == ("sliding", False)
    assert json.loads((tmp_path / "out/summary.json").read_text()) == json.loads(json.dumps(summary))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("subset", "names"), [("test", IDS[:5]), ("val", IDS[6:]), ("train", IDS[5:6]), ("all", IDS)])
def test_the_summary_is_the_mean_of_the_cases(run, predictor, tmp_path, subset, names):
    summary = evaluate(open_run(run), subset=subset, predictor=predictor, out=tmp_path / "out")
    rows = rows_of(run, names)
    parts = {"overall": rows, **{c: [row for row in rows if row["class"] == c] for c in CARD.classes}}
    for part, of in parts.items():
        figures = summary["overall"] if part == "overall" else summary["classes"][part]
        assert figures["cases"] == len(of)
        assert figures["groups"] == len({IDS.index(row["id"]) // 2 for row in of})
        assert figures["status"] == Counter(row["status"] for row in of)
        for metric in ("iou", "dice", "hd95", "surface_dice"):
            values = [row[metric] for row in of]
            assert figures[metric]["mean"] == pytest.approx(np.mean(values), abs=1e-6)
            assert figures[metric]["median"] == pytest.approx(np.median(values), abs=1e-6)
            assert figures[metric]["low"] <= figures[metric]["mean"] <= figures[metric]["high"]
        pooled = Counter()
        for row in of:
            for area in ("truth_pixels", "predicted_pixels", "common_pixels"):
                pooled[IDS.index(row["id"]) // 2, row["class"], area] += row[area]
        dice = [
            2 * pooled[group, label, "common_pixels"] / total
            if (total := pooled[group, label, "truth_pixels"] + pooled[group, label, "predicted_pixels"])
            else 1.0
            for group, label in {key[:2] for key in pooled}
        ]
        assert figures["group_dice"]["mean"] == pytest.approx(np.mean(dice))
    assert summary["seen_in_training"] == len({*names} & {*IDS[5:]})


def test_the_figures_of_ukan_are_pooled_and_those_of_the_last_epochs(run, predictor, tmp_path):
    """Over one batch at the size of the network; intersection and union of all images and classes together."""
    splits = Splits("ukan", 0, IDS[5:6], IDS[:5], IDS[:5])
    opened = open_run(run)
    summary = evaluate(type(opened)(run, opened.config, splits), predictor=predictor, out=tmp_path / "out")
    both = either = 1e-5
    for name in IDS[:5]:
        image, labels = (
            np.asarray(Image.fromarray(array).resize((SIDE, SIDE), method))
            for array, method in zip(case(run, name), (Image.BILINEAR, Image.NEAREST), strict=True)
        )
        level, counts = image / 255, labels != 255
        found = np.stack([(2 * (0.5 - level) > 0.5), (2 * (level - 0.5) > 0.5)]) & counts
        truth = np.stack([labels == 1, labels == 3])
        both, either = both + (found & truth).sum(), either + (found | truth).sum()
    iou = both / either
    assert 0.5 < iou < 0.95
    assert summary["ukan"]["iou_pooled"] == pytest.approx(iou, rel=1e-9)
    assert summary["ukan"]["dice_pooled"] == pytest.approx(2 * iou / (1 + iou), rel=1e-9)
    assert summary["ukan"]["iou_pooled_mean_of_last_50_epochs"] == pytest.approx(np.arange(10, 60).mean() / 100)


def test_the_figures_of_ukan_are_of_batches_as_the_validation_has_them(run, predictor, tmp_path):
    splits, opened = Splits("ukan", 0, IDS[5:6], IDS[:5], IDS[:5]), open_run(run)
    found = [
        evaluate(type(opened)(run, opened.config | {"batch_size": size}, splits), predictor=predictor, out=tmp_path / str(size))
        for size in (2, 8)
    ]
    assert found[0]["ukan"]["iou_pooled"] != found[1]["ukan"]["iou_pooled"]


def test_the_summary_says_of_which_weights_it_is(run, predictor, tmp_path):
    summary = evaluate(open_run(run), predictor=predictor, out=tmp_path / "out")
    assert summary["weights"] == weights_digest(run) != ""
