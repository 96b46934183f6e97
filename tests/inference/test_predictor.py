"""The predictor against its steps written out: PIL, numpy, scipy's zoom and windows weighted by hand around the bare network."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import label, zoom
from scipy.special import expit, softmax

from allukan.inference import Cleaning, Predictor, find_images, predict_files
from allukan.models import ModelCard, save_model

SIZE = (32, 48)  # of the network, height and width
CARDS = {
    "binary": ModelCard("convtwin-tiny", 1, ("a",), "binary", SIZE, (0.3,), (0.2,), threshold=0.6),
    "multilabel": ModelCard("convtwin-tiny", 3, ("a", "b"), "multilabel", SIZE, (0.1, 0.5, 0.4), (0.3, 0.2, 0.5)),
    "multiclass": ModelCard("convtwin-tiny", 1, ("a", "b"), "multiclass", SIZE, (0.5,), (0.25,)),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder and the network in it, a target; weights and statistics are random, so that every step counts."""
    made = {}
    for target, card in CARDS.items():
        torch.manual_seed(0)
        network = card.build().eval()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        with torch.no_grad():  # probabilities on both sides of the threshold
            last = list(network.head.children())[-1]
            last.weight.mul_(5)
            seen = torch.from_numpy(normalised(card, picture(*SIZE, card.in_channels))).float()
            last.bias += 0.4 - network(seen).mean(dim=(0, 2, 3))
        folder = save_model(tmp_path_factory.mktemp("models") / target, network, card)
        made[target] = (folder, network)
    return made


