"""A test on images of other files is refused before anything is trained."""

import json

import numpy as np
import pytest
from PIL import Image

from allukan.errors import UserError
from allukan.study import load_study
from allukan.study.check import check_study


def nnunet(root, names):
    """Twenty images of one file a channel, and a dataset.json that names them."""
    random = np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for i in range(20):
        for channel in range(len(names)):
            plane = random.integers(0, 256, (32, 32), dtype=np.uint8)
            Image.fromarray(plane).save(root / f"imagesTr/c{i:02d}_{channel:04d}.png")
        Image.fromarray(np.eye(32, dtype=np.uint8)).save(root / f"labelsTr/c{i:02d}.png")
    description = {"labels": {"background": 0, "line": 1}, "channel_names": dict(enumerate(names))}
    (root / "dataset.json").write_text(json.dumps(description))
    return str(root)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["T2", "t1"], None),
        (
            ["T1"],
            r"cross a → b: .* has one file an image, but the model expects 2 files an image, \*_0000 \(T1\) and",
        ),
        (["T1", "FLAIR"], r"cross a → b: .* calls the files of an image T1, FLAIR, but the model expects 2 files"),
    ],
)
def test_channels_of_a_cross_test(write, tmp_path, names, words):
    data, test = {"a": nnunet(tmp_path / "a", ["T1", "T2"])}, {"b": nnunet(tmp_path / "b", names)}
    study = load_study(write(data=data, test_data=test, cross=[{"train": "a", "test": "b"}]))
    if words is None:
        check_study(study, tmp_path / "out")
        return
    with pytest.raises(UserError, match=words):
        check_study(study, tmp_path / "out")
