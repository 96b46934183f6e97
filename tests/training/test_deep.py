"""Pictures of more than 8 bits: their values reach the network, and nothing else than their contrast decides."""

import json

import numpy as np
import pytest
import tifffile
import torch
import yaml
from PIL import Image

from allukan.data import Prepared, open_dataset, prepare, standardised, write_image
from allukan.errors import UserError
from allukan.files import read_table
from allukan.inference import Predictor, evaluate, find_images, open_run, predict_files
from allukan.training import TrainConfig, train
from tests.volume_sets import blob

SIDE, COUNT = 32, 12
AUGMENT = "affine,intensity"


def bodies():
    """Bodies in noise of 52 levels, all with the same histogram: one picture, moved."""
    image, labels = blob(np.random.default_rng(5), (3, SIDE, SIDE))
    low, high = image[1].min(), image[1].max()
    levels = np.rint((image[1] - low) / (high - low) * 51).astype(np.uint8)
    moves = np.random.default_rng(6).integers(0, SIDE, (COUNT, 2))
    return [(np.roll(levels, move, (0, 1)), np.roll((labels[1] > 0).astype(np.uint8) * 255, move, (0, 1))) for move in moves]


def made(root, write, suffix):
    """A set whose images are what ``write`` makes of the levels."""
    for number, (levels, mask) in enumerate(bodies()):
        name = f"c{number:02d}"
        (root / "images").mkdir(parents=True, exist_ok=True)
        write(root / f"images/{name}{suffix}", levels)
        write_image(root / f"masks/{name}.png", mask)
    return root


def as_png16(path, levels):
    """A contrast of 204 among 65,536 levels."""
    Image.fromarray(30_000 + levels.astype(np.uint16) * 4).save(path)


def as_float(path, levels):
    tifffile.imwrite(path, levels.astype(np.float32) * 1e-3 - 3)


