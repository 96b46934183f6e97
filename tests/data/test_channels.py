"""Which files make up an image, and in what order."""

from pathlib import Path

import pytest

from allukan.data import check_dataset, file_channels, file_patterns, match_pattern, names_of_files, open_dataset, prepare
from allukan.errors import UserError

PATTERNS = {
    ("i/{}_t1", "i/{}_t2"): ("*_t1", "*_t2"),
    ("i/{}-0000", "i/{}-0001"): ("*-0000", "*-0001"),
    ("x/t1/{}", "x/t2/{}"): ("t1/*", "t2/*"),
    ("{0}/{0}_t1", "{0}/{0}_t2"): ("*_t1", "*_t2"),
    ("t1_{}", "t2_{}"): ("t1_*", "t2_*"),
    ("{}", "{}_t2"): ("*", "*_t2"),
    ("{}_t1_axial", "{}_t2_axial"): ("*_t1_axial", "*_t2_axial"),
    ("{}",): ("*",),
    ("t1/{}_t1", "t2/{}_t2"): ("", ""),
    ("{}", "{}"): ("", ""),
}


@pytest.mark.parametrize("paths", PATTERNS, ids=" ".join)
def test_patterns_are_found_in_paths_and_find_them_again(paths):
    images = {name: tuple(Path(f"/data/{path.format(name)}.png") for path in paths) for name in ("P1", "P2", "case 10")}
    problems = []
    assert file_patterns(images, Path("list.json"), problems) == PATTERNS[paths]
    assert problems == []
    for name, files in images.items():
        for file, pattern in zip(files, PATTERNS[paths], strict=True):
            found = match_pattern(file.with_suffix("").as_posix(), pattern)
            assert (found and found[1]) == (name if pattern else None)


def test_a_datalist_whose_files_are_in_another_order_would_mix_the_channels(make):
    entries = []
    for i in range(3):
        files = [make.save(f"i/P{i}_{kind}.png", make.grey()).relative_to(make.root).as_posix() for kind in ("t1", "t2")]
        make.save(f"l/P{i}.png", make.labels())
        entries.append({"image": files[::-1] if i == 1 else files, "label": f"l/P{i}.png"})
    path = make.json("list.json", {"training": entries, "modality": {"0": "T1", "1": "T2"}})
    with pytest.raises(UserError, match=r"gives 'P1_t2' in the order P1_t2\.png, P1_t1\.png, others as \*_t1, \*_t2: sort it"):
        open_dataset(path)
    entries[1]["image"].reverse()
    dataset = open_dataset(make.json("list.json", {"training": entries, "modality": {"0": "T1", "1": "T2"}}))
    assert (dataset.patterns, dataset.channel_names) == (("*_t1", "*_t2"), ("T1", "T2"))


def test_nnunet_says_patterns_and_names(make):
    dataset = open_dataset(make.nnunet(channel_names={"1": "FLAIR", "0": "T1"}))
    assert (dataset.patterns, dataset.channel_names) == (("*_0000", "*_0001"), ("T1", "FLAIR"))


@pytest.mark.parametrize(
    ("info", "names"),
    [
        ({}, ()),
        ({"modality": {"0": "MRI"}}, ("MRI",)),
        ({"modality": "MRI"}, ()),
        ({"channel_names": ["T1", "T2"]}, ("T1", "T2")),
        ({"channel_names": {"T2": 1, "T1": 0}}, ("T1", "T2")),
        ({"channel_names": {str(n): f"c{n}" for n in range(11)}}, tuple(f"c{n}" for n in range(11))),
    ],
)
def test_names_of_channels(make, info, names):
    root = make.folders(2)
    (root / "images").rename(root / "imagesTr")
    for path in sorted((root / "imagesTr").iterdir()):
        path.rename(path.with_name(f"{path.stem}_0000.png"))
        make.save(f"labelsTr/{path.stem}.png", make.labels())
    make.json("dataset.json", {"labels": {"a": 1, "b": 2}, **info})
    assert open_dataset(root).channel_names == names


def test_names_are_those_of_files_or_of_channels():
    assert names_of_files(["T1", "T2"], [1, 1]) == ("T1", "T2")
    assert names_of_files(["R", "G", "B"], [3]) == ("R, G, B",)
    assert names_of_files(["T1"], [1, 1]) == ()


def test_as_many_channels_in_another_order_are_refused(make):
    """Both images have four channels, of which the first is grey in one and red in the other."""
    for name, first, second in (("a", 1, 3), ("b", 3, 1)):
        for channel, count in enumerate((first, second)):
            make.save(f"imagesTr/{name}_{channel:04d}.png", make.random.integers(0, 256, (20, 30, count), "uint8").squeeze())
        make.save(f"labelsTr/{name}.png", make.labels())
    make.json("dataset.json", {"labels": {"a": 1, "b": 2}})
    dataset = open_dataset(make.root)
    with pytest.raises(UserError, match=r"'b' of .* has 3 \+ 1 channels but 'a' has 1 \+ 3: all must have as many"):
        file_channels(dataset)
    with pytest.raises(UserError, match=r"3 \+ 1 channels"):
        prepare(dataset, dataset.cases)
    assert "images have 1 + 3 and 3 + 1 channels: all must have as many" in [f.what for f in check_dataset(make.root).findings]


def test_grey_beside_rgb_is_noted(make):
    root = make.folders(12)
    for i in range(3):
        make.save(f"images/c{i:02d}.png", make.random.integers(0, 256, (20, 30, 3), "uint8"))
    assert file_channels(open_dataset(root)) == (3,)
    check = check_dataset(root)
    assert check.trainable
    notes = [finding.what for finding in check.findings]
    assert "9 images are grey, 3 in colour: grey is repeated to RGB, also in prediction" in notes


def test_prepared_channels_are_those_of_every_file(make):
    dataset = open_dataset(make.nnunet(count=2))
    images = prepare(dataset, dataset.cases, channels=(1, 1)).images
    assert images.shape == (2, 2, 20, 30)
    with pytest.raises(UserError, match=r"c0_0000\.png has 1 channel and the model expects 2"):
        prepare(dataset, dataset.cases, channels=(2, 1))
