"""A trained model of two grey files an image, where only the right channel in the right place gives the right mask."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIDE = 32


def fields(random, count=2, side=SIDE):
    """Smooth random bytes ``(count, side, side)``, unrelated to each other."""
    coarse = random.integers(0, 256, (count, 3, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(plane).resize((side, side), Image.Resampling.BICUBIC)) for plane in coarse])


class Pairs:
    """Images of two channels; a pixel is foreground where the first is brighter than the second."""

    def __init__(self, root: Path, count: int = 28, seed: int = 0):
        self.root, random = root, np.random.default_rng(seed)
        self.images = {f"P{i:02d}": fields(random) for i in range(count)}

    def truth(self, name):
        a, b = self.images[name]
        return a > b

    def save(self, path, array):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
        return path

    def files(self, *patterns):
        """Writes channel k of every image to the path of pattern k, without masks; ``*`` is the name."""
        return {
            name: [self.save(f"{p.replace('*', name)}.png", c) for p, c in zip(patterns, image, strict=True)]
            for name, image in self.images.items()
        }

    def nnunet(self, names=None, order=(0, 1)):
        """A dataset whose channel k is ``order[k]``, and their names where given."""
        for name, image in self.images.items():
            for channel, source in enumerate(order):
                self.save(f"imagesTr/{name}_{channel:04d}.png", image[source])
            self.save(f"labelsTr/{name}.png", self.truth(name).astype(np.uint8))
        named = {"channel_names": dict(enumerate(names))} if names else {}
        text = json.dumps({"labels": {"background": 0, "mass": 1}, "file_ending": ".png", **named})
        (self.root / "dataset.json").write_text(text)
        return self.root

    def dice(self, folder):
        """Of the masks in a folder, the mean."""
        return float(
            np.mean([dice(np.asarray(Image.open(folder / f"{name}.png")) > 0, self.truth(name)) for name in self.images])
        )


def dice(found, truth):
    return 2 * (found & truth).sum() / max(found.sum() + truth.sum(), 1)


@pytest.fixture(scope="session")
def two_channels(tmp_path_factory) -> Path:
    """The run of a model trained on ``*_0000`` (bright) and ``*_0001`` (dark)."""
    from allukan.training import TrainConfig, train

    root = tmp_path_factory.mktemp("pairs")
    data = Pairs(root / "data").nnunet(["bright", "dark"])
    options = {"size": (SIDE, SIDE), "epochs": 12, "batch_size": 4, "accelerator": "cpu", "devices": "1"}
    return train(TrainConfig(str(data), str(root / "run"), model="convtwin-tiny", **options))


@pytest.fixture
def pairs(tmp_path) -> Pairs:
    """Other images for that model, nothing written yet."""
    return Pairs(tmp_path / "in", count=4, seed=7)