SETS = {
    "bytes": (lambda path, levels: write_image(path, levels * np.uint8(5)), ".png"),
    "png16": (as_png16, ".png"),
    "float": (as_float, ".tif"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same training on the same contrast: in bytes, in 204 levels of 16 bits, in floats around -3."""
    root = tmp_path_factory.mktemp("deep")
    for name, (write, suffix) in SETS.items():
        data = made(root / f"data-{name}", write, suffix)
        options = {"size": SIDE, "epochs": 6, "batch_size": 4, "accelerator": "cpu", "devices": "1", "lr": 3e-3}
        train(TrainConfig(str(data), str(root / name), model="convtwin-tiny", protocol="clean", augment=AUGMENT, **options))
    return root


@pytest.mark.parametrize("name", ["png16", "float"])
def test_a_contrast_of_few_levels_is_learned_like_the_stretched_bytes(runs, name):
    """One histogram in all images, so that a z-score of each and one of the set are the same."""
    splits = [json.loads((runs / run / "splits.json").read_text())["train"] for run in ("bytes", name)]
    assert splits[0] == splits[1]
    history = [read_table(runs / run / "history.csv") for run in ("bytes", name)]
    for score in ("train_loss", "val_loss"):
        curves = [[float(row[score]) for row in rows] for rows in history]
        assert curves[1] == pytest.approx(curves[0], rel=2e-3)
        assert curves[0][0] != pytest.approx(curves[0][-1], rel=0.05)  # it learned something
    models = {run: Predictor(runs / run / "model", "cpu") for run in ("bytes", name)}
    (seen,) = {model.card.normalisation for run, model in models.items() if run == name}
    assert (seen, models["bytes"].card.normalisation) == ("image", "training")
    found = {}
    for run, model in models.items():
        (path,) = (runs / f"data-{run}" / "images").glob("c03.*")
        found[run] = model(path).probabilities
    assert found["bytes"].std() > 0.01
    assert np.abs(found[name] - found["bytes"]).max() < 5e-3


def test_what_is_written_says_how_values_are_normalised(runs):
    card = json.loads((runs / "png16/model/config.json").read_text())
    assert (card["normalisation"], card["intensities"], card["mean"], card["std"]) == ("image", [None], [0.0], [1.0])
    assert yaml.safe_load((runs / "png16/config.yaml").read_text())["intensities"] == ["image"]
    assert yaml.safe_load((runs / "bytes/config.yaml").read_text())["intensities"] == []


def test_predict_and_evaluate_keep_the_values_as_well(runs, tmp_path, caplog):
    """A picture far above the others and one in bytes give the same mask; nothing is said to be scaled."""
    predictor, levels = Predictor(runs / "png16/model", "cpu"), bodies()[3][0]
    for name, values in (("near", 30_000 + levels.astype(np.uint16) * 4), ("far", 60_000 + levels.astype(np.uint16) * 9)):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    Image.fromarray(levels).save(tmp_path / "bytes.png")
    with caplog.at_level("WARNING", "allukan"):
        *_, outcome = predict_files(predictor, find_images([tmp_path], predictor.card), tmp_path / "out")
    assert (outcome.failed, len(outcome.done), caplog.messages) == ([], 3, [])
    masks = [np.asarray(Image.open(tmp_path / f"out/masks/{name}.png")) for name in ("near", "far", "bytes")]
    assert (masks[0] == masks[1]).mean() > 0.999
    assert (masks[0] == masks[2]).mean() > 0.999
    overlay = np.asarray(Image.open(tmp_path / "out/overlays/near.png"))
    assert overlay.dtype == np.uint8
    assert np.ptp(overlay) > 200  # stretched for people
    array = 30_000 + levels.astype(np.uint16) * 4
    assert np.allclose(predictor(array[..., None]).probabilities, predictor(tmp_path / "near.png").probabilities)
    with pytest.raises(UserError, match="finite numbers"):
        predictor(np.full((40, 40), np.nan))
    summary = evaluate(open_run(runs / "png16"), predictor=predictor, out=tmp_path / "scores")
    assert summary["overall"]["cases"] > 0
    bytes_summary = evaluate(open_run(runs / "bytes"), predictor=Predictor(runs / "bytes/model", "cpu"), out=tmp_path / "b")
    assert summary["overall"]["dice"]["mean"] == pytest.approx(bytes_summary["overall"]["dice"]["mean"], abs=0.02)


def test_prepared_holds_every_level(tmp_path):
    """4,096 levels and one hot pixel, by which bytes of the file keep a few dozen of them."""
    ramp = (1000 + np.arange(4096).reshape(64, 64)).astype(np.uint16)
    ramp[0, 0] = 65_535
    (tmp_path / "images").mkdir()
    Image.fromarray(ramp).save(tmp_path / "images/a.png")
    write_image(tmp_path / "masks/a.png", np.pad(np.full((20, 20), 255, np.uint8), 22))
    data = open_dataset(tmp_path)
    found = prepare(data, data.cases, channels=(1,), intensities=())
    assert found.images.dtype == torch.float32
    assert len(found.images.unique()) == 4096
    values = ramp.astype(float)
    assert np.allclose(found.images[0, 0].numpy(), (values - values.mean()) / values.std(), atol=1e-6)
    assert isinstance(found, Prepared)
    assert prepare(data, data.cases, channels=(1,)).images.dtype == torch.uint8
    half = prepare(data, data.cases, (32, 32), (1,), ())
    assert half.images.mean().item() == pytest.approx(0, abs=0.01)


def test_thirty_two_bits_lose_no_contrast():
    values = (2**31 + np.arange(64).reshape(8, 8, 1)).astype(np.uint32)
    found = standardised(values)
    assert np.allclose(found[..., 0].ravel(), (np.arange(64) - 31.5) / np.arange(64).std(), atol=1e-6)


def test_a_set_of_8_and_16_bits_is_taken_alike_and_said(tmp_path, caplog):
    data = made(tmp_path / "data", lambda path, levels: write_image(path, levels * np.uint8(5)), ".png")
    as_png16(data / "images/c00.png", bodies()[0][0])
    options = {"size": SIDE, "epochs": 1, "batch_size": 4, "accelerator": "cpu", "devices": "1", "model": "convtwin-tiny"}
    with caplog.at_level("INFO", "allukan"):
        run = train(TrainConfig(str(data), str(tmp_path / "run"), **options))
    said = next(message for message in caplog.messages if "more than 8 bits" in message)
    assert said == (
        "1 of 12 images have more than 8 bits, and keep their values up to the normalisation (the others have 8 bits and are "
        "taken alike: this is right where only contrast counts). Intensities: z-score of every image."
    )
    assert Predictor(run / "model", "cpu").card.normalisation == "image"


def test_intensities_can_be_given(tmp_path):
    data = made(tmp_path / "data", *SETS["png16"])
    options = {"size": SIDE, "epochs": 1, "batch_size": 4, "accelerator": "cpu", "devices": "1", "model": "convtwin-tiny"}
    given = (30_000.0, 30_100.0, 30_050.0, 25.0)
    run = train(TrainConfig(str(data), str(tmp_path / "run"), intensities=(given,), **options))
    predictor = Predictor(run / "model", "cpu")
    assert predictor.card.intensities == (given,)
    values = 30_000 + bodies()[3][0].astype(np.uint16) * 4
    clipped = predictor(np.minimum(values, 30_100)).probabilities
    assert np.allclose(predictor(values).probabilities, clipped, atol=1e-6)
    assert not np.allclose(predictor(values - 50).probabilities, clipped, atol=1e-6)
    with pytest.raises(UserError, match=r"intensities are of 2 channels, and images have 1"):
        train(TrainConfig(str(data), str(tmp_path / "other"), intensities=(given, given), **options))
