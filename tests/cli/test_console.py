"""What is printed is what it is: brackets are no markup, lines are not wrapped, no encoding ends a command."""

import io
import logging
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from allukan.cli import console
from allukan.scores import METRICS

BRACKETS = "[red]data[_red] [1] :smile: [link=x]y"


@pytest.fixture
def bracketed(phantoms, tmp_path):
    """A dataset whose path is long, and full of what rich takes for markup."""
    root = tmp_path / BRACKETS / ("long " * 20) / "[bold]x"
    return shutil.copytree(phantoms, root)


def webp(root):
    return f"1 file in {root / 'images'}, as x.webp, ends in .webp, which is not read: convert it to PNG or TIFF."


def test_paths_are_printed_as_they_are(shell, bracketed, tmp_path):
    done = shell("data", "phantoms", bracketed / "[i]p", "--count", 4, "--size", 32)
    assert done.out.splitlines()[0] == f"4 images written to {bracketed / '[i]p'}"
    (bracketed / "images/x.webp").write_bytes(b"x")
    (bracketed / "images/phantom_01.png").write_bytes(b"x")
    said = shell("data", "check", bracketed).out.splitlines()
    assert f"note  {bracketed / 'images'}: {webp(bracketed)}" in said
    assert any(line.startswith(f"problem  phantom_01: {bracketed / 'images/phantom_01.png'} cannot be read") for line in said)
    assert f"{bracketed / 'images/phantom_01.png'} cannot be read" in shell("train", bracketed, "--out", tmp_path / "r").err


@pytest.mark.slow
def test_a_whole_run_below_such_a_path(shell, bracketed, tmp_path):
    run = bracketed / "[b]run"
    (bracketed / "images/x.webp").write_bytes(b"x")
    fast = ["--model", "allukan-tiny", "--size", "32", "--epochs", "1", "--accelerator", "cpu", "--devices", "1"]
    done = shell("train", bracketed, "--out", run, *fast)
    assert done.out == f"Trained model: {run / 'model'}\nNext: allukan evaluate {run}\n"
    assert webp(bracketed) in done.err.splitlines()
    assert f"Written: {run / 'evaluation/cases.csv'} and summary.json\n" in shell("evaluate", run, "--device", "cpu").out
    report = shell("report", run, "--out", run / "[u]r.html", "--device", "cpu")
    assert report.out.splitlines()[1] == f"Report: {run / '[u]r.html'}"
    predicted = shell("predict", run / "model", bracketed / "images", "--out", run / "[s]p", "--device", "cpu")
    assert predicted.out.splitlines() == [
        "Predicting 24 images by allukan-tiny.",
        f"24 of 24 images predicted: {run / '[s]p'}",
        f"Next: look at {run / '[s]p/overlays'}",
    ]
    assert predicted.err == f"{webp(bracketed)}\n"


def test_class_names_in_tables(capsys, make_summary):
    console.show_summary(make_summary(["[red]a", "all", "b" * 60]))
    out = capsys.readouterr().out
    assert "[red]a" in out
    assert out.count("all ") == 2  # all of them, and the class of that name
    assert out.count("b") >= 60


@pytest.fixture
def make_summary():
    def summary(classes):
        score = {"mean": 0.5, "low": 0.4, "high": 0.6}
        figures = {"cases": 3, "status": {"ok": 3}, **dict.fromkeys(METRICS, score)}
        found = {"model": "[b]m", "subset": "test", "distance_unit": "pixel", "overall": figures}
        return {**found, "classes": dict.fromkeys(classes, figures)}

    return summary


def test_progress_text_is_no_markup(capsys):
    with console.progress_bar("[red]x") as bar:
        bar.add_task("", total=1)
        assert bar.columns[0].render(bar.tasks[0]).plain == "[red]x"


def test_log_lines_are_one_line_each(capsys):
    log = logging.getLogger("allukan")
    console.show_log()
    log.warning(f"a {BRACKETS} {'long ' * 40}\nb")
    assert capsys.readouterr().err == f"a {BRACKETS} {'long ' * 40}\\nb\n"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "l\\xe4sion \\u60a3 0.1 ... 2x3 -> \\U0001fa7b l\\xe4 \\udce4"),
        ("cp1252", "läsion \\u60a3 0.1 … 2×3 -> \\U0001fa7b l\\xe4 \\udce4"),
        ("utf-8", "läsion 患 0.1 … 2×3 → 🩻 lä \\udce4"),
    ],
)
def test_what_a_stream_cannot_encode_is_spelled_out(monkeypatch, encoding, shown):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, newline="\n"))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding=encoding, newline="\n"))
    console.make_streams_safe()
    text = "läsion 患 0.1 … 2×3 → 🩻 l\udcc3\udca4 \udce4"
    console.say(text)
    print(text, flush=True)
    console.complain(text)
    sys.stderr.flush()
    assert raw.getvalue().decode(encoding) == f"{shown}\n" * 3


def test_the_help_names_every_default(shell):
    text = " ".join(shell("train", "--help").out.replace("│", " ").split())
    planned = "of volumes, and with memory or budget, planned"
    defaults = (
        f"[256; {planned}]",
        f"[8; {planned}]",
        "[clean]",
        "[layer;",
        "[exact;",
        "[auto]",
        "[clean 3e-3, ukan 1e-4]",
        "[no]",
        "[:COLUMN]",
    )
    for default in defaults:
        assert default in text, default


def test_names_of_files_do_not_steer_the_terminal(shell, tmp_path):
    name = "a\x1b[31m\nb"
    assert "a\\x1b[31m\\nb does not exist" in shell("train", tmp_path / name, "--out", tmp_path / "r").sentence


