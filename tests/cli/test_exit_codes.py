"""The table of exit codes in docs/formats.md, code by code."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"


@pytest.fixture
def images(phantoms, tmp_path):
    """Three images, of which the second is cut short."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i, path in enumerate(sorted((phantoms / "images").iterdir())[:3]):
        (folder / path.name).write_bytes(path.read_bytes()[: 99 if i == 1 else None])
    return folder


def test_0_done(shell, trained, phantoms, tmp_path):
    assert shell("data", "check", phantoms).code == 0
    assert shell("predict", trained / "model", phantoms / "images", "--out", tmp_path / "out").code == 0
    assert len(list((tmp_path / "out/masks").iterdir())) == 24


def test_1_something_keeps_a_training_from_starting(shell, phantoms, tmp_path):
    data = shutil.copytree(phantoms, tmp_path / "data")
    broken = sorted((data / "images").iterdir())[0]
    broken.write_bytes(b"RIFF    WEBP")
    done = shell("data", "check", data)
    assert done.code == 1
    assert "holds a WebP image" in " ".join(done.out.split())


def test_2_some_inputs_could_not_be_read_the_others_are_done(shell, trained, images, tmp_path):
    done = shell("predict", trained / "model", images, "--out", tmp_path / "out")
    good, bad, last = sorted(images.iterdir())
    assert done.code == 2
    assert [path.name for path in sorted((tmp_path / "out/masks").iterdir())] == [good.name, last.name]
    assert done.err.strip().count("\n") == 0
    assert f"{bad} cannot be read as an image" in done.err
    assert set(np.unique(np.asarray(Image.open(tmp_path / "out/masks" / good.name)))) <= {0, 255}


def test_2_nothing_is_overwritten(shell, trained, images, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    assert "nothing is overwritten" in shell("predict", trained / "model", images, "--out", tmp_path / "out").sentence
    assert (tmp_path / "out/notes.txt").read_text() == "mine"


def test_130_interrupted(shell, phantoms, monkeypatch):
    import allukan.data

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(allukan.data, "check_dataset", interrupt)
    done = shell("data", "check", phantoms)
    assert done.code == 130
    assert "Traceback" not in done.err


def test_the_page_lists_these_codes():
    rows = PAGE.read_text(encoding="utf-8").split("## Exit codes")[1].splitlines()
    assert [row.split("|")[1].strip() for row in rows if row.startswith("| ")] == ["code", "0", "1", "2", "130"]
