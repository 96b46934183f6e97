"""Near-duplicates are found among images that all resemble each other, and nothing else is taken for one."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from allukan.data import check_dataset, load_groups, make_splits, near_duplicates, open_dataset
from allukan.data.drawing import join

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not there")
SIDE = 256


def fundus(random):
    """A bright disc with vessels from the optic disc, drawn at random."""
    y, x = np.mgrid[:SIDE, :SIDE]
    middle, radius = SIDE / 2 + random.normal(0, 2, 2), 0.46 * SIDE
    far = np.hypot(y - middle[0], x - middle[1])
    disc = middle + random.normal(0, 2, 2) + (0, 0.2 * SIDE)
    grey = np.clip((radius - far) / 3, 0, 1) * (150 - 60 * (far / radius) ** 2)
    grey += np.clip(1 - np.hypot(y - disc[0], x - disc[1]) / (0.06 * SIDE), 0, 1) * 90
    image = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(14):
        point, angle, width = disc[::-1], random.uniform(0, 2 * np.pi), int(random.integers(1, 4))
        for _ in range(60):
            there = point + 4 * np.array([np.cos(angle), np.sin(angle)])
            if np.hypot(*(there - middle[::-1])) > radius:
                break
            pen.line([tuple(point), tuple(there)], fill=60, width=width)
            point, angle = there, angle + random.normal(0, 0.18)
    return noisy(np.asarray(image.filter(ImageFilter.GaussianBlur(1))), 3, random)


def chest(random):
    """Two dark lungs, a bright spine, ribs at slightly other places, and tissue of every scale."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    shift = random.normal(0, 0.008, 3)
    grey = 200 - 120 * np.exp(-((((np.abs(x) - 0.22 - shift[0]) / 0.13) ** 2 + ((y + shift[1]) / 0.33) ** 2) ** 2))
    grey += 30 * np.exp(-((x / 0.05) ** 2)) + 8 * np.sin(70 * (y + 0.5 * x**2 + shift[2])) * (np.abs(x) < 0.4)
    frequency = np.maximum(np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.rfftfreq(SIDE), indexing="ij")), 4 / SIDE)
    tissue = np.fft.irfft2(np.fft.rfft2(random.normal(size=(SIDE, SIDE))) / frequency**1.5)
    return noisy(grey + 8 * tissue / tissue.std(), 2, random)


