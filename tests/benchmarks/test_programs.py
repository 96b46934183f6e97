import json

import pytest

QUICK = ["--device", "cpu", "--repeats", "1", "--seconds", "0.01"]
LAYERS = ["bench", "layers", "--channels", "4", "--px", "6", "--features", "4", "--samples", "4", *QUICK]


def test_layers_print_a_table_and_write_it(shell, tmp_path):
    out = tmp_path / "layers.json"
    done = shell(*LAYERS, "--variants", "ka,stacked", "--threads", "1", "--out", out)
    assert done.code == 0, done
    assert done.out.startswith("| layer ")
    assert "Conv2d + SiLU" in done.out
    assert "torch-conv-kan: not found; clone https://github.com/IvanDrokin/torch-conv-kan" in done.out
    assert "1 threads, 32-true" in done.out
    result = json.loads(out.read_text())
    assert result["benchmark"] == "layers"
    assert result["threads"] == 1
    assert {"Conv2d + SiLU", "Linear + SiLU", "ka", "stacked"} <= {row["name"] for row in result["rows"]}
    assert any("U-KAN" not in note and "not found" in note for note in result["notes"])
    assert shell(*LAYERS, "--variants", "ka", "--out", out).code == 0  # a result of ours is replaced


def test_models(shell):
    done = shell(
        "bench",
        "models",
        "--variants",
        "ka",
        "--size",
        "tiny",
        "--px",
        "32",
        "--in-channels",
        "1",
        *QUICK,
        "--others",
        "convtwin-tiny",
    )
    assert done.code == 0, done
    assert [line.split()[1] for line in done.out.splitlines()[2:5]] == ["conv", "ka", "convtwin-tiny"]


def test_efficiency_writes_result_figure_and_page(shell, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Title\n<!-- efficiency -->\n<!-- /efficiency -->\n")
    files = ["--out", tmp_path / "e.json", "--figure", tmp_path / "e.png", "--page", page]
    done = shell("bench", "efficiency", "--models", "allukan-tiny", "--px", "32", "--batch", "2", *QUICK, *files)
    assert done.code == 0, done
    assert json.loads((tmp_path / "e.json").read_text())["benchmark"] == "efficiency"
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")
    assert "| allukan-tiny " in page.read_text()
    assert "commit" in page.read_text()


@pytest.mark.slow
def test_gradients(shell):
    done = shell("bench", "gradients", "--size", "tiny", "--px", "32", "--in-channels", "1", *QUICK)
    assert done.code == 0, done
    assert "stacked checkpointed" in done.out


def test_train(shell):
    options = ["--px", "32", "--batch", "4", "--count", "12", "--epochs", "1", "--device", "cpu"]
    done = shell("bench", "train", "--models", "convtwin-tiny", *options)
    assert done.code == 0, done
    assert "images per second" in done.out


def test_kernels(shell):
    options = ["--channels", "4", "--px", "6", "--batch", "1", "--device", "cpu", "--repeats", "1"]
    done = shell("bench", "kernels", "--dtypes", "float32", *options)
    assert done.code == 0, done
    assert "1×4×6×6" in done.out
    assert "eager" in done.out
    assert "bfloat16" not in done.out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
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
        (["train", "--models", "allukan-tyny"], "unknown model 'allukan-tyny'"),
        (["train", "--models", ""], "models"),
        (["train", "--out", "nowhere/result.json"], "nowhere is not a folder"),
    ],
)
def test_wrong_use(shell, arguments, word):
    assert word in shell("bench", *arguments).sentence


def test_a_file_of_somebody_else_is_not_overwritten(shell, tmp_path):
    (tmp_path / "thesis.json").write_text('{"chapter": 1}')
    assert "is not overwritten" in shell(*LAYERS, "--out", tmp_path / "thesis.json").sentence
    assert (tmp_path / "thesis.json").read_text() == '{"chapter": 1}'
