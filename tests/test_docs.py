"""The documentation as a site: every page is reached, every link leads somewhere, every tutorial does what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
TUTORIALS = sorted(path.stem for path in (DOCS / "tutorials").glob("*.md"))


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_every_tutorial_runs(tmp_path):
    options = ["-W", "--keep-going", "-q", "-b", "html"]
    command = [sys.executable, "-m", "sphinx", *options, DOCS, tmp_path / "site"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in TUTORIALS:
        page = (tmp_path / "site/tutorials" / f"{name}.html").read_text(encoding="utf-8")
        assert "cell_output" in page
        assert "Traceback" not in page


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_command_of_a_tutorial_that_fails_stops_it(name):
    text = (DOCS / "tutorials" / f"{name}.md").read_text(encoding="utf-8")
    assert not re.search(r"^%%sh(?! -e$)", text, re.MULTILINE)
    assert len(re.findall("^!", text, re.MULTILINE)) == (name == "own-data")  # the one that shows a refusal
