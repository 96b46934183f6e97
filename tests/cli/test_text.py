"""Names of any language, and names full of what consoles, tables and pages take for their own, through every command."""

import csv
import json
import os
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from PIL import Image

from allukan.data import write_phantoms
from allukan.files import read_table

CODE = """
import json, os, sys, warnings
warnings.filterwarnings("error", category=EncodingWarning, module="allukan")
from allukan.cli.main import main
for command in json.loads(sys.stdin.buffer.read()):
    sys.argv = ["allukan", *(os.fsdecode(text.encode()) for text in command)]  # as the shell would give them
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""
BARE = "bare C locale"
MACHINES = {  # what the file system, files and pipes are encoded in
    BARE: {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "Windows code page in pipes": {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "0", "PYTHONIOENCODING": "cp1252"},
}
IDS = ("患者 {}", "läsion [red]{}[/red]", "🩻 {}", "a,b;{}")
CLASSES = ("läsion", "all", "病变 [1]")


def language_dataset(root, count=12):
    """Three classes and ids that ASCII and cp1252 cannot hold; every other mask in the other Unicode form."""
    write_phantoms(root / "p", count=count, size=32, seed=1)
    for i, path in enumerate(sorted((root / "p/images").iterdir())):
        name = IDS[i % len(IDS)].format(i).replace("/", "⁄")
        for folder in ("data [x]/images", *(f"data [x]/masks/{name}" for name in CLASSES)):
            (root / folder).mkdir(parents=True, exist_ok=True)
        path.rename(root / f"data [x]/images/{unicodedata.normalize('NFD', name)}.png")
        for label in CLASSES:
            mask = (np.asarray(Image.open(root / f"p/masks/0/{path.name}")) > 0) * np.uint8(255)
            Image.fromarray(np.roll(mask, 3 * len(label))).save(root / f"data [x]/masks/{label}/{name}.png")
    return root / "data [x]"


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_every_command_in_every_language(tmp_path, machine):
    data, out = language_dataset(tmp_path), tmp_path / ("runs" if machine == BARE else "läuf 患者")
    run, other = out / "one [red]1", out / "two"
    fast = ["--model", "allukan-tiny", "--size", "32", "--epochs", "1", "--accelerator", "cpu", "--devices", "1"]
    commands = [
        ["data", "check", data],
        ["train", data, "--out", run, *fast],
        ["train", data, "--out", other, *fast],
        ["evaluate", run, "--device", "cpu"],
        ["evaluate", other, "--device", "cpu"],
        ["predict", run / "model", data / "images", "--out", tmp_path / "masken 患者", "--device", "cpu"],
        ["report", run, other, "--out", tmp_path / "bericht.html", "--title", "läsion <患者>", "--device", "cpu"],
        ["compare", run, other],
        ["compare", run, other, "--out", tmp_path / "tabelle.md", "--figure", tmp_path / "f.svg"],
        ["compare", run, other, "--format", "latex", "--out", tmp_path / "tabelle.tex"],
    ]
    names = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-c", CODE],
        input=json.dumps([list(map(str, command)) for command in commands]).encode(),
        capture_output=True,
        check=False,
        env={**names, **MACHINES[machine], "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]
    out = done.stdout.decode("ascii" if machine == BARE else "cp1252")
    assert "Ready to train." in out
    assert "[red]1/model" in out
    _check_results(tmp_path, data, run)


def _check_results(root, data, run):
    ids = {unicodedata.normalize("NFC", path.stem) for path in (data / "images").iterdir()}
    rows = read_table(run / "evaluation/cases.csv")
    assert {row["class"] for row in rows} == set(CLASSES)
    tested = json.loads((run / "splits.json").read_text(encoding="utf-8"))["test"]
    assert sorted({row["id"] for row in rows}) == sorted(tested)
    assert set(tested) < ids
    with (run / "evaluation/cases.csv").open(encoding="utf-8", newline="") as file:  # by another reader than ours
        assert [row["id"] for row in csv.DictReader(file)] == [row["id"] for row in rows]
    for label in CLASSES:
        masks = (root / "masken 患者/masks" / label).iterdir()
        assert {unicodedata.normalize("NFC", path.stem) for path in masks} == ids
    page = (root / "bericht.html").read_text(encoding="utf-8")
    assert "läsion &lt;患者&gt;" in page
    assert "one [red]1" in page
    assert "病变 [1]" in page
    assert "one [red]1" in (root / "tabelle.md").read_text(encoding="utf-8")
    assert "one [red]1" in (root / "tabelle.tex").read_text(encoding="utf-8")
