"""The page on runs as ``evaluate`` left them: its numbers are those of the files, whatever the model and its images."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from allukan.data import Splits, open_dataset, write_phantoms
from allukan.files import read_json, read_table, write_json, write_table
from allukan.inference import Evaluated, Predictor, evaluate, open_run, report
from allukan.inference.picturing import SLICES, picture_of
from allukan.models import ModelCard, save_model
from allukan.training import TrainConfig
from tests.report.pages import Page
from tests.volume_sets import blobs


def untrained(root, data, size, parts, **card):
    """A run that never learned, evaluated: what it says is wrong, and known all the same."""
    dataset = open_dataset(data)
    ids, (train, val) = dataset.ids, parts
    channels = 1 if dataset.spatial_dims == 3 else 3
    card = ModelCard(
        "convtwin-tiny",
        channels,
        dataset.classes,
        dataset.target,
        size,
        (0.3,) * channels,
        (0.2,) * channels,
        spatial_dims=dataset.spatial_dims,
        label_values=dataset.label_values,
        **card,
    )
    save_model(root / "model", card.build(), card)
    TrainConfig(str(data), str(root), model=card.model, size=size, epochs=1, batch_size=8).save(root / "config.yaml")
    Splits("clean", 0, ids[:train], ids[train : train + val], ids[train + val :]).save(root / "splits.json")
    write_table(root / "history.csv", [{"epoch": 1, "train_loss": 1.5, "val_loss": 1.25, "val_dice": 0.125, "seconds": 2.5}])
    evaluate(open_run(root), predictor=Predictor(root / "model", "cpu"))
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two classes that overlap, a folder each; the third test image has neither."""
    root = tmp_path_factory.mktemp("pictures")
    write_phantoms(root / "data", count=10, size=32, seed=1)
    (root / "data/masks/1").mkdir()
    for path in sorted((root / "data/masks/0").iterdir()):
        mask = np.asarray(Image.open(path)) * (path.stem != "phantom_08")
        Image.fromarray(mask).save(path)
        Image.fromarray(mask[::-1].copy()).save(path.parent.parent / "1" / path.name)
    return untrained(root / "run", root / "data", (32, 32), (4, 2))


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    root = tmp_path_factory.mktemp("volumes")
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    blobs(root / "data", 5, affine=affine)
    return untrained(root / "run", root / "data", (16, 16, 16), (2, 1), normalisation="image", spacing_mm=(2.0, 1.0, 1.0))


def read(run, out):
    return Page(report([open_run(run)], out / "r.html", "t", "cpu").read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", ["pictures", "volumes"])
def test_every_number_is_that_of_the_files(request, tmp_path, kind):
    run = request.getfixturevalue(kind)
    found = read(run, tmp_path)
    header, *rows = found.cells()
    assert header[1] == "class"
    expected = sorted(
        (row["id"], row["class"], *(f"{float(row[n]):.3f}" for n in ("dice", "iou")), f"{float(row['hd95']):.1f}")
        for row in read_table(run / "evaluation/cases.csv")
    )
    assert sorted((row[0], row[1], *row[3:6]) for row in rows) == expected
    dice = read_json(run / "evaluation/summary.json")["overall"]["dice"]
    (answer,) = found.all("p", class_="answer")
    assert [float(n) for n in re.findall(r"\d\.\d+", answer["text"])] == pytest.approx(
        [dice[key] for key in ("mean", "low", "high")], abs=5e-4
    )
    cases = {row["id"] for row in read_table(run / "evaluation/cases.csv")}
    assert {element["text"].strip().split("\n")[0] for element in found.all("article")} == cases
    assert (tmp_path / "r.html").stat().st_size < 3_000_000


def test_other_images_are_reported_where_those_of_the_training_are_gone(pictures, tmp_path):
    run = shutil.copytree(pictures, tmp_path / "run")
    data = shutil.copytree(pictures.parent / "data", tmp_path / "other")
    evaluate(open_run(run), data, predictor=Predictor(run / "model", "cpu"), out=tmp_path / "scores")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace(str(pictures.parent / "data"), "/nowhere/clinic"))
    out = report([Evaluated.of(run, tmp_path / "scores")], tmp_path / "r.html", "t", "cpu")
    found = Page(out.read_text(encoding="utf-8"))
    assert "was trained on 4 images of clinic to outline" in found.text
    assert "clinic: 4 images to train on" in found.text
    assert not found.all("div", class_="examples")


def test_a_training_on_one_of_several_lists_is_reported_by_the_name_of_their_folder(pictures, tmp_path):
    data = tmp_path / "clinic"
    shutil.copytree(pictures.parent / "data/images", data / "images")
    shutil.copytree(pictures.parent / "data/masks/0", data / "labels")
    names = sorted(path.name for path in (data / "images").iterdir())
    entries = [{"image": f"images/{name}", "label": f"labels/{name}"} for name in names]
    for name in ("one.json", "two.json"):
        write_json(data / name, {"training": entries, "labels": {"255": "lesion"}})
    run = untrained(tmp_path / "run", data / "one.json", (32, 32), (4, 2))
    found = read(run, tmp_path)
    assert "was trained on 4 images of clinic to outline lesion. Of 4 masks in test images: " in found.text


