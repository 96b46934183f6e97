"""Figures of a set of images, against numpy on all of it."""

import json
import tracemalloc

import numpy as np
import pytest

from allukan.data import fingerprint as module
from allukan.data.fingerprint import Fingerprint, case_facts, fingerprint
from allukan.errors import UserError
from allukan.yaml_files import read_yaml, write_yaml


def volumes(count=7, dims=3, channels=2, seed=0):
    """Images in int16, masks of two classes, spacings; the second class is absent from every other case."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        shape = tuple(rng.integers(5, 12, dims))
        image = rng.integers(-1024, 3071, (channels, *shape), dtype=np.int16)
        masks = rng.random((2, *shape)) > 0.7
        masks[1] &= i % 2 == 0
        found.append((image, masks, tuple(rng.uniform(0.5, 3, dims))))
    return found


def taken(cases, **options):
    return fingerprint((case_facts(*case) for case in cases), ["a", "b"], **options)


@pytest.mark.parametrize("dims", [2, 3])
def test_everything_is_numpys(dims):
    cases = volumes(dims=dims)
    found = taken(cases, channel_names=["CT", "T1"])
    shapes, spacings = np.array([i.shape[1:] for i, _, _ in cases]), np.array([s for _, _, s in cases])
    values = np.concatenate([image[:, masks.any(0)] for image, masks, _ in cases], 1)
    assert (found.cases, found.spatial_dims, found.sampled) == (7, dims, False)
    assert found.size == tuple(np.median(shapes, 0))
    assert (found.smallest, found.largest) == (tuple(shapes.min(0)), tuple(shapes.max(0)))
    assert found.spacing_mm == pytest.approx(tuple(np.median(spacings, 0)))
    assert found.finest_mm == pytest.approx(tuple(np.percentile(spacings, 10, 0)))
    assert found.extent_mm == pytest.approx(tuple(np.median(shapes * spacings, 0)))
    assert found.anisotropy == pytest.approx(np.median(spacings, 0).max() / np.median(spacings, 0).min())
    assert found.voxels == sum(image[0].size for image, _, _ in cases)
    for facts, of_channel, name in zip(found.channels, values, ["CT", "T1"], strict=True):
        assert facts.name == name
        assert (facts.low, facts.high) == pytest.approx(tuple(np.percentile(of_channel, [0.5, 99.5])))
        assert (facts.mean, facts.std) == pytest.approx((of_channel.mean(), of_channel.std()))
    assert found.class_shares == pytest.approx([sum(m[k].sum() for _, m, _ in cases) / found.voxels for k in (0, 1)])
    assert found.class_cases == (7, 4)


def test_a_sample_stands_for_the_foreground(monkeypatch):
    """Of many cases, some of them large: figures within what a sample of this size can be off."""
    monkeypatch.setattr(module, "CASE_SAMPLE", 300)
    monkeypatch.setattr(module, "SAMPLE", 4000)
    rng = np.random.default_rng(1)
    cases = [(rng.normal(100 * (i % 2), 10, (1, 30, 40)), np.ones((2, 30, 40), bool), (1.0, 1.0)) for i in range(60)]
    found, channel = taken(cases), taken(cases).channels[0]
    assert found.sampled
    assert channel.mean == pytest.approx(50, abs=3)
    assert channel.std == pytest.approx(np.hypot(50, 10), abs=2)
    everything = np.concatenate([image.ravel() for image, _, _ in cases])
    assert (channel.low, channel.high) == pytest.approx(tuple(np.percentile(everything, [0.5, 99.5])), abs=4)
    assert taken(cases) == found


def test_no_case_outweighs_the_others():
    """A case of 400,000 voxels at 0 and forty of 10,000 at 100: a case counts with at most as many as the small ones."""
    cases = [(np.zeros((1, 400, 1000)), np.ones((2, 400, 1000), bool), None)]
    cases += [(np.full((1, 100, 100), 100.0), np.ones((2, 100, 100), bool), None)] * 40
    assert taken(cases).channels[0].mean == pytest.approx(100 * 40 / 41)


def test_memory_is_that_of_the_sample():
    """A thousand cases of 40 kB each, made one after the other: far less than the 40 MB of all of them."""

    def stream():
        rng = np.random.default_rng(0)
        for _ in range(1000):
            image = rng.normal(size=(1, 100, 100)).astype(np.float32)
            yield case_facts(image, np.ones((2, 100, 100), bool))

    tracemalloc.start()
    try:
        found = fingerprint(stream(), ["a", "b"])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.cases == 1000
    assert peak < 30e6


def test_without_foreground_the_whole_image_counts_and_without_spacing_pixels():
    image = np.arange(20, dtype=np.uint8).reshape(1, 4, 5)
    found = taken([(image, np.zeros((2, 4, 5), bool), None)])
    assert found.channels[0].mean == 9.5
    assert (found.class_shares, found.class_cases) == ((0.0, 0.0), (0, 0))
    assert (found.spacing_mm, found.finest_mm, found.extent_mm, found.anisotropy) == (None, None, (4.0, 5.0), 1.0)


@pytest.mark.parametrize("known", [True, False])
def test_json_and_yaml_bring_it_back(tmp_path, known):
    cases = volumes() if known else [(image, masks, None) for image, masks, _ in volumes()]
    found = taken(cases, channel_names=["CT", "T1"])
    assert Fingerprint.from_dict(json.loads(json.dumps(found.as_dict()))) == found
    write_yaml(tmp_path / "f.yaml", found.as_dict())
    assert Fingerprint.from_dict(read_yaml(tmp_path / "f.yaml")) == found
    assert read_yaml(tmp_path / "f.yaml")["anisotropy"] == found.anisotropy


def case(shape=(1, 4, 5), classes=2, spacing=(1.0, 1.0)):
    return np.zeros(shape), np.ones((classes, *shape[1:]), bool), spacing


@pytest.mark.parametrize(
    ("cases", "word"),
    [
        ([], "no images to take a fingerprint of"),
        ([case(), case((1, 4, 5, 6), spacing=(1.0, 1.0, 1.0))], "size 4×5×6 has 3 axes where others have 2"),
        ([case(), case((2, 4, 5))], "size 4×5 has 2 channels where others have 1"),
        ([case(), case(classes=3)], "has 3 classes where others have 2"),
        ([case(), case((1, 6, 6), spacing=None)], "size 4×5 has a spacing in mm and one of size 6×6 has none"),
        ([case((1, 6, 6), spacing=None), case()], "size 4×5 has a spacing in mm and one of size 6×6 has none"),
        ([(np.full((1, 4, 5), np.nan), *case()[1:])], "not finite"),
    ],
)
def test_what_is_no_set_is_told_in_one_sentence(cases, word):
    with pytest.raises(UserError, match=word):
        taken(cases)


def test_names_of_channels_are_as_many():
    with pytest.raises(UserError, match=r"2 names \(CT, PET\) for the 1 channels"):
        taken([case()], channel_names=["CT", "PET"])


@pytest.mark.parametrize("change", [{"cases": None}, {"more": 1}, {"channels": [{"name": "CT"}]}])
def test_a_file_of_another_kind_is_refused(change):
    raw = taken(volumes()).as_dict() | change
    if raw["cases"] is None:
        del raw["cases"]
    with pytest.raises(UserError, match="fingerprint"):
        Fingerprint.from_dict(raw)
