"""``allukan doctor``: what it says of a machine that is well, and how it tells what is wrong."""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import numba
import pytest
import torch

from allukan.doctor import engines, packages, selftest
from allukan.ops import shared_spline
from allukan.ops.engines import dispatch
from allukan.provenance import installed


@pytest.fixture
def spoil(monkeypatch):
    """Lets what one engine computes go through ``change``."""

    def one(engine, change):
        def spoiled(*inputs, impl):
            return change(shared_spline(*inputs, impl=impl)) if impl == engine else shared_spline(*inputs, impl=impl)

        monkeypatch.setattr(selftest, "shared_spline", spoiled)

    return one


def test_a_machine_that_is_well(shell):
    done = shell("doctor")
    assert done.code == 0, done
    text = " ".join(done.out.split())
    assert f"torch {version('torch')}" in text
    assert f"numba {numba.__version__}" in text
    for engine in ("native", "eager", "aten"):
        assert f"test {engine} on cpu right: relative error" in text
    assert "test KAConv2d on cpu right" in text
    assert f"{torch.get_num_threads()} threads of torch" in text
    assert "engine on cpu native;" in text
    assert text.endswith("All is well.")


def test_json_has_everything(shell):
    done = shell("doctor", "--json")
    assert done.code == 0, done
    found = json.loads(done.out)
    assert found["problem"] == ""
    assert {package["name"] for package in found["packages"] if package["required"]} >= {"torch", "numba", "monai"}
    [cpu] = [engine for engine in found["engines"] if engine["device"] == "cpu"]
    assert cpu["chosen"] == "native"
    assert cpu["obstacles"]["native"] == ""
    assert cpu["obstacles"]["triton"]
    assert found["loops"]["writable"] is True
    checks = {check["name"]: check for check in found["checks"] if check["device"] == "cpu"}
    assert {"eager", "native", "aten", "KAConv2d"} <= set(checks)
    assert all(0 < check["value_error"] < 1e-5 and 0 < check["gradient_error"] < 1e-4 for check in checks.values())


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda y: 1.1 * y, "its value is 1e-01 and its gradient 1e-01 away from the reference"),
        (lambda y: y + 0.1 * (y - y.detach()), "its value is 7e-08 and its gradient 1e-01"),
        (lambda y: y * float("nan"), "its value is nan"),
        (lambda y: y[:1], "ValueError: shape (1, 8, 48, 48) where (2, 8, 48, 48) is right"),
    ],
)
def test_a_broken_engine(shell, spoil, change, word):
    spoil("native", change)
    done = shell("doctor")
    assert done.code == 1
    assert done.err.startswith("allukan: the self-test failed: native on cpu: ")
    assert word in done.err
    assert done.err.endswith("; Spline(impl='eager') does without it.\n")
    assert "test eager on cpu right" in " ".join(done.out.replace("wrong", "").split())
    assert "All is well" not in done.out


def test_a_broken_engine_as_json(shell, spoil):
    spoil("eager", lambda y: -y)
    done = shell("doctor", "--json")
    assert done.code == 1
    assert "eager on cpu" in json.loads(done.out)["problem"]


def test_an_engine_that_cannot_run_says_why(shell, monkeypatch):
    reason = "it needs the package numba: pip install numba"
    monkeypatch.setitem(dispatch.UNAVAILABLE, "native", reason)
    monkeypatch.setattr(engines, "choose", dispatch._chosen.__wrapped__)
    done = shell("doctor", "--json")
    assert done.code == 0, done
    found = json.loads(done.out)
    assert found["engines"][0]["obstacles"]["native"] == reason
    assert found["engines"][0]["chosen"] == "eager"
    assert found["loops"] is None
    names = {check["name"] for check in found["checks"]}
    assert {"eager", "aten"} <= names
    assert "native" not in names


def test_packages_that_are_missing_or_too_old(shell, monkeypatch):
    there = {"monai": "1.0", "triton": None, "dynamic-network-architectures": None}
    monkeypatch.setattr(packages, "installed", lambda name: there[name] if name in there else installed(name))
    done = shell("doctor")
    assert done.code == 1
    wanted = next(text for text in requires("allukan") if text.startswith("monai"))
    assert done.err == f"allukan: the package monai 1.0 is not what is needed: pip install '{wanted}'\n"
    text = " ".join(done.out.split())
    gives = packages.GIVES["nnunet-nets"]
    assert f"dynamic-network-architectures missing; optional, {gives}: pip install 'allukan[nnunet-nets]'" in text
    assert "triton missing; optional, for CUDA" in text


def test_every_extra_says_what_it_gives():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {*packages.GIVES} == {*project["optional-dependencies"]} - {"dev", "docs"}


def test_without_torch_it_still_says_what_to_do():
    code = "import sys; sys.modules['torch'] = None; sys.argv = ['allukan', 'doctor']\n"
    code += "from allukan.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("allukan: torch cannot be imported")
    assert "packages" in done.stdout
