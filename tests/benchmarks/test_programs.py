"""Every program from the command line: its table, its files, and what it refuses."""

import inspect
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from allukan.data import open_dataset
from allukan.models import ModelCard
from allukan.training import pace
from benchmarks import volume_slices
from tests.volume_sets import blob, decathlon

ROOT = Path(__file__).parents[2]
QUICK = ["--device", "cpu", "--repeats", 1, "--seconds", 0.01]
LAYERS = ["--channels", 4, "--px", 6, "--features", 4, "--samples", 4, *QUICK]
PROGRAMS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/gpu/QUEUE.md")]
PAGES += [*(ROOT / "docs/evidence").glob("*.md"), *(ROOT / "benchmarks/studies").glob("*.yaml")]


def options_of(name):
    module = import_module(f"benchmarks.{name}")
    command = module.program._command() if hasattr(module, "program") else getattr(module, name.rpartition(".")[2])
    return {option.replace("_", "-") for option in inspect.signature(command).parameters}


def test_these_are_the_programs():
    bench = ["efficiency", "gradients", "kernels", "layers", "models", "training"]
    studies = ["ablation_study", "curves", "depth_study", "gradient_study", "tta"]
    other = ["likeness", "nnunet", "onnx_runtime", "volume_memory", "volumes"]
    assert sorted([*bench, *studies, *other]) == PROGRAMS


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_names_every_option(program, name):
    code, out, _ = program(name, "--help")
    assert code == 0
    assert "--out" in out


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_in_the_pages_have_programs_and_options(page):
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for name, arguments in re.findall(r"python -m benchmarks\.([a-z_.]+)([^`\n|]*)", text):
        assert name in (*PROGRAMS, "proxy.cells", "proxy.table", "proxy.frontier", "proxy.pictures")
        given = set(re.findall(r"--([\w-]+)", arguments))
        assert given <= options_of(name), given


def test_it_runs_from_the_root_of_a_checkout():
    command = [sys.executable, "-m", "benchmarks.kernels", "--channels", "0"]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "benchmarks: option channels must be a whole number of at least 1, got 0.\n"


def test_layers_print_a_table_and_write_it(program, tmp_path):
    path = tmp_path / "layers.json"
    code, out, err = program("layers", *LAYERS, "--variants", "ka, stacked", "--threads", 1, "--out", path)
    assert code == 0, err
    assert out.startswith("| layer ")
    assert "Conv2d + SiLU" in out
    assert "torch-conv-kan: not found; clone https://github.com/IvanDrokin/torch-conv-kan" in out
    assert "1 threads, 32-true" in out
    result = json.loads(path.read_text())
    assert result["benchmark"] == "layers"
    assert (result["threads"], result["precision"], result["compile"]) == (1, "32-true", False)
    assert {"Conv2d + SiLU", "Linear + SiLU", "ka", "stacked"} <= {row["name"] for row in result["rows"]}
    assert any("U-KAN" not in note and "not found" in note for note in result["notes"])
    assert program("layers", *LAYERS, "--variants", "ka", "--out", path)[0] == 0  # a result of ours is replaced


def test_models(program):
    options = ["--variants", "ka", "--size", "tiny", "--px", 32, "--in-channels", 1, "--others", "convtwin-tiny"]
    code, out, err = program("models", *options, *QUICK)
    assert code == 0, err
    assert [line.split()[1] for line in out.splitlines()[2:5]] == ["conv", "ka", "convtwin-tiny"]


