"""The split that a training uses is the user's own, it says so, and a resumed run keeps it."""

import json
import logging

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from allukan.cli.main import app
from allukan.data import Splits, write_phantoms
from allukan.errors import UserError
from allukan.inference import Predictor, evaluate, open_run
from allukan.training import TrainConfig, load_config, resume_config, train

GIVEN = {"data": "d", "out": "o"}
TINY = {"model": "allukan-tiny", "size": 32, "accelerator": "cpu", "devices": "1", "epochs": 1}


def config(data, out, **options):
    return TrainConfig(str(data), str(out), **TINY, **options)


@pytest.fixture
def data(tmp_path):
    write_phantoms(tmp_path / "data", count=12, size=32, seed=0)
    return tmp_path / "data"


def ids(data):
    return sorted(path.stem for path in (data / "images").iterdir())


def test_a_split_of_a_file_is_used_said_and_kept(data, tmp_path, caplog):
    names = ids(data)
    path = tmp_path / "mine.csv"
    rows = [f"{name};{part}" for name, part in zip(names, ["train"] * 6 + ["val"] * 2 + ["test"] * 3, strict=False)]
    path.write_text("\n".join(["id;split", *rows]))
    with caplog.at_level(logging.INFO, "allukan"):
        run = train(config(data, tmp_path / "run", splits=str(path)))
    splits = Splits.load(run / "splits.json")
    assert (splits.train, splits.val, splits.test) == (tuple(names[:6]), tuple(names[6:8]), tuple(names[8:11]))
    assert splits.origin == str(path)
    assert f"split: 6 train, 2 val, 3 test ({path})." in caplog.messages
    assert f"note: 1 images are in no part of {path}, as {names[11]!r}: they are not used." in caplog.messages
    summary = evaluate(open_run(run), predictor=Predictor(run / "model", "cpu"))
    assert summary["splits_from"] == str(path)
    assert [line.split(",")[0] for line in (run / "evaluation/cases.csv").read_text().split()[1:]] == names[8:11]
    before = (run / "splits.json").read_bytes()
    path.unlink()
    train(resume_config(run, {}), resume=True)
    assert (run / "splits.json").read_bytes() == before
    with pytest.raises(UserError, match="option splits is"):
        resume_config(run, {"splits": "other.csv"})


def test_without_test_images_evaluate_says_what_to_score(data, tmp_path):
    names = ids(data)
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps([{"train": names[:2], "val": names[2:3]}, {"train": names[4:8], "val": names[:2]}]))
    where = ["train", str(data), "--out", str(tmp_path / "run"), "--splits", str(path), "--fold", "1"]
    how = ["--size", "32", "--model", "allukan-tiny", "--epochs", "1", "--accelerator", "cpu", "--devices", "1"]
    result = CliRunner().invoke(app, [*where, *how])
    assert result.exit_code == 0, result.output
    assert f"Next: allukan evaluate {tmp_path / 'run'} --subset val" in result.stdout
    run = open_run(tmp_path / "run")
    assert (run.splits.train, run.splits.val, run.splits.test) == (tuple(names[4:8]), tuple(names[:2]), ())
    predictor = Predictor(run.folder / "model", "cpu")
    with pytest.raises(UserError, match="no test images in its split: say --subset val, whose scores are optimistic"):
        evaluate(run, predictor=predictor)
    assert evaluate(run, subset="val", predictor=predictor)["overall"]["cases"] == 2


def test_folders_of_parts_are_trained_and_tested_as_they_are(tmp_path):
    random = np.random.default_rng(0)

    def drawn():
        return {"images": random.integers(0, 255, (32, 32)), "masks/0": 255 * random.integers(0, 2, (32, 32))}

    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        for number in range(count):
            for folder, array in (
                ("images", random.integers(0, 255, (32, 32))),
                ("masks/0", 255 * random.integers(0, 2, (32, 32))),
            ):
                (tmp_path / "data" / part / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array.astype(np.uint8)).save(tmp_path / "data" / part / folder / f"{number}.png")
    run = train(config(tmp_path / "data", tmp_path / "run"))
    splits = Splits.load(run / "splits.json")
    assert splits.train == ("train/0", "train/1", "train/2", "train/3")
    assert (splits.val, splits.test) == (("val/0", "val/1"), ("test/0", "test/1", "test/2"))
    evaluate(open_run(run), predictor=Predictor(run / "model", "cpu"))
    rows = (run / "evaluation/cases.csv").read_text().split()
    assert [row.split(",")[0] for row in rows[1:]] == ["test/0", "test/1", "test/2"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"protocol": "ukan", "splits": "mine.csv"}, "the protocol ukan draws 80/20 as in the literature: leave splits out"),
        ({"protocol": "ukan", "fold": 0}, "leave fold out"),
        ({"fold": -1}, "option fold must be a whole number"),
        ({"fold": True}, "option fold must be a whole number"),
        ({"splits": 3}, "option splits must be the name of a file, or drawn, got 3"),
        ({"splits": ""}, "option splits must be the name of a file"),
    ],
)
def test_options_that_contradict_each_other(given, words):
    with pytest.raises(UserError, match=words):
        load_config(None, {**GIVEN, **given})


def test_the_literature_may_be_drawn():
    assert TrainConfig(**GIVEN, protocol="ukan", splits="drawn").splits == "drawn"