def test_the_picture_that_has_room_is_of_the_worst_case_of_the_table(pictures, tmp_path, monkeypatch):
    """A class that is rightly empty makes a missed one no better than others."""
    run = shutil.copytree(pictures, tmp_path / "run")
    rows = read_table(run / "evaluation/cases.csv")
    for row in rows:
        row |= {"status": "ok", "dice": "0.7"}
    rows[2] |= {"status": "missed", "dice": "0.0"}
    rows[3] |= {"status": "both_empty", "dice": "1.0"}
    write_table(run / "evaluation/cases.csv", rows)
    monkeypatch.setattr("allukan.inference.reporting.ROOM", 1)
    found = read(run, tmp_path)
    assert rows[2]["id"] == rows[3]["id"] == found.cells()[1][0]
    assert [element["text"].strip().split("\n")[0] for element in found.all("article")] == [rows[2]["id"]]


def test_the_threshold_curve_meets_the_scores_at_the_threshold_in_use(pictures, tmp_path):
    found = read(pictures, tmp_path)
    lines = [e for e in found.all("polyline") if len(e["points"].split()) == 100]
    classes = read_json(pictures / "evaluation/summary.json")["classes"]
    assert len(lines) == len(classes) == 2
    for line, figures in zip(lines, classes.values(), strict=True):
        height = float(line["points"].split()[50].split(",")[1])
        assert (224 - height) / 204 == pytest.approx(figures["dice"]["mean"], abs=0.001)


def test_volumes_have_three_planes_sizes_in_ml_and_no_threshold(volumes, tmp_path):
    found = read(volumes, tmp_path)
    assert "truth (ml)" in found.cells()[0]
    assert "decides by the most probable" in found.text
    assert "in use" not in found.text
    cases = len(found.all("article"))
    assert len(found.all("input", type="range")) == 3 * (cases + 2)  # and two examples
    assert any(e["aria-label"].endswith(", sagittal") for e in found.all("div", role="img"))


def test_planes_show_the_body_upright_whatever_the_file_has(tmp_path):
    """The head up, the front up in axial slices, the patient's left on the right, voxels as large as they are."""
    from allukan.data.volumes import Geometry
    from allukan.data.volumes import Image as Volume

    turned = np.zeros((1, 12, 10, 8), np.float32)  # axes towards left, head, front
    turned[0, 8:, :, :] = 1.0
    turned[0, :, 6:, :] = 2.0
    affine = np.array([[1.0, 0, 0, 0], [0, 0, -1.5, 0], [0, 3.0, 0, 0], [0, 0, 0, 1]])
    volume = Volume(turned, Geometry.from_affine(affine, (12, 10, 8)))
    assert volume.geometry.orientation == "LSA"
    truth = np.zeros((1, 12, 10, 8), bool)
    truth[0, 9:, 7:, 5:] = True  # left, head, front
    axial, coronal, sagittal = picture_of(volume, truth, truth & False).planes
    sizes = [(p.width // 4, p.height // 4, round(p.stretch, 2)) for p in (axial, coronal, sagittal)]
    assert sizes == [(12, 8, 1.5), (12, 10, 3.0), (8, 10, 2.0)]
    assert all(1 <= len(p.slices) <= SLICES for p in (axial, coronal, sagittal))

    def centre(plane):
        first = re.match(r"M(\d+) (\d+)l([^z]*)z", plane.slices[0].missed)
        steps = np.array([int(n) for n in re.findall(r"-?\d+", first[3])]).reshape(-1, 2)
        corners = np.array([int(first[1]), int(first[2])]) + np.cumsum(steps, 0)
        return corners.mean(0) / (plane.width, plane.height)

    assert (centre(axial) > [0.5, 0]).all()
    assert centre(axial)[1] < 0.5
    assert centre(coronal)[0] > 0.5
    assert centre(coronal)[1] < 0.5
    assert (centre(sagittal) < 0.5).all()


def test_a_lesion_between_the_pixels_of_a_picture_is_shown():
    truth = np.zeros((1, 1024, 512), bool)
    truth[0, 400:402, 200:202] = truth[0, 1023, 511] = True
    truth[0, 800:900, 100:200] = True
    ((shown,),) = (plane.slices for plane in picture_of(np.zeros((1024, 512, 1), np.uint8), truth, truth & False).planes)
    assert shown.truth == (shown.missed,)
    starts = [[int(n) for n in start] for start in re.findall(r"M(\d+) (\d+)", shown.missed)]
    assert len(starts) == 3
    assert any(abs(x - 200) <= 4 and abs(y - 400) <= 4 for x, y in starts)


def test_pictures_stop_where_there_is_no_more_room(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("allukan.inference.reporting.ROOM", 2500)
    found = read(pictures, tmp_path)
    assert 1 <= len(found.all("article")) < 4
    assert "as many as keep this file small" in found.text
