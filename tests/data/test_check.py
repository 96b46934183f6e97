"""``allukan data``: everything that is wrong at once, and the exit code."""

import shlex

import numpy as np
import pytest
from typer.testing import CliRunner

from allukan.cli.data import app
from allukan.data import check_dataset, open_dataset
from allukan.errors import UserError


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


def test_the_last_line_is_the_next_command_with_the_same_options(make):
    root = make.folders(5, classes=("a b",))
    said = run("check", root, "--foreground", "--groups", r"re:c(\d+)").stdout.splitlines()
    assert said[0] == f"Checking {root}: every image and mask is read, and near-duplicates are searched."
    ready, _, command = said[-1].partition(" Next: ")
    assert ready == "Ready to train."
    given = ["--groups", r"re:c(\d+)", "--foreground"]
    assert shlex.split(command) == ["allukan", "train", str(root), *given, "--out", "RUN"]


def test_a_good_set_is_described(make):
    root = make.folders(5, classes=("gland", "lumen"))
    make.save("images/c00.png", np.dstack([make.grey()] * 3))
    result = run("check", root)
    assert result.exit_code == 0
    for word in ("folders", "multilabel", "gland, lumen", "20×30 (5)", "grey (4), RGB (1)", "class lumen", "Ready to train"):
        assert word in result.stdout
    assert "problem" not in result.stdout


def test_pictures_of_more_than_8_bits_are_noted(make):
    make.folders(4)
    make.save("images/c00.png", make.grey().astype(np.uint16) * 16)
    result = run("check", make.root)
    assert result.exit_code == 0
    assert "1 of 4 images have more than 8 bits" in " ".join(result.stdout.split())


@pytest.mark.parametrize("layout", ["label_maps", "nnunet"])
def test_label_maps_are_described(make, layout):
    result = run("check", getattr(make, layout)())
    assert result.exit_code == 0
    assert "multiclass" in result.stdout


def test_every_problem_is_listed(make):
    root = make.folders(9)
    (root / "images/c00.png").write_text("text")
    (root / "images/c01.png").write_bytes((root / "images/c01.png").read_bytes()[:60])
    make.save("masks/0/c02.png", make.grey())
    make.save("masks/0/c03.png", make.mask(9, 9))
    for name in ("c04", "c05"):
        (root / f"masks/0/{name}.png").unlink()
    make.save("masks/0/z.png", make.mask())
    (root / "images/c07.png").write_bytes((root / "images/c06.png").read_bytes())
    result = run("check", root)
    assert result.exit_code == 1
    for words in (
        "c00.png cannot be read",
        "c01.png cannot be read",
        "c02.png is not binary",
        "c03: mask is 9×9 pixels, image 20×30",
        "image 'c04'",
        "image 'c05'",
        "mask 'z'",
        "c06 = c07: identical images",
        "7 problems",
    ):
        assert words in result.stdout, words


def spoil_label_map(make):
    make.label_maps()
    (make.root / "masks/c02.png").write_text("x")


def spoil_channels(make):
    make.nnunet(channels=2)
    make.save("imagesTr/c1_0001.png", np.dstack([make.grey()] * 3))


def spoil_classes(make):
    make.folders(4)
    for i in range(4):
        make.save(f"masks/0/c{i:02d}.png", np.zeros((20, 30), np.uint8))


def spoil_groups(make):
    make.folders(4)
    (make.root / "groups.csv").write_text("id,patient\nc00,a\n")


SPOILERS = {
    "empty": (lambda m: None, "is empty"),
    "no masks": (lambda m: m.save("images/a.png", m.grey()), "has no masks"),
    "two images": (lambda m: m.folders(2), "need 3"),
    "label map": (spoil_label_map, "c02.png cannot be read"),
    "channels": (spoil_channels, "1 + 1 and 1 + 3 channels"),
    "empty masks": (spoil_classes, "no mask has a single pixel"),
    "groups": (spoil_groups, "say nothing about image 'c01'"),
}


@pytest.mark.parametrize("name", SPOILERS)
def test_what_would_stop_a_training_ends_in_exit_code_1(make, name):
    spoil, words = SPOILERS[name]
    spoil(make)
    result = run("check", make.root)
    assert result.exit_code == 1
    assert words in " ".join(result.stdout.split())


def test_a_rare_class_without_pixels_is_only_noted(make):
    root = make.folders(4, classes=("a", "b"))
    for i in range(4):
        make.save(f"masks/b/c{i:02d}.png", np.zeros((20, 30), np.uint8))
    check = check_dataset(root)
    assert check.trainable
    assert [(f.where, f.fatal) for f in check.findings] == [("class b", False)]


def test_notes_are_cut_but_counted(make):
    root = make.folders(12)
    for i in range(1, 8):
        (root / f"images/c{i:02d}.png").write_bytes((root / "images/c00.png").read_bytes())
    result = run("check", root)
    assert (result.exit_code, result.stdout.count(" = ")) == (0, 20)
    assert "and 8 more notes" in result.stdout


def test_no_folder_is_an_error_of_the_user(make):
    result = run("check", make.root / "nowhere")
    assert isinstance(result.exception, UserError)
    assert "does not exist" in str(result.exception)


def test_phantoms_from_the_shell(make):
    result = run("phantoms", make.root / "p", "--count", 4, "--size", 32, "--seed", 2)
    assert result.exit_code == 0
    assert len(open_dataset(make.root / "p").cases) == 4
    before = {p: p.read_bytes() for p in make.root.rglob("*.png")}
    again = run("phantoms", make.root / "p", "--count", 4, "--size", 32)
    assert isinstance(again.exception, UserError)
    assert {p: p.read_bytes() for p in make.root.rglob("*.png")} == before


def test_the_split_of_a_training_with_the_same_options_is_shown(make):
    root = make.folders(10)
    make.json("own.json", {"train": [f"c{i:02d}" for i in range(6)], "val": ["c06"], "test": ["c07", "c08", "c09"]})
    assert "6 train, 1 val, 3 test" in run("check", root, "--splits", root / "own.json").stdout
    grouped = run("check", root, "--groups", r"re:^c\d(\d)$")
    assert "given groups" in grouped.stdout
    wrong = run("check", root, "--splits", root / "own.json", "--fold", 1)
    assert wrong.exit_code == 1
    assert "fold 1" in wrong.stdout
