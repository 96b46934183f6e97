"""A MONAI bundle of a model of volumes, against the predictor: of several kinds, spacings and orientations of files."""

import csv
import json

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose

from allukan.data import Splits
from allukan.errors import UserError
from allukan.inference import Predictor
from allukan.integrations.bundle import export_bundle, inference, metadata
from allukan.integrations.bundle_parts import ReadImage, dataset, images
from allukan.integrations.bundle_schema import SCHEMA
from allukan.integrations.bundle_volumes import SaveVolumeMasks, ToVolumeMasks, WindowInferer
from allukan.integrations.source import open_source
from allukan.models import ImageFile, ModelCard, load_card, load_model, save_model
from tests.integrations.conftest import uneven
from tests.integrations.test_bundle import MISSING, monai_bundle
from tests.volume_sets import blobs, save

AFFINES = {  # x, y, z in mm: one as the model has it, one of other voxels that is turned and mirrored
    "plain.nii.gz": np.diag([2, 1, 0.5, 1.0]),
    "deep/turned.nii": np.array([[0, 0, -1.5, 7], [1.1, 0, 0, -3], [0, 0.8, 0, 5], [0, 0, 0, 1.0]]),
}


def made(folder, target="multiclass"):
    """A model of random weights whose answer is different everywhere, of windows smaller than the volumes."""
    how = {"spatial_dims": 3, "spacing_mm": (0.5, 1.0, 2.0), "normalisation": "image", "files": (ImageFile("*", 1, "MRI"),)}
    how |= {"label_values": (1, 2)} if target == "multiclass" else {}
    card = ModelCard("convtwin-tiny", 1, ("one", "two"), target, (16, 16, 16), (0.0,), (1.0,), **how)
    network = uneven(card.build()).eval()
    with torch.no_grad():
        last = list(network.head.children())[-1]
        last.weight.mul_(5)
        last.bias -= network(torch.randn(1, 1, *card.size)).mean(dim=(0, 2, 3, 4))
    return save_model(folder, network, card)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("volumes"), np.random.default_rng(0)
    for name, affine in AFFINES.items():
        save(folder / name, random.normal(100, 20, (14, 12, 18)).astype(np.float32), affine)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of such a model, on a set of three volumes."""
    root = tmp_path_factory.mktemp("run")
    blobs(root / "data", 3, (14, 12, 10), np.diag([2, 1, 0.5, 1]))
    made(root / "run/model")
    Splits("clean", 0, ("b00",), ("b01",), ("b02",)).save(root / "run/splits.json")
    (root / "run/config.yaml").write_text(f"data: {root / 'data'}\n")
    return root / "run"


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory):
    return export_bundle(open_source(run), tmp_path_factory.mktemp("bundles") / "bundle")


@torch.inference_mode()
@pytest.mark.parametrize("target", ["multiclass", "multilabel"])
def test_masks_are_those_of_the_predictor_in_the_geometry_of_the_file(target, volumes, tmp_path):
    network, card = load_model(made(tmp_path / "model", target))
    predictor, inferer = Predictor(tmp_path / "model", "cpu"), WindowInferer(card)
    after = Compose([ToVolumeMasks(card), SaveVolumeMasks(str(tmp_path / "out"), card)])
    for item in images(str(volumes), card):
        read = ReadImage(card)(item)
        assert read["image"].shape[1:] == scaled_shape(item["image"][0], card)
        pred = inferer(read["image"].unsqueeze(0), network)[0]
        wanted = predictor.masks(item["image"])
        assert np.array_equal(after({**read, "pred": pred})["pred"].numpy() > 0, wanted)
        assert 0.01 < wanted.mean() < 0.99
    names = {path.relative_to(tmp_path / "out/masks").as_posix() for path in (tmp_path / "out/masks").rglob("*.nii*")}
    folders = [""] if target == "multiclass" else ["one/", "two/"]
    assert names == {folder + name for folder in folders for name in AFFINES}


def scaled_shape(file, card):
    """Of a volume with the voxels of the training: axes (S, P, L) after the axes of the file are turned."""
    image = nibabel.as_closest_canonical(nibabel.load(file))
    extent = np.multiply(image.shape, image.header.get_zooms())[::-1]
    return tuple(np.round(extent / card.spacing_mm).astype(int))


def test_the_configuration_knows_the_volumes(run):
    card = load_card(run / "model")
    parser = ConfigParser(json.loads(json.dumps(inference(card))))
    assert parser.get_parsed_content("card") == card
    tensor = metadata(card)["network_data_format"]["inputs"]["image"]
    assert (tensor["spatial_shape"], tensor["is_patch_data"]) == ([16, 16, 16], True)
    assert tensor["channel_def"] == {"0": "MRI"}
    pytest.importorskip("jsonschema").validate(metadata(card), SCHEMA)


def test_numbers_that_are_not_finite_are_no_masks(run, volumes):
    card = load_card(run / "model")
    read = ReadImage(card)(images(str(volumes), card)[0])
    with pytest.raises(UserError, match="turned with numbers that are not finite"):
        ToVolumeMasks(card)({**read, "pred": torch.full((card.out_channels, *read["image"].shape[1:]), float("nan"))})


def test_pictures_are_no_volumes(run, phantoms):
    card = load_card(run / "model")
    with pytest.raises(UserError, match=r"no images in .*: known are .*\.nii\.gz"):
        images(str(phantoms / "images"), card)
    with pytest.raises(UserError, match="holds pictures, but the model expects volumes"):
        dataset(str(phantoms), card, open_source(run).run.label_rules)


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"needs {MISSING}: pip install 'allukan[bundle]'")
class TestMonai:
    def test_gives_the_masks_of_predict_voxel_for_voxel(self, bundle, shell, run, volumes, tmp_path):
        assert shell("predict", run / "model", volumes, "--out", tmp_path / "ours", "--device", "cpu").code == 0
        arguments = ["--config_file", "configs/inference.json", "--dataset_dir", volumes, "--output_dir", tmp_path / "theirs"]
        monai_bundle(bundle, "run", *arguments, cwd=bundle)
        for name, affine in AFFINES.items():
            ours, theirs = (nibabel.load(tmp_path / who / "masks" / name) for who in ("ours", "theirs"))
            assert np.array_equal(np.asanyarray(ours.dataobj), np.asanyarray(theirs.dataobj))
            assert np.array_equal(theirs.affine, ours.affine)
            assert np.allclose(theirs.affine, affine)
            assert len(np.unique(np.asanyarray(theirs.dataobj))) > 1

    def test_scores_as_evaluate_does(self, bundle, shell, run, tmp_path):
        data = run.parent / "data"
        assert shell("evaluate", run, "--data", data, "--out", tmp_path / "ours", "--device", "cpu").code == 0
        arguments = ["--config_file", "configs/evaluate.json", "--dataset_dir", data, "--output_dir", tmp_path / "theirs"]
        monai_bundle(bundle, "run", *arguments, cwd=bundle)
        with (tmp_path / "ours/cases.csv").open(encoding="utf-8") as file:
            ours = [float(row["dice"]) for row in csv.DictReader(file)]
        name, value = (tmp_path / "theirs/metrics.csv").read_text(encoding="utf-8").strip().split(",")
        assert (name, len(ours)) == ("val_mean_dice", 6)
        assert float(value) == pytest.approx(np.mean(ours), abs=1e-6)
