"""The machine code of the loops is kept where that is possible, and nothing else depends on it."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest
from numba.core import caching

import allukan
from allukan.cli.console import show_log
from allukan.ops.engines import native_cache

TEXT = "def double(x):\n    return 2 * x\n"


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """Makes a function of a file of its own, which is compiled anew every time."""
    monkeypatch.setattr(native_cache, "_SAID", [])
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "kernels.py"
    path.write_text(TEXT)

    def make():
        namespace = {}
        exec(compile(TEXT, str(path), "exec"), namespace)
        return native_cache.compiled(namespace["double"])

    return make


def files(tmp_path):
    return sorted(p for p in (tmp_path / "cache").rglob("*") if p.suffix in (".nbi", ".nbc"))


def test_it_is_kept_and_found_again(kernels, tmp_path, caplog):
    assert kernels()(2.0) == 4.0
    assert len(files(tmp_path)) == 2
    again = kernels()
    with caplog.at_level(logging.DEBUG, "allukan"):
        assert again(3.0) == 6.0
    assert sum(again.stats.cache_hits.values()) == 1, caplog.text  # which says why, if files could not be read


def test_other_sources_have_files_of_their_own(kernels, tmp_path, monkeypatch):
    kernels()(2.0)
    monkeypatch.setattr(native_cache, "code_version", lambda: "another")
    other = kernels()
    assert other(2.0) == 4.0
    assert not other.stats.cache_hits
    assert len(files(tmp_path)) == 4


def test_the_version_is_that_of_every_file_of_the_loops(tmp_path, monkeypatch):
    folder = Path(native_cache.__file__).parent
    for name in native_cache._SOURCES:
        shutil.copy(folder / name, tmp_path / name)
    monkeypatch.setattr(native_cache, "__file__", str(tmp_path / "native_cache.py"))
    version = native_cache.code_version.__wrapped__
    assert version() == native_cache.code_version()
    for name in native_cache._SOURCES:
        before = version()
        (tmp_path / name).write_text((tmp_path / name).read_text() + "\n")
        assert version() != before


def test_the_first_use_is_announced_and_no_other(kernels, capsys):
    """In a line on the terminal of whoever uses the commands."""
    native_cache._announce.cache_clear()
    show_log()
    kernels()(2.0)
    kernels()(3)  # another type: compiled, and not told again
    assert capsys.readouterr().err == (
        "compiling the loops for this CPU, this time only: about 3 seconds, as many again for the first backward pass\n"
    )
    native_cache._announce.cache_clear()
    kernels()(2.0)
    assert capsys.readouterr().err == ""


def test_only_what_is_asked_for_is_compiled():
    team = pytest.importorskip("allukan.ops.engines.native_team")
    openmp = team.loaded_openmp()
    if openmp is None:
        pytest.skip("torch runs on no OpenMP of GNU's here")
    entries = team.kernels.team_entries(openmp)
    assert not entries
    assert entries["expand"] > 0
    assert list(entries) == ["expand"]


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("content", [b"", b"\x80\x04nonsense", None])
def test_what_is_damaged_is_made_again(kernels, tmp_path, suffix, content, caplog):
    kernels()(2.0)
    for path in files(tmp_path):
        if path.suffix == suffix:
            path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    with caplog.at_level(logging.WARNING):
        assert kernels()(3.0) == 6.0
        again = kernels()
        assert again(3.0) == 6.0
    assert sum(again.stats.cache_hits.values()) == 1
    assert not caplog.records


def test_nowhere_to_keep_it_is_one_line(kernels, monkeypatch, caplog):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with caplog.at_level(logging.WARNING):
        assert kernels()(2.0) == 4.0
        assert kernels()(2) == 4
    assert [r.getMessage() for r in caplog.records] == [
        "the loops for CPUs are compiled anew by every process (no folder can be written to): "
        "set NUMBA_CACHE_DIR to a folder that can be written"
    ]


def test_a_full_disk_is_one_line(kernels, monkeypatch, caplog):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_data", full)
    with caplog.at_level(logging.WARNING):
        assert kernels()(2.0) == 4.0
        assert kernels()(2) == 4
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text


@pytest.mark.slow
def test_a_package_that_cannot_be_written_without_a_home_is_imported(tmp_path):
    """Permissions do not bind root, so files stand where the folders of the caches would be."""
    copy, file = tmp_path / "install" / "allukan", tmp_path / "file"
    shutil.copytree(Path(allukan.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    file.touch()
    (copy / "ops" / "engines" / "__pycache__").touch()
    nowhere = {"HOME": f"{file}/home", "XDG_CACHE_HOME": f"{file}/cache", "NUMBA_CACHE_DIR": f"{file}/numba"}
    code = (
        "from allukan.ops.engines import dispatch, native_kernels as n\n"
        "assert 'native' in dispatch.ENGINES, dispatch.UNAVAILABLE\n"
        "import numpy as np\n"
        "sums, out = np.ones((6, 1, 2)), np.zeros(2, np.float32)\n"
        "n.finish(sums.ctypes.data, *sums.shape, out.ctypes.data, out[1:].ctypes.data)\n"
        "print(out[0], type(n.finish._cache).__name__)\n"
    )
    environment = {**os.environ, **nowhere, "PYTHONPATH": str(copy.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["6.0", "_Nowhere"]
    assert "Traceback" not in done.stderr
    assert done.stderr.count("compiled anew") == 1
