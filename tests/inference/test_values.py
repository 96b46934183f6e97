"""What comes out is in the user's terms: the values of the label maps, in the model folder and in the masks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from allukan.data import IGNORED, write_image
from allukan.inference import Predictor, evaluate, find_images, open_run, predict_files
from allukan.inference.results import label_files, mask_files
from allukan.inference.segmenter import numbered
from allukan.models import ModelCard, load_card
from allukan.training import SegmentationModule, TrainConfig, train
from allukan.training.batches import Batch


def card(values, target="multiclass", classes=None):
    names = classes or tuple(map(str, values)) or ("0",)
    return ModelCard("convtwin-tiny", 1, names, target, (32, 32), (0.0,), (1.0,), label_values=tuple(values))


@pytest.mark.parametrize(
    ("values", "target", "expected"),
    [
        ([1, 2, 4], "multiclass", [[1, 2, 4, 0]]),
        ([7, 300, 65535], "multiclass", [[7, 300, 65535, 0]]),
        ([1], "binary", [[1, 0, 0, 0]]),
        ([255], "binary", [[255, 0, 0, 0]]),
        ([], "binary", [[255, 0, 0, 0]]),
    ],
)
def test_masks_hold_the_values_of_the_training(tmp_path, values, target, expected):
    masks = np.eye(max(1, len(values)), 4, dtype=bool)[:, None]
    ((name, array),) = mask_files(masks, card(values, target), Path("a"))
    write_image(tmp_path / name, array)
    assert np.asarray(Image.open(tmp_path / name)).tolist() == expected
    assert array.dtype == (np.uint16 if max(values, default=0) > 255 else np.uint8)


@pytest.mark.parametrize(
    ("values", "target", "names"),
    [
        ([3, 7], "multiclass", {"a.dcm": {3: "one", 7: "two"}}),
        ([], "binary", {"a.dcm": {1: "one"}}),
        ([], "multilabel", {"one/a.dcm": {1: "one"}, "two/a.dcm": {1: "two"}}),
    ],
)
def test_every_value_in_a_file_has_its_name(values, target, names):
    classes = ("one", "two")[: 1 if target == "binary" else 2]
    numbers = numbered(np.ones((len(classes), 1, 2, 2), bool), card(values, target, classes))
    found = {
        file: (array, told) for file, array, told in label_files(numbers, card(values, target, classes), Path("a"), ".dcm", 1)
    }
    assert {file: told for file, (_, told) in found.items()} == names
    assert all(set(np.unique(array)) <= {0, *told} for array, told in found.values())


def disc_maps(root, values):
    """Discs and squares: bright ones of the first value, dark ones of the second, grey ones of the third."""
    random = np.random.default_rng(0)
    for number in range(12):
        labels, image = np.zeros((32, 32), np.uint16), np.full((32, 32), 100)
        for place, (value, level) in enumerate(zip(values, (250, 0, 180), strict=False)):
            y, x = random.integers(0, 4) + 16 * (place // 2), random.integers(0, 4) + 16 * (place % 2)
            labels[y : y + 11, x : x + 11], image[y : y + 11, x : x + 11] = value, level
        write_image(
            root / f"images/c{number:02d}.png", np.clip(image + random.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
        )
        write_image(root / f"masks/c{number:02d}.png", labels if max(values) > 255 else labels.astype(np.uint8))
    return root


@pytest.mark.slow
def test_from_label_maps_to_label_maps(tmp_path):
    values = (1, 4, 300)
    data = disc_maps(tmp_path / "data", values)
    options = {"model": "convtwin-tiny", "size": 32, "epochs": 20, "batch_size": 4, "accelerator": "cpu", "devices": "1"}
    run = train(TrainConfig(str(data), str(tmp_path / "run"), **options))
    assert json.loads((run / "model/config.json").read_text())["label_values"] == list(values)
    predictor = Predictor(run / "model", "cpu")
    *_, outcome = predict_files(predictor, find_images([data / "images"], predictor.card), tmp_path / "out")
    assert len(outcome.done) == 12
    right = []
    for path in sorted((data / "masks").iterdir()):
        labels, found = np.asarray(Image.open(path)), np.asarray(Image.open(tmp_path / "out/masks" / path.name))
        assert set(np.unique(found)) <= {0, *values}
        right.append((labels == found)[labels > 0].mean())
    assert np.mean(right) > 0.7  # by the number of the class 4 and 300 would never be right
    summary = evaluate(open_run(run), data, predictor=predictor)
    assert summary["overall"]["dice"]["mean"] > 0.7
    assert summary["seen_in_training"] > 0


def test_models_of_before_label_values_are_read(tmp_path):
    raw = {"model": "convtwin-tiny", "in_channels": 1, "classes": ["1", "4"], "target": "multiclass", "size": [32, 32]}
    (tmp_path / "config.json").write_text(json.dumps({**raw, "mean": [0.0], "std": [1.0]}))
    assert load_card(tmp_path).label_values == (1, 4)
    (tmp_path / "config.json").write_text(json.dumps({**raw, "classes": ["a", "b"], "mean": [0.0], "std": [1.0]}))
    assert load_card(tmp_path).label_values == ()


class Brightness(torch.nn.Module):
    """Logits of two classes and the background straight from three channels."""

    def forward(self, x):
        return 100 * x


def test_validation_leaves_ignored_pixels_out():
    config = TrainConfig("data", "out", model="convtwin-tiny", size=32)
    three = ModelCard("convtwin-tiny", 3, ("1", "2"), "multiclass", (32, 32), (0.0,) * 3, (1.0,) * 3)
    module = SegmentationModule(Brightness(), three, config)
    labels = torch.randint(0, 3, (2, 32, 32))
    images = torch.stack([labels == k for k in range(3)], 1).to(torch.uint8) * 255
    masks = torch.stack([labels == k for k in (1, 2)], 1).to(torch.uint8)
    masks[:, :, :16] = IGNORED
    images[:, :, :16] = images[:, :, :16].roll(1, dims=1)  # every class wrong, where nothing counts
    module.on_validation_epoch_start()
    module.validation_step(Batch(images, masks, None, 0), 0)
    assert (module._sums / module._sums[-1])[1:4].tolist() == [1.0, 1.0, 1.0]  # Dice, IoU, pooled IoU


def test_the_foreground_option_is_kept_with_the_run(tmp_path):
    data = disc_maps(tmp_path / "data", (1, 2, 4))
    options = {"model": "convtwin-tiny", "size": 32, "epochs": 1, "batch_size": 4, "accelerator": "cpu", "devices": "1"}
    run = train(TrainConfig(str(data), str(tmp_path / "run"), foreground=True, **options))
    found = load_card(run / "model")
    assert (found.classes, found.target, found.label_values) == (("foreground",), "binary", ())
    summary = evaluate(open_run(run), predictor=Predictor(run / "model", "cpu"))
    assert list(summary["classes"]) == ["foreground"]
