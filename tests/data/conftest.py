"""Small datasets, made as the tests need them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


class Maker:
    """Writes random images and masks below ``root``."""

    def __init__(self, root: Path):
        self.root = root
        self.random = np.random.default_rng(0)

    def grey(self, height=20, width=30):
        return self.random.integers(0, 256, (height, width), dtype=np.uint8)

    def mask(self, height=20, width=30):
        return (self.grey(height, width) > 200) * np.uint8(255)

    def labels(self, count=3, height=20, width=30):
        return self.random.integers(0, count, (height, width), dtype=np.uint8)

    def save(self, name, array):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
        return path

    def json(self, name, content):
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(json.dumps(content))
        return self.root / name

    def folders(self, count=6, classes=("0",)):
        for i in range(count):
            self.save(f"images/c{i:02d}.png", self.grey())
            for name in classes:
                self.save(f"masks/{name}/c{i:02d}.png", self.mask())
        return self.root

    def label_maps(self, count=4):
        for i in range(count):
            self.save(f"images/c{i:02d}.png", self.grey())
            self.save(f"masks/c{i:02d}.png", self.labels())
        return self.root

    def nnunet(self, count=4, channels=2, **description):
        for i in range(count):
            for channel in range(channels):
                self.save(f"imagesTr/c{i}_{channel:04d}.png", self.grey())
            self.save(f"labelsTr/c{i}.png", self.labels())
        labels = {"labels": {"background": 0, "cyst": 1, "mass": 2}, "file_ending": ".png"}
        self.json("dataset.json", {**labels, **description})
        return self.root


@pytest.fixture
def make(tmp_path):
    return Maker(tmp_path)