def picture(height, width, channels, seed=0):
    """Smooth and noisy bytes ``(H, W, C)``."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (5, 4), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    image = np.asarray(coarse, float)[..., None] + random.normal(0, 20, (height, width, channels))
    return image.clip(0, 255).astype(np.uint8)


def normalised(card, image):
    """``(H, W, C)`` bytes → ``(1, C, H, W)``."""
    return ((image / 255 - np.array(card.mean)) / np.array(card.std)).transpose(2, 0, 1)[None]


@torch.no_grad()
def logits(network, x):
    return network(torch.from_numpy(np.ascontiguousarray(x)).float()).numpy().astype(np.float64)


def answer(card, scores):
    return softmax(scores, 1) if card.target == "multiclass" else expit(scores)


def resized(card, network, image):
    """The image at the size of the network, the probabilities back at its own."""
    planes = [
        Image.fromarray(np.ascontiguousarray(plane)).resize(SIZE[::-1], Image.BILINEAR) for plane in image.transpose(2, 0, 1)
    ]
    scores = logits(network, normalised(card, np.stack([np.asarray(plane) for plane in planes], -1)))
    factors = (1, 1, *(n / s for n, s in zip(image.shape[:2], SIZE, strict=True)))
    return zoom(answer(card, scores), factors, order=1, mode="nearest", grid_mode=True)[0]


def starts(length, window):
    """Windows that overlap by half, the last one at the edge."""
    return sorted({min(i * (window // 2), length - window) for i in range(2 * length // window + 1)})


def bell(n):
    """A Gaussian over a window, an eighth of it wide."""
    return np.exp(-((np.arange(n) - (n - 1) / 2) ** 2) / (2 * (0.125 * n) ** 2))


def slid(card, network, x):
    """Probabilities of ``(1, C, H, W)`` from windows of the size of the network, zeros around an image that is smaller."""
    shape = x.shape[2:]
    around = [(max(0, w - n) // 2, max(0, w - n) - max(0, w - n) // 2) for n, w in zip(shape, SIZE, strict=True)]
    x = np.pad(x, [(0, 0), (0, 0), *around])
    weight = np.maximum(bell(SIZE[0])[:, None] * bell(SIZE[1]), 1e-3)
    total, weights = np.zeros((1, card.out_channels, *x.shape[2:])), np.zeros(x.shape[2:])
    for top, left in itertools.product(*(starts(n, w) for n, w in zip(x.shape[2:], SIZE, strict=True))):
        at = (slice(top, top + SIZE[0]), slice(left, left + SIZE[1]))
        total[:, :, *at] += weight * logits(network, x[:, :, *at])
        weights[at] += weight
    inner = tuple(slice(before, before + n) for (before, _), n in zip(around, shape, strict=True))
    return answer(card, (total / weights)[:, :, *inner])


def flipped(function, x):
    """The mean over the four flips of an image."""
    flips = [(), (2,), (3,), (2, 3)]
    return np.mean([np.flip(function(np.flip(x, axes)), axes) for axes in flips], 0)


def check(card, found, wanted):
    assert found.probabilities.dtype == np.float32
    assert found.masks.dtype == bool
    assert found.probabilities.shape == wanted.shape
    np.testing.assert_allclose(found.probabilities, wanted, atol=2e-5)
    if card.target == "multiclass":
        ranked = np.sort(wanted, 0)
        sure = ranked[-1] - ranked[-2] > 1e-4
        masks = np.stack([wanted.argmax(0) == k for k in range(1, len(wanted))])
    else:
        sure, masks = (np.abs(wanted - card.threshold) > 1e-4).all(0), wanted > card.threshold
    assert sure.mean() > 0.9
    assert 0 < masks.mean() < 1  # neither answer is that of every pixel
    np.testing.assert_array_equal(found.masks[:, sure], masks[:, sure])


@pytest.mark.parametrize("shape", [(45, 61), (100, 20), SIZE, (7, 90)], ids=str)
@pytest.mark.parametrize("target", CARDS)
def test_resize_is_its_steps(models, target, shape):
    (folder, network), card = models[target], CARDS[target]
    image = picture(*shape, card.in_channels)
    check(card, Predictor(folder, "cpu")(image), resized(card, network, image))


@pytest.mark.parametrize("shape", [(45, 61), (96, 48), (20, 100), SIZE], ids=str)
@pytest.mark.parametrize("target", CARDS)
def test_sliding_is_its_windows(models, target, shape):
    (folder, network), card = models[target], CARDS[target]
    image = picture(*shape, card.in_channels)
    check(card, Predictor(folder, "cpu", mode="sliding")(image), slid(card, network, normalised(card, image))[0])


@pytest.mark.parametrize("target", CARDS)
def test_tta_is_the_mean_over_the_flips(models, target):
    (folder, network), card = models[target], CARDS[target]
    image = picture(*SIZE, card.in_channels)
    x = normalised(card, image)
    wanted = flipped(lambda x: answer(card, logits(network, x)), x)
    once = answer(card, logits(network, x))
    assert np.abs(wanted - once).max() > 1e-2
    check(card, Predictor(folder, "cpu", tta=True)(image), wanted[0])
    image = picture(50, 70, card.in_channels)
    wanted = flipped(lambda x: slid(card, network, x), normalised(card, image))
    check(card, Predictor(folder, "cpu", mode="sliding", tta=True)(image), wanted[0])


def test_a_batch_is_its_images(models):
    (folder, network), card = models["multilabel"], CARDS["multilabel"]
    images = np.stack([picture(*SIZE, 3, seed) for seed in range(3)])
    found = Predictor(folder, "cpu").probabilities(torch.from_numpy(images).permute(0, 3, 1, 2))
    wanted = np.concatenate([answer(card, logits(network, normalised(card, image))) for image in images])
    np.testing.assert_allclose(found.numpy(), wanted, atol=2e-5)


def test_a_file_is_its_pixels(models, tmp_path):
    folder, _ = models["binary"]
    image = picture(40, 50, 1)
    Image.fromarray(image[..., 0]).save(tmp_path / "a.png")
    predictor = Predictor(folder, "cpu")
    of_file, of_array = predictor(tmp_path / "a.png"), predictor(image)
    np.testing.assert_array_equal(of_file.probabilities, of_array.probabilities)
    np.testing.assert_array_equal(of_file.masks, of_array.masks)


def test_a_file_of_more_than_8_bits_is_told_of(models, tmp_path, caplog):
    folder, _ = models["binary"]
    Image.fromarray(picture(40, 50, 1)[..., 0].astype(np.uint16) * 100).save(tmp_path / "a.png")
    predictor = Predictor(folder, "cpu")
    with caplog.at_level("WARNING", "allukan"):
        *_, outcome = predict_files(predictor, find_images([tmp_path / "a.png"], predictor.card), tmp_path / "out")
    assert outcome.failed == []
    assert [message.split(" and ")[0] for message in caplog.messages] == ["1 of 1 images have more than 8 bits"]


def test_components_of_pictures(models, tmp_path):
    """Oracle: scipy's components of the mask as it was; the overlay is that of the mask that is written."""
    folder, _ = models["binary"]
    Image.fromarray(picture(60, 90, 1)[..., 0]).save(tmp_path / "a.png")
    predictor = Predictor(folder, "cpu", mode="sliding")
    for name, cleaning in (("all", None), ("clean", Cleaning.of_names(predictor.card, ["a"]))):
        list(predict_files(predictor, find_images([tmp_path / "a.png"], predictor.card), tmp_path / name, cleaning=cleaning))
    before, after = (np.asarray(Image.open(tmp_path / f"{name}/masks/a.png")) for name in ("all", "clean"))
    parts, count = label(before, np.ones((3, 3)))
    sizes = np.bincount(parts.ravel())[1:]
    assert count > 1
    assert np.array_equal(after, np.where(parts == 1 + sizes.argmax(), 255, 0))
    overlays = [np.asarray(Image.open(tmp_path / f"{name}/overlays/a.png")) for name in ("all", "clean")]
    assert not np.array_equal(*overlays)
    assert not (tmp_path / "clean/volumes.csv").exists()
