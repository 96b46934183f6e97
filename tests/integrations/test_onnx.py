"""ONNX files against torch, for other batches and sizes than the exporter saw. An export takes seconds: few, and slow ones."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from allukan.errors import UserError
from allukan.inference import Predictor, fuse
from allukan.models import build_model
from allukan.nn import KAConv2d, Spline
from tests.integrations.conftest import SMALL, uneven

ROOT = Path(__file__).parents[2]
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
slow = pytest.mark.slow


def session(file):
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def metadata(file):
    return {name: json.loads(text) for name, text in session(file).get_modelmeta().custom_metadata_map.items()}


@slow
@pytest.mark.parametrize(
    ("dims", "sizes"),
    [
        (2, [(1, 64, 64), (2, 256, 256), (1, 200, 312), (3, 33, 50)]),
        (3, [(1, 40, 56, 40), (2, 32, 33, 47)]),
    ],
)
@torch.no_grad()
def test_one_file_serves_every_batch_and_size(dims, sizes):
    from allukan.integrations.onnx import to_onnx

    network = fuse(uneven(build_model("allukan-tiny", in_channels=1, out_channels=2, spatial_dims=dims, **SMALL).eval()))
    program, _, kept = to_onnx(network, 1, dims)
    running = session(program.model_proto.SerializeToString())
    assert kept == ()
    for batch, *size in sizes:
        x = torch.randn(batch, 1, *size)
        (found,) = running.run(None, {"image": x.numpy()})
        wanted = network(x)
        assert np.abs(found - wanted.numpy()).max() < 1e-4 * max(1, wanted.abs().max())


@slow
@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"norm": "batch"}, 13),
        ({}, 14),
        ({"spline": Spline(sharing="input")}, 21),
        ({"spline": Spline(sharing="edge")}, 20),
    ],
)
def test_a_layer_is_a_few_nodes(options, most):
    from allukan.integrations.onnx import to_onnx

    program, layers, _ = to_onnx(nn.Sequential(KAConv2d(4, 8, 3, padding=1, **options)), 4)
    kinds = [node.op_type for node in program.model.graph]
    assert layers == 1
    assert len(kinds) <= most, kinds
    assert kinds.count("GatherElements") == 2
    assert not {"Gather", "GatherND"} & set(kinds)  # 70 times as slow in onnxruntime


@slow
@torch.no_grad()
def test_padding_by_the_size_is_right_for_other_sizes():
    from allukan.integrations.onnx import to_onnx

    layers = nn.Sequential(KAConv2d(2, 4, 3, stride=2, padding="same"), KAConv2d(4, 4, 1, stride=3, padding="same"))
    program, *_ = to_onnx(layers, 2)
    running = session(program.model_proto.SerializeToString())
    for size in ((15, 16), (22, 37), (9, 9)):  # the exporter saw 64
        x = torch.randn(1, 2, *size)
        (found,) = running.run(None, {"image": x.numpy()})
        np.testing.assert_allclose(found, layers(x).numpy(), atol=1e-4)


@slow
def test_the_table_of_all_bases_is_stored_once():
    from allukan.integrations.onnx import to_onnx

    layers = [KAConv2d(4, 4, 1, norm="batch", spline=Spline(sharing="output")) for _ in range(2)]
    program, *_ = to_onnx(nn.Sequential(*layers), 4)
    assert len([value for value in program.model.graph.initializers.values() if value.const_value.nbytes > 100_000]) == 2


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """Bytes in, by the command; and what it said."""
    out = tmp_path_factory.mktemp("onnx") / "model.onnx"
    command = [sys.executable, "-m", "allukan", "export", trained, "--format", "onnx", "--normalise", "--out", out]
    done = subprocess.run(list(map(str, command)), capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return out, done


@slow
def test_the_command_tells_what_it_wrote(exported, trained, phantoms):
    out, done = exported
    about = metadata(out)
    assert list(out.parent.iterdir()) == [out]
    assert done.stderr == ""
    assert "on 4 images of phantoms." in done.stdout
    assert str(ROOT).encode() not in out.read_bytes()
    assert str(phantoms.parent).encode() not in out.read_bytes()
    assert 0 < about["largest_difference"] < 1e-4
    assert (about["classes"], about["threshold"], about["size"]) == (["0"], 0.45, [32, 32])
    assert about["image"] == "bytes"


@slow
def test_it_computes_what_the_predictor_does(exported, trained):
    predictor, running = Predictor(trained / "model", "cpu"), session(exported[0])
    for shape in ((1, 1, 32, 32), (2, 1, 70, 45)):
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        (logits,) = running.run(None, {"image": images})
        wanted = predictor.probabilities(torch.from_numpy(images)).numpy()
        assert np.abs(1 / (1 + np.exp(-logits)) - wanted).max() < 1e-4


@slow
def test_the_example_needs_no_torch(exported, trained, phantoms, tmp_path):
    image, mask = next((phantoms / "images").iterdir()), tmp_path / "mask.png"
    script = ROOT / "examples/onnx_predict.py"
    hidden = "for name in ('torch', 'allukan', 'monai'): sys.modules[name] = None"
    run = f"sys.argv[1:] = {list(map(str, (exported[0], image, mask)))}\nrunpy.run_path({str(script)!r})"
    subprocess.run([sys.executable, "-c", f"import runpy, sys\n{hidden}\n{run}"], check=True)
    wanted = Predictor(trained / "model", "cpu")(image).masks[0]
    found = np.asarray(Image.open(mask)) == 255
    assert found.shape == wanted.shape
    assert 0.02 < wanted.mean() < 0.98
    assert (found == wanted).mean() > 0.99


@pytest.fixture
def example(monkeypatch, tmp_path):
    """Runs it with a file of these metadata, whose one class or first of two is where the network sees more than 0.5."""

    def run(image, **about):
        class Session:
            def __init__(self, file):
                pass

            def get_modelmeta(self):
                return type("Meta", (), {"custom_metadata_map": {name: json.dumps(value) for name, value in known.items()}})

            def run(self, names, feed):
                return [20 * feed["image"][:, :1] - 10]

        known = {"mean": [0.0], "std": [1.0], "size": [8, 6], "image": "(bytes / 255 - mean) / std", "normalisation": "training"}
        known |= {"target": "binary", "threshold": 0.5, "label_values": [], "classes": ["a"]} | about
        monkeypatch.setitem(sys.modules, "onnxruntime", type("Runtime", (), {"InferenceSession": Session}))
        monkeypatch.setattr(sys, "argv", ["onnx_predict.py", "model.onnx", str(image), str(tmp_path / "mask.png")])
        runpy.run_path(str(ROOT / "examples/onnx_predict.py"))
        return np.asarray(Image.open(tmp_path / "mask.png"))

    return run


def test_the_example_turns_an_image_as_its_file_says_and_keeps_large_values(example, tmp_path):
    half = np.zeros((8, 6), np.uint8)
    half[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(half).save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(example(tmp_path / "x.png"), half[::-1])
    assert np.array_equal(example(tmp_path / "x.png", label_values=[300]), half[::-1] // 255 * np.uint16(300))


@pytest.mark.parametrize("about", [{}, {"normalisation": "image"}, {"mean": [0.0, 0.0]}], ids=["16 bits", "values", "channels"])
def test_the_example_refuses_what_it_would_get_wrong(example, tmp_path, about):
    kind = np.uint8 if about else np.uint16
    Image.fromarray(np.full((8, 6), 200, kind)).save(tmp_path / "x.png")
    with pytest.raises(SystemExit, match="pictures of 8 bits"):
        example(tmp_path / "x.png", **about)


def test_the_example_is_short():
    code = (ROOT / "examples/onnx_predict.py").read_text(encoding="utf-8").split('"""')[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= 30