def slice_of_ct(random):
    """A body of the same organs, a little moved, and a dozen small structures at random."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    grey = np.zeros((SIDE, SIDE))
    organs = [(0, 0, 0.42, 0.32, 90), (0, 0, 0.39, 0.29, 120), (-0.15, -0.02, 0.16, 0.15, 140), (0, 0.2, 0.05, 0.05, 230)]
    small = [(*random.uniform(-0.25, 0.25, 2), *random.uniform(0.01, 0.04, 2), random.uniform(60, 180)) for _ in range(12)]
    for across, down, width, height, value in [*organs, *small]:
        dx, dy = random.normal(0, 0.008, 2)
        grey[((x - across - dx) / width) ** 2 + ((y - down - dy) / height) ** 2 < 1] = value
    return noisy(np.asarray(Image.fromarray(grey.astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))), 4, random)


def noisy(grey, spread, random):
    return np.clip(grey + random.normal(0, spread, grey.shape), 0, 255).astype(np.uint8)


def jpeg(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file))


COPIES = {
    "exact": lambda a: a,
    "jpeg": jpeg,
    "resized": lambda a: np.asarray(Image.fromarray(a).resize((180, 180), Image.Resampling.BICUBIC)),
    "brighter": lambda a: np.clip(0.8 * a + 30.0, 0, 255).astype(np.uint8),
    "gamma": lambda a: (255 * (a / 255) ** 0.8).astype(np.uint8),
}
KINDS = {"fundus": fundus, "chest": chest, "ct": slice_of_ct}


def dataset(make, images):
    """With masks of different size."""
    for number, image in enumerate(images):
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[5 : 8 + 3 * number, 5:60] = 255
        make.save(f"images/{number:02d}.png", image)
        make.save(f"masks/0/{number:02d}.png", mask)
    return open_dataset(make.root)


def old_rule(images):
    """How many pairs correlate by 0.98 as thumbnails of 24 pixels, which counted as near-duplicates in version 0.1."""
    small = [np.asarray(Image.fromarray(image).resize((24, 24), Image.Resampling.BILINEAR)).ravel() for image in images]
    return int((np.triu(np.corrcoef(np.array(small, float)), k=1) >= 0.98).sum())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_of_look_alike_images_only_copies_are_near_duplicates(make, kind):
    random = np.random.default_rng(0)
    images = [KINDS[kind](random) for _ in range(40 - len(COPIES))]
    images += [copy(images[number]) for number, copy in enumerate(COPIES.values())]
    assert old_rule(images) > 30
    found = near_duplicates(dataset(make, images))
    assert {(a, b) for a, b, _ in found} == {(f"{number:02d}", f"{35 + number}") for number in range(len(COPIES))}
    assert [pair for pair in found if pair[2] == 1] == [("00", "35", 1.0)]


@pytest.mark.slow
def test_forty_look_alike_images_are_split_as_asked_and_duplicates_stay_together(make):
    random = np.random.default_rng(0)
    images = [fundus(random) for _ in range(38)]
    images += [images[3], jpeg(images[7])]
    data = dataset(make, images)
    pairs = [(a, b) for a, b, _ in near_duplicates(data)]
    assert sorted(pairs) == [("03", "38"), ("07", "39")]
    for seed in range(3):
        splits = make_splits(data, seed=seed, pairs=pairs)
        assert splits.counts == {"train": 28, "val": 4, "test": 8}
        for pair in ({"03", "38"}, {"07", "39"}):
            assert any(pair <= set(part) for part in (splits.train, splits.val, splits.test))
    check = check_dataset(make.root)
    assert check.facts["split"] == "28 train, 4 val, 8 test (drawn; images, near-duplicates joined (2 pairs))"
    notes = {finding.where: finding.what for finding in check.findings}
    assert notes["03 = 38"] == "identical images: kept together by the clean protocol"
    assert set(notes) == {"03 = 38", "07 = 39"}


def test_images_without_detail_are_no_duplicates(make):
    """Empty slices of all patients would join these to one group."""
    images = [np.zeros((40, 40), np.uint8), np.full((40, 40), 255, np.uint8)] * 3
    assert near_duplicates(dataset(make, [*images, *(make.grey(40, 40) for _ in range(6))])) == []


def test_sets_of_two_and_of_nothing_but_copies(make):
    one, other = make.grey(64, 64), make.grey(64, 64)
    assert near_duplicates(dataset(make, [one, other])) == []
    assert near_duplicates(dataset(make, [one, one])) == [("00", "01", 1.0)]
    assert [pair[:2] for pair in near_duplicates(dataset(make, [one, jpeg(one)]))] == [("00", "01")]
    assert len(near_duplicates(dataset(make, [one] * 4))) == 6


def test_colours_channels_and_sizes_do_not_matter(make):
    random = np.random.default_rng(0)
    images = [fundus(random) for _ in range(6)]
    half = np.asarray(Image.fromarray(images[0]).resize((128, 128), Image.Resampling.LANCZOS))
    data = dataset(make, [*images, np.dstack([images[1]] * 3), half])
    assert {pair[:2] for pair in near_duplicates(data)} == {("01", "06"), ("00", "07")}


@pytest.fixture(scope="module")
def busi():
    return open_dataset(SHARED / "busi_256")


@pytest.mark.slow
@needs_data
def test_known_duplicates_of_busi_stay_together(busi):
    pairs = {(a, b): agreement for a, b, agreement in near_duplicates(busi)}
    assert pairs["benign (433)", "malignant (145)"] == 1
    assert sum(agreement == 1 for agreement in pairs.values()) == 1
    assert 150 <= len(pairs) <= 170
    for same in [("benign (154)", "benign (21)"), ("benign (2)", "benign (319)"), ("malignant (114)", "malignant (123)")]:
        assert same in pairs  # other crops of one picture
    for other in [("malignant (177)", "malignant (72)"), ("benign (62)", "malignant (1)"), ("benign (68)", "benign (73)")]:
        assert other not in pairs
    assert max(map(len, join(sorted(busi.ids), {}, pairs))) < 10
    splits = make_splits(busi, "clean", 0, pairs=list(pairs))
    parts = (splits.train, splits.val, splits.test)
    for pair in pairs:
        assert any(set(pair) <= set(part) for part in parts)
    assert [len(part) / 647 for part in parts] == pytest.approx([0.7, 0.1, 0.2], abs=0.02)


@needs_data
@pytest.mark.slow
def test_frames_of_one_sequence_are_near_duplicates_and_sets_do_not_chain_into_one_group():
    cvc, glas = (open_dataset(SHARED / name) for name in ("cvc_256", "glas_512"))
    assert near_duplicates(glas) == []
    groups = load_groups(cvc, None)
    pairs = [(a, b) for a, b, _ in near_duplicates(cvc)]
    assert len(pairs) > 200
    assert all(groups[a] == groups[b] for a, b in pairs)
    with (SHARED / "cvc_256/sequences.csv").open(newline="") as file:
        assert len(join(sorted(cvc.ids), groups, pairs)) == len(list(csv.DictReader(file))) == 29