@pytest.fixture(scope="module")
def model(trained):
    return trained / "model"


def images(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 50), 99, np.uint8)).save(folder / name)
    return folder


def predicted(out):
    return sorted(str(path.relative_to(out / "masks")) for path in (out / "masks").rglob("*") if path.is_file())


def test_predict_takes_no_system_file_for_an_image(shell, model, tmp_path):
    root = images(tmp_path / ".cache/in", "scan.v2.png", "scan.v3.png", "deep/b.PNG", "con.png")
    images(
        root, ".ipynb_checkpoints/b-checkpoint.png", "deep/__MACOSX/b.png", "@eaDir/b.png", ".hidden/deep/b.png", "deep/.b.png"
    )
    (root / "deep/._b.png").write_bytes(b"junk")
    (root / "deep/Thumbs.db").write_bytes(b"junk")
    done = shell("predict", model, root, "--out", tmp_path / "o", "--device", "cpu", "--probabilities")
    assert (done.code, done.err) == (0, "")
    assert predicted(tmp_path / "o") == ["con.png", "deep/b.png", "scan.v2.png", "scan.v3.png"]
    assert (tmp_path / "o/probabilities/scan.v2.npz").is_file()
    assert not [path for path in (tmp_path / "o").rglob("*") if path.name.endswith(".part")]


def test_predict_names_what_it_does_not_read(shell, model, tmp_path):
    root = images(tmp_path / "in", "a.png")
    for name in ("b.webp", "c.webp", "d.nii.gz", "deep/IM0001"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    done = shell("predict", model, root, "--out", tmp_path / "o", "--device", "cpu")
    assert done.code == 0
    assert done.err.splitlines() == [
        f"1 file in {root / 'deep'}, as IM0001, has no suffix and is not read: convert it to PNG or TIFF.",
        f"1 file in {root}, as d.nii.gz, ends in .nii.gz, which is not read: convert it to PNG or TIFF.",
        f"2 files in {root}, as b.webp, end in .webp, which is not read: convert them to PNG or TIFF.",
    ]
    for name in ("b.webp", "d.nii.gz"):
        said = shell("predict", model, root / "a.png", root / name, "--out", tmp_path / "p", "--device", "cpu").sentence
        assert f"{name} ends in {name[1:]}, which is not read: convert it" in said
    (root / "a.png").unlink()
    said = shell("predict", model, root, "--out", tmp_path / "p", "--device", "cpu")
    assert said.code == 2
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("names", [("a.png", "a.jpg"), ("A.png", "a.png"), ("\u00e9.png", "e\u0301.png")])
def test_predict_writes_no_two_results_to_one_file(shell, model, tmp_path, names):
    root = images(tmp_path / "in", *names)
    said = shell("predict", model, root, "--out", tmp_path / "o", "--device", "cpu").sentence
    assert "would both be written to" in said
    assert not (tmp_path / "o").exists()


def test_predict_misses_a_link_that_leads_nowhere(shell, model, tmp_path):
    root = images(tmp_path / "in", "a.png")
    (root / "b.png").symlink_to(root / "gone.png")
    done = shell("predict", model, root, "--out", tmp_path / "o", "--device", "cpu")
    assert (done.code, done.err) == (2, f"allukan: {root / 'b.png'} does not exist.\n")
    assert predicted(tmp_path / "o") == ["a.png"]


def test_yaml_of_every_editor(shell, phantoms, tmp_path):
    fast = "model: convtwin-tiny\nsize: 32\nepochs: 1\naccelerator: cpu\ngroups: 're:(.)läsion|.$'  # 患者\nseed: 2\n"
    for name, content in {
        "a": fast.encode("utf-8-sig"),
        "b": fast.encode("utf-16"),
        "c": fast.encode("cp1252", "ignore"),
    }.items():
        (tmp_path / f"{name}.yaml").write_bytes(content)
    from allukan.errors import UserError
    from allukan.yaml_files import read_yaml

    assert read_yaml(tmp_path / "a.yaml") == read_yaml(tmp_path / "b.yaml")
    assert read_yaml(tmp_path / "a.yaml")["groups"] == "re:(.)läsion|.$"
    with pytest.raises(UserError, match=r"c\.yaml is not UTF-8 text \(byte \d+ cannot be read\): save it as UTF-8\.$"):
        read_yaml(tmp_path / "c.yaml")


@pytest.mark.slow
def test_a_run_folder_that_this_locale_cannot_spell(tmp_path, phantoms):
    out = os.fsencode(tmp_path) + b"/l\xe4"
    code = f"import os, sys; sys.argv = ['allukan', 'train', {str(phantoms)!r}, '--out', os.fsdecode({out!r})]\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}from allukan.cli.main import main; main()"],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.endswith("/l\\udce4 is not UTF-8 text in this locale: choose another, or set PYTHONUTF8=1.\n")
    assert list(tmp_path.iterdir()) == []


def told(capsys, monkeypatch, steps, total):
    """What the time left is said to be, of calls at these seconds with so much done."""
    left = console.TimeLeft()
    for second, done in steps:
        monkeypatch.setattr(console.time, "monotonic", lambda now=1000.0 + second: now)
        left(done, total)
    return capsys.readouterr().err


def test_the_time_left_is_told_once_by_what_came_after_the_first(capsys, monkeypatch):
    steps = [(30, 1), (32, 2), (34, 3), (36, 4), (38, 5)]  # the first took half a minute to compile
    assert told(capsys, monkeypatch, steps, 63) == "about 2 minutes left\n"
    assert told(capsys, monkeypatch, steps, 6) == ""  # not worth a line
    assert told(capsys, monkeypatch, steps[:2], 63) == ""