@pytest.mark.slow
def test_efficiency_writes_result_figure_and_page(program, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Title\n<!-- efficiency -->\n<!-- /efficiency -->\n")
    files = ["--out", tmp_path / "e.json", "--figure", tmp_path / "e.png", "--page", page]
    code, out, err = program("efficiency", "--models", "allukan-tiny", "--px", 32, "--batch", 2, *QUICK, *files)
    assert code == 0, err
    result = json.loads((tmp_path / "e.json").read_text())
    assert (result["benchmark"], result["images"]) == ("efficiency", "2×3×32×32")
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")
    assert "| allukan-tiny " in page.read_text()
    assert out.split("\nWritten")[0].strip() in page.read_text()


@pytest.mark.slow
def test_gradients(program):
    code, out, err = program("gradients", "--size", "tiny", "--px", 32, "--in-channels", 1, *QUICK)
    assert code == 0, err
    assert "stacked checkpointed" in out


def test_training(program):
    options = ["--px", 32, "--batch", 4, "--count", 12, "--epochs", 1, "--device", "cpu"]
    code, out, err = program("training", "--models", "convtwin-tiny", *options)
    assert code == 0, err
    assert "images per second" in out


def test_kernels(program):
    options = ["--channels", 4, "--px", 6, "--batch", 1, "--device", "cpu", "--repeats", 1]
    code, out, err = program("kernels", "--dtypes", "float32", *options)
    assert code == 0, err
    assert "1×4×6×6" in out
    assert "eager" in out
    assert "bfloat16" not in out


@pytest.mark.slow
def test_the_memory_of_a_volume(program, tmp_path):
    options = ["--model", "convtwin-tiny", "--shape", "40,20,24", "--window", "16,16,16", "--voxel-mm", "2,0.75,0.75"]
    code, out, err = program("volume_memory", *options, "--out", tmp_path / "v.json")
    assert code == 0, err
    (row,) = json.loads((tmp_path / "v.json").read_text())["rows"]
    assert row["windows"] == 2 * 2 * 2
    assert 2**27 < row["peak_bytes"] < 2**32  # torch alone is more than the one, a few voxels are no reason for the other
    assert "40×20×24" in out
    assert "three sides each" in program("volume_memory", "--shape", "20,24")[2]


@pytest.mark.slow
def test_the_depth_study(program, tmp_path):
    page, path = tmp_path / "page.md", tmp_path / "d.json"
    page.write_text("<!-- depth -->\n<!-- /depth -->\n")
    files = ["--out", path, "--page", page, "--figure", tmp_path / "d.svg"]
    code, out, err = program("depth_study", "--depths", 2, "--depths", 3, "--steps", 2, *files)
    assert code == 0, err
    result = json.loads(path.read_text())
    assert result["benchmark"] == "depth study"
    assert {row["depth"] for row in result["rows"]} == {2, 3}
    assert all(len(row["losses"]) == 2 for row in result["rows"])
    assert all(len(row["norms_after"]) == row["depth"] for row in result["rows"])
    assert out.splitlines()[0] in page.read_text()
    assert (tmp_path / "d.svg").stat().st_size > 1000


@pytest.mark.slow
def test_the_gradient_study(program, tmp_path):
    sizes = ["--px", 32, "--train", 16, "--val", 4, "--epochs", 3, "--seeds", 1]
    code, out, err = program("gradient_study", *sizes, "--out", tmp_path / "g.json", "--figure", tmp_path / "g.png")
    assert code == 0, err
    result = json.loads((tmp_path / "g.json").read_text())
    assert result["data"] == "phantoms"
    ways = {row["name"]: row["train_loss"] for row in result["rows"] if "train_loss" in row}
    assert ways["exact"] == ways["checkpointed"] != ways["free"]
    assert "cosine of λ" in out
    assert (tmp_path / "g.png").stat().st_size > 1000


def test_the_ablation_study_needs_runs(program, tmp_path):
    code, _, err = program("ablation_study", tmp_path)
    assert (code, err) == (2, "benchmarks: no run of 'default' is finished: there are none at all.\n")


@pytest.mark.slow
def test_volumes_are_trained_one_by_one_and_the_table_is_of_what_is_there(program, tmp_path, monkeypatch):
    random, shape = np.random.default_rng(0), (20, 16, 14)
    cases = [blob(random, shape) for _ in range(10)]
    arrays = {"images": [image for image, _ in cases], "labels": [labels for _, labels in cases]}
    flat = {name: np.concatenate([one.ravel() for one in found]).astype(np.uint8) for name, found in arrays.items()}
    np.savez(tmp_path / "set.npz", ids=[f"v{i}" for i in range(10)], shapes=[shape] * 10, **flat)
    monkeypatch.setattr(pace, "epochs_for", lambda *times: 1)
    monkeypatch.setattr(pace, "_MORE", float("inf"))
    page, path = tmp_path / "page.md", tmp_path / "v.json"
    page.write_text("<!-- volumes -->\n<!-- /volumes -->\n")
    files = ["--work", tmp_path / "work", "--out", path, "--page", page]
    options = [tmp_path / "set.npz", "--models", "convtwin-tiny", "--seeds", 2, "--budget", "1h", *files]
    assert program("volumes", *options, "--only", "none")[2].endswith("is finished.\n")
    code, out, err = program("volumes", *options, "--only", "convtwin-tiny-1")
    assert code == 0, err
    (row,) = json.loads(path.read_text())["rows"]
    assert (row["seed"], row["epochs"], set(row["scores"])) == (1, 1, {"Anterior", "Posterior"})
    assert row["mean Dice"] == pytest.approx(np.mean([np.mean(list(d.values())) for d in row["scores"].values()]), abs=1e-4)
    again = program("volumes", *options, "--only", "none")  # what is finished stays
    assert again[1].splitlines()[:3] == out.splitlines()[:3]
    assert out.splitlines()[0] in page.read_text()
    code, out, err = program("volumes", *options, "--slices", "convtwin-tiny", "--only", "convtwin-tiny-slices-1")
    assert code == 0, err
    whole, flat_row = json.loads(path.read_text())["rows"]
    assert (flat_row["model"], flat_row["patch"]) == ("convtwin-tiny-slices", "32×32")
    assert {name: set(found) for name, found in flat_row["scores"].items()} == {n: set(f) for n, f in whole["scores"].items()}
    of_volumes, of_slices = (
        json.loads((tmp_path / f"work/convtwin-tiny{kind}-1/splits.json").read_text()) for kind in ("", "-slices")
    )
    for part in ("train", "val", "test"):
        assert {name.rpartition("_")[0] for name in of_slices[part]} == set(of_volumes[part])


def test_slices_are_scored_as_the_volume_that_they_make(tmp_path):
    """Oracle: Dice of the whole volume, by a predictor that goes by the values alone."""
    random = np.random.default_rng(0)
    cases = {f"b{i}": blob(random, (20, 16, 14)) for i in range(2)}
    data = open_dataset(decathlon(tmp_path / "v", cases))
    slices = open_dataset(volume_slices.write_slices(data, tmp_path / "s"))
    assert (len(slices.cases), slices.classes, slices.spatial_dims) == (2 * 14, ("one", "two"), 2)

    class Knowing:
        card = ModelCard("convtwin-tiny", 1, ("one", "two"), "multiclass", (32, 32), (0.0,), (1.0,), label_values=(1, 2))

        def probabilities(self, planes):
            return torch.cat([torch.full_like(planes, 0.5), (planes > 1).float(), (planes < -1).float()], 1)

    values, labels = cases["b0"]
    scaled = (values - values.mean()) / values.std()
    rows = volume_slices.score(Knowing(), data.cases[0], data)
    for row, found, number in zip(rows, (scaled > 1, scaled < -1), (1, 2), strict=True):
        truth = labels == number
        assert row["dice"] == pytest.approx(2 * (found & truth).sum() / (found.sum() + truth.sum()), abs=0.01)
        assert row["dice"] > 0.5


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["volumes", "nowhere.npz", "--work", "w"], "nowhere.npz is not there"),
        (["kernels", "--dtypes", "int8"], "int8"),
        (["kernels", "--px", "0"], "px"),
        (["layers", "--variants", "kan"], "unknown variant 'kan'"),
        (["layers", "--peers", "nowhere"], "nowhere is not a folder"),
        (["layers", "--threads", "0"], "threads"),
        (["layers", "--device", "abacus"], "device 'abacus'"),
        (["layers", "--spatial-dims", "4"], "spatial_dims"),
        (["models", "--size", "huge"], "size 'huge'"),
        (["models", "--others", "unett"], "did you mean 'unet'"),
        (["models", "--precision", "fp4"], "precision 'fp4'"),
        (["models", "--px", "8"], "px"),
        (["efficiency", "--models", "unett"], "did you mean 'unet'"),
        (["efficiency", "--page", "nowhere.md"], "has no lines"),
        (["efficiency", "--figure", "figure.txt"], "cannot be drawn"),
        (["gradients", "--repeats", "0"], "repeats"),
        (["depth_study", "--steps", "1"], "steps"),
        (["gradient_study", "--seeds", "0"], "seeds"),
        (["training", "--models", "allukan-tyny"], "unknown model 'allukan-tyny'"),
        (["training", "--models", ""], "models"),
        (["training", "--out", "nowhere/result.json"], "nowhere is not a folder"),
    ],
)
def test_wrong_use(program, arguments, word):
    code, _, err = program(*arguments)
    assert code == 2
    assert err.count("\n") == 1, err
    assert word in err


def test_a_file_of_somebody_else_is_not_overwritten(program, tmp_path):
    (tmp_path / "thesis.json").write_text('{"chapter": 1}')
    assert "is not overwritten" in program("layers", *LAYERS, "--out", tmp_path / "thesis.json")[2]
    assert (tmp_path / "thesis.json").read_text() == '{"chapter": 1}'