@slow
def test_half_precision_without_normalisation_and_without_the_dataset(shell, trained, tmp_path):
    from allukan.integrations.onnx import export_onnx
    from allukan.integrations.source import open_source

    report = export_onnx(open_source(trained / "model"), tmp_path / "a/half.onnx", half=True, opset=20)
    about = metadata(report.path)
    assert (about["precision"], about["image"]) == ("float16", "(bytes / 255 - mean) / std")
    assert report.difference < 0.05
    kinds = {tensor.data_type for tensor in __import__("onnx").load(report.path).graph.initializer}
    assert 10 in kinds  # float16


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "onx"], "unknown format 'onx': did you mean 'onnx'?"),
        (["--format", "onnx", "--opset", "17"], "opset 17 cannot hold the model: give one from 18 to"),
        (["--format", "hub", "--normalise"], "--normalise belongs to --format onnx."),
    ],
)
def test_a_wrong_call_ends_in_a_sentence(shell, trained, tmp_path, arguments, words):
    assert words in shell("export", trained, "--out", tmp_path / "x", *arguments).sentence
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(shell, trained, tmp_path):
    (tmp_path / "x").write_text("mine")
    assert "exists: choose another --out" in shell("export", trained, "--format", "onnx", "--out", tmp_path / "x").sentence


def test_a_missing_package_is_named(monkeypatch, shell, trained, tmp_path):
    from allukan.integrations import source

    monkeypatch.setattr(source, "find_spec", lambda name: None if name == "onnxruntime" else True)
    sentence = shell("export", trained, "--format", "onnx", "--out", tmp_path / "x").sentence
    assert "needs the package onnxruntime: pip install 'allukan[onnx]'" in sentence


