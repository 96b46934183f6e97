"""Programs of torch, loaded where allukan cannot be imported."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from allukan.errors import UserError
from allukan.integrations import torch_export
from allukan.integrations.source import open_source
from allukan.models import ModelCard, save_model
from tests.integrations.conftest import SMALL, uneven

slow = pytest.mark.slow
ABOUT = {  # what the file says of its model
    "torch-export": "__import__('json').loads(extra['allukan.json'])",
    "aotinductor": "{k: __import__('json').loads(v) for k, v in run.get_metadata().items() if not k.startswith('AOTI_')}",
}
LOAD = {
    "torch-export": "torch.export.load(file, extra_files=extra).module()",
    "aotinductor": "torch._inductor.aoti_load_package(file)",
}


SHALLOW = {"topology": {**SMALL["topology"], "widths": [4, 8], "strides": [2, 2]}}  # every stage takes a minute to compile


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    card = ModelCard("allukan-tiny", 1, ("mass",), "binary", (48, 40), (0.5,), (0.2,), options=SHALLOW)
    return save_model(tmp_path_factory.mktemp("models") / "model", uneven(card.build()), card)


@slow
@pytest.mark.parametrize("kind", LOAD)
def test_it_runs_without_allukan(kind, shell, model, tmp_path):
    file = tmp_path / "model.pt2"
    done = shell("export", model, "--format", kind, "--out", file)
    assert done.code == 0, done
    assert "Loaded again" in done.out
    assert list(tmp_path.iterdir()) == [file]
    assert str(Path(torch_export.__file__).parents[2]).encode() not in file.read_bytes()
    network = open_source(model).network
    pairs = [(x, network(x).detach()) for x in (torch.randn(1, 1, 64, 90), torch.randn(3, 1, 48, 40))]
    torch.save(pairs, tmp_path / "pairs.pt")
    code = f"""import sys; sys.modules['allukan'] = None
import torch
extra = {{'allukan.json': ''}}
file, pairs = {str(file)!r}, torch.load({str(tmp_path / "pairs.pt")!r})
run = {LOAD[kind]}
with torch.inference_mode():
    assert all((run(x) - y).abs().max() < 1e-4 * max(1, y.abs().max()) for x, y in pairs)
about = {ABOUT[kind]}
assert (about['classes'], about['mean'], about['std'], about['size']) == (['mass'], [0.5], [0.2], [48, 40]), about
assert about['image'] == '(bytes / 255 - mean) / std'
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_a_size_that_torch_cannot_hold_is_refused(trained, tmp_path):
    with pytest.raises(UserError, match="sizes from 33 on, and the model was trained at 32×32"):
        torch_export.export_program(open_source(trained), tmp_path / "x.pt2")


@pytest.mark.parametrize("write", [torch_export.export_program, torch_export.export_aotinductor])
def test_nothing_is_overwritten(write, model, tmp_path):
    (tmp_path / "x.pt2").touch()
    with pytest.raises(UserError, match="exists: choose another"):
        write(open_source(model), tmp_path / "x.pt2")


def test_without_a_compiler_a_sentence_says_so(monkeypatch, model, tmp_path):
    from torch._inductor.exc import InvalidCxxCompiler

    def fail(*args, **options):
        raise InvalidCxxCompiler

    monkeypatch.setattr("torch._inductor.aoti_compile_and_package", fail)
    monkeypatch.setattr(torch_export, "_program", lambda *args: None)
    with pytest.raises(UserError, match="needs a compiler for C"):
        torch_export.export_aotinductor(open_source(model), tmp_path / "x.pt2")
    assert not list(tmp_path.iterdir())


def test_a_program_that_computes_something_else_is_not_written(monkeypatch, model, tmp_path):
    class Wrong:
        def module(self):
            return lambda x: torch.zeros(len(x), 1, *x.shape[2:])

    monkeypatch.setattr(torch_export, "_program", lambda *args: None)
    monkeypatch.setattr("torch.export.save", lambda program, file, extra_files: None)
    monkeypatch.setattr("torch.export.load", lambda file: Wrong())
    with pytest.raises(UserError, match="would differ from the model by"):
        torch_export.export_program(open_source(model), tmp_path / "x.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [torch_export.export_program, torch_export.export_aotinductor])
def test_an_empty_folder_is_no_file_and_what_lies_beside_it_stays(monkeypatch, write, model, tmp_path):
    monkeypatch.setattr(torch_export, "torch", None)  # nothing of it is reached
    (tmp_path / "x").mkdir()
    (tmp_path / "x.pt2").write_text("mine")
    with pytest.raises(UserError, match="exists: choose another"):
        write(open_source(model), tmp_path / "x")
    assert (tmp_path / "x.pt2").read_text() == "mine"


def test_a_network_of_one_size_is_refused_in_a_sentence(tmp_path):
    card = ModelCard("own:net", 1, ("a",), "binary", (48, 48), (0.5,), (0.2,))
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48 * 48, 48 * 48), torch.nn.Unflatten(1, (1, 48, 48)))
    with pytest.raises(UserError, match=r"'own:net' cannot be exported by torch\.export for images of any size"):
        torch_export.export_program(torch_export.Source(tmp_path, network, card, None), tmp_path / "x.pt2")
    assert not list(tmp_path.iterdir())
