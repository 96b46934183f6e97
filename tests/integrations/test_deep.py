"""Exports of a model of more than 8 bits: its normalisation goes along."""

import json

import numpy as np
import pytest
import torch

from allukan.data.intensities import standardised
from allukan.inference import Predictor
from allukan.integrations.bundle_parts import ReadImage
from allukan.integrations.onnx import _OfValues
from allukan.integrations.source import normalised, open_source
from allukan.models import ImageFile, ModelCard, save_model
from tests.integrations.conftest import uneven

HOW = ((30_000.0, 30_150.0, 30_080.0, 40.0), None)  # a channel that is clipped, and one that has mean 0 and deviation 1


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A model folder without a run, of two channels in one file, and a picture of 204 among 65,536 levels."""
    how = {"normalisation": "image", "intensities": HOW, "files": (ImageFile("*", 2),)}
    card = ModelCard("convtwin-tiny", 2, ("a",), "binary", (32, 32), (0.0,) * 2, (1.0,) * 2, **how)
    folder = tmp_path_factory.mktemp("deep")
    save_model(folder, uneven(card.build().eval()), card)
    picture = 30_000 + np.random.default_rng(4).integers(0, 205, (32, 32, 2)).astype(np.uint16)
    return folder, picture


def test_values_are_normalised_as_the_predictor_does(deep):
    folder, picture = deep
    source, predictor = open_source(folder), Predictor(folder, "cpu")
    values = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]
    wanted = torch.from_numpy(predictor(picture).probabilities)[None]
    with torch.no_grad():
        found = source.network(normalised(values, source.card)).sigmoid()
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    assert wanted.std() > 1e-3


def test_a_bundle_reads_what_the_predictor_reads(deep, tmp_path):
    import tifffile

    folder, picture = deep
    tifffile.imwrite(tmp_path / "x.tif", picture, photometric="minisblack", planarconfig="contig")
    source, predictor = open_source(folder), Predictor(folder, "cpu")
    read = ReadImage(source.card)({"image": str(tmp_path / "x.tif")})["image"].as_tensor()[None]
    with torch.no_grad():
        found = source.network(read).sigmoid()
    torch.testing.assert_close(found[0], torch.from_numpy(predictor(tmp_path / "x.tif").probabilities), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_onnx_takes_the_values_themselves(deep, tmp_path, caplog):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from allukan.integrations.onnx import export_onnx

    folder, picture = deep
    with caplog.at_level("WARNING", "allukan"):
        export_onnx(open_source(folder), tmp_path / "x.onnx", normalise=True)
    assert "normalised at the size at which they come" in caplog.text  # a smaller image is less spread
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": np.moveaxis(picture, -1, 0)[None].astype(np.float32)})
    assert np.allclose(1 / (1 + np.exp(-logits[0])), Predictor(folder, "cpu")(picture).probabilities, atol=1e-4)
    told = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    assert (told["image"], told["normalisation"]) == ("values of the file", "image")
    assert told["intensities"] == [list(HOW[0]), None]


@pytest.mark.parametrize("scale", [1.0, 1e-8])
def test_values_inside_an_onnx_file_are_those_of_predict(scale):
    picture = (scale * (5 + np.random.default_rng(0).normal(size=(9, 11, 1)))).astype(np.float32)
    constant = np.full((9, 11, 1), 3.3, np.float32)
    for one in (picture, constant):
        found = _OfValues((None,))(torch.from_numpy(np.moveaxis(one, -1, 0)[None].copy()))
        assert np.allclose(np.moveaxis(found[0].numpy(), 0, -1), standardised(one), atol=1e-3)