@torch.no_grad()
def test_a_file_that_computes_something_else_is_not_written(monkeypatch, trained, tmp_path):
    from allukan.integrations import onnx, source

    class Wrong:
        def __init__(self, *args, **options):
            pass

        def run(self, names, feed):
            image = feed["image"]
            return [np.zeros((len(image), 1, *image.shape[2:]), np.float32)]

    class Program:
        model_proto = type("Proto", (), {"SerializeToString": staticmethod(bytes)})

    monkeypatch.setattr("onnxruntime.InferenceSession", Wrong)
    monkeypatch.setattr(onnx, "to_onnx", lambda *args, **options: (Program, 1, ()))
    with pytest.raises(UserError, match="would differ from the model by"):
        onnx.export_onnx(source.open_source(trained), tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


@slow
@torch.no_grad()
def test_a_model_of_volumes(shell, tmp_path):
    from allukan.models import ModelCard, save_model

    how = {"spatial_dims": 3, "spacing_mm": (2.0, 1.0, 1.0), "intensities": ((-100.0, 300.0, 50.0, 80.0), None), "options": SMALL}
    card = ModelCard("allukan-tiny", 2, ("one", "two"), "multiclass", (32, 32, 40), (), (), **how)
    network = uneven(card.build()).eval()
    save_model(tmp_path / "m", network, card)
    words = ["export", tmp_path / "m", "--format", "onnx", "--out", tmp_path / "m.onnx"]
    assert "volumes are normalised as wholes" in shell(*words, "--normalise").sentence
    done = shell(*words)
    assert done.code == 0, done.err
    assert "on a volume of noise." in done.out
    about = metadata(tmp_path / "m.onnx")
    assert (about["size"], about["spacing_mm"], about["intensities"]) == ([32, 32, 40], [2, 1, 1], [[-100, 300, 50, 80], None])
    assert "towards head, back and left" in about["image"]
    assert "mean" not in about
    x = torch.randn(1, 2, 40, 56, 40)
    (found,) = session(tmp_path / "m.onnx").run(None, {"image": x.numpy()})
    wanted = network(x)
    assert np.abs(found - wanted.numpy()).max() < 1e-4 * max(1, wanted.abs().max())


def test_images_come_from_the_dataset_or_are_phantoms(trained, phantoms):
    from allukan.integrations.source import images_to_try, open_source

    images, told = images_to_try(open_source(trained))
    assert (len(images), images[0].shape, told) == (4, (48, 48, 1), "4 images of phantoms")
    alone = open_source(trained)
    alone.run.config["data"] = str(phantoms / "gone")
    images, told = images_to_try(alone)
    assert (len(images), images[0].shape, told) == (4, (32, 32, 1), "4 phantoms")


@slow
def test_a_network_of_another_library_takes_every_size(tmp_path):
    from allukan.integrations.onnx import export_onnx
    from allukan.integrations.source import Source
    from allukan.models import ImageFile, ModelCard

    options = {"options": {"channels": [4, 8]}, "files": (ImageFile("*_t1", 1, "T1"), ImageFile("*_t2", 1, "T2"))}
    card = ModelCard("attention-unet", 2, ("a",), "binary", (32, 32), (0.5,) * 2, (0.2,) * 2, **options)
    source = Source(tmp_path, card.build().eval(), card, None)
    export_onnx(source, tmp_path / "x.onnx")
    assert [file["name"] for file in metadata(tmp_path / "x.onnx")["files"]] == ["T1", "T2"]
    for size in ((2, 2, 64, 50), (1, 2, 33, 48)):
        x = torch.randn(size)
        (found,) = session(tmp_path / "x.onnx").run(None, {"image": x.numpy()})
        assert np.abs(found - source.network(x).numpy()).max() < 1e-4


def test_what_an_exporter_says_is_told_in_a_sentence(monkeypatch, trained, tmp_path):
    from allukan.integrations import onnx, source

    def fail(*args, **options):
        raise RuntimeError("Sizes of tensors must match\nand more")

    monkeypatch.setattr(onnx, "to_onnx", fail)
    with pytest.raises(
        UserError, match=r"'allukan-tiny' cannot be exported to ONNX .*RuntimeError: 'Sizes of tensors must match'"
    ):
        onnx.export_onnx(source.open_source(trained), tmp_path / "x.onnx")


def test_foreign_code_is_tried_at_a_size_that_halves_as_often():
    from allukan.integrations.source import another_size
    from allukan.models import ModelCard

    assert another_size(ModelCard("own:net", 1, ("a",), "binary", (96, 64), (0.5,), (0.2,))) == (96, 128)
