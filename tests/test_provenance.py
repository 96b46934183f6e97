"""What a result records of its origin."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from allukan.provenance import commit, environment, installed, processor

ROOT = Path(__file__).parents[1]


def test_the_commit_is_that_of_the_package_and_of_nobody_else(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    assert commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed/code.py").write_text("")
    (tmp_path / "own.txt").write_text("1")
    for arguments in (["init", "-q"], ["add", "own.txt"], ["commit", "-qm", "own"]):
        subprocess.run([*git, *arguments], check=True)
    assert commit(tmp_path / "installed") is None
    head = commit(tmp_path)
    assert head
    assert len(head) == 40
    (tmp_path / "own.txt").write_text("2")
    assert commit(tmp_path) == head + "-dirty"


@pytest.mark.parametrize(("start", "said"), [(["-m", "asker"], "python -m asker"), (["asker.py"], "asker.py")])
def test_the_command_is_the_one_that_was_typed(tmp_path, start, said):
    (tmp_path / "asker.py").write_text("from allukan.provenance import command\nprint(command())\n")
    run = [sys.executable, *start, "--out", "a b"]
    done = subprocess.run(run, cwd=tmp_path, env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=True)
    assert done.stdout == f"{said} --out 'a b'\n"


def test_the_environment_names_what_computes():
    where = environment("cpu")
    assert where["device"] == processor()
    assert where["versions"]["torch"] == installed("torch")
    assert installed("package-that-nobody-has") is None
