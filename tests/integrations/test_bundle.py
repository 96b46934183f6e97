"""A MONAI bundle, used as MONAI's own commands use it: in a process of its own that knows nothing of allukan."""

import csv
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from allukan.integrations.bundle_schema import SCHEMA
from allukan.models import load_model

MISSING = [name for name in ("fire", "ignite", "jsonschema") if find_spec(name) is None]
OFFLINE = {"http_proxy": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"}


@pytest.fixture(scope="module")
def bundle(trained, tmp_path_factory) -> Path:
    from allukan.integrations.bundle import export_bundle
    from allukan.integrations.source import open_source

    return export_bundle(open_source(trained), tmp_path_factory.mktemp("bundles") / "bundle")


def monai_bundle(bundle, *arguments, cwd):
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", *map(str, arguments)]
    environment = {**os.environ, **OFFLINE}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def read(folder):
    return {path.name: np.asarray(Image.open(path)) for path in folder.iterdir()}


def test_it_holds_what_the_specification_asks_for(bundle):
    names = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    configs = {"configs/metadata.json", "configs/metadata.schema.json", "configs/inference.json", "configs/evaluate.json"}
    assert names == {*configs, "models/model.pt", "docs/README.md", "LICENSE"}
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_the_weights_are_those_of_the_model(bundle, trained):
    state = torch.load(bundle / "models/model.pt", weights_only=True)
    wanted = load_model(trained / "model")[0].state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)


def test_the_ids_are_those_that_monai_label_asks_for(bundle):
    config = json.loads((bundle / "configs/inference.json").read_text())
    asked = {
        "bundle_root",
        "device",
        "network_def",
        "network",
        "preprocessing",
        "postprocessing",
        "inferer",
        "dataset",
        "dataloader",
    }
    assert asked | {"evaluator", "handlers", "output_dir", "dataset_dir"} <= config.keys()
    formats = json.loads((bundle / "configs/metadata.json").read_text())["network_data_format"]
    assert list(formats["inputs"]) == ["image"]
    assert formats["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "0"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m.pop("task"),
        lambda m: m.update(version=1),
        lambda m: m["network_data_format"].pop("outputs"),
        lambda m: m["network_data_format"]["inputs"]["image"].pop("dtype"),
    ],
)
def test_the_schema_refuses_what_monai_refuses(bundle, spoil):
    jsonschema = pytest.importorskip("jsonschema")
    metadata = json.loads((bundle / "configs/metadata.json").read_text())
    jsonschema.validate(metadata, SCHEMA)
    spoil(metadata)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(metadata, SCHEMA)


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"needs {MISSING}: pip install 'allukan[bundle]'")
class TestMonai:
    def test_verifies_the_metadata_without_a_network(self, bundle):
        files = ["--meta_file", "configs/metadata.json", "--filepath", "configs/metadata.schema.json"]
        assert "verified with no error" in monai_bundle(bundle, "verify_metadata", *files, cwd=bundle)

    def test_gives_the_masks_of_predict_bit_for_bit(self, bundle, shell, trained, phantoms, tmp_path):
        images = phantoms / "images"
        assert shell("predict", trained / "model", images, "--out", tmp_path / "ours", "--device", "cpu").code == 0
        arguments = ["--config_file", "configs/inference.json", "--dataset_dir", images, "--output_dir", tmp_path / "theirs"]
        monai_bundle(bundle, "run", *arguments, cwd=bundle)
        ours, theirs = (read(tmp_path / who / "masks") for who in ("ours", "theirs"))
        assert len(ours) == 24
        assert ours.keys() == theirs.keys()
        assert 0.02 < np.mean([mask.mean() / 255 for mask in ours.values()]) < 0.98
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)

    def test_scores_as_evaluate_does(self, bundle, shell, trained, phantoms, tmp_path):
        assert shell("evaluate", trained, "--data", phantoms, "--out", tmp_path / "ours", "--device", "cpu").code == 0
        arguments = ["--config_file", "configs/evaluate.json", "--dataset_dir", phantoms, "--output_dir", tmp_path / "theirs"]
        monai_bundle(bundle, "run", *arguments, cwd=bundle)
        with (tmp_path / "ours/cases.csv").open(encoding="utf-8") as file:
            ours = [float(row["dice"]) for row in csv.DictReader(file) if row["status"] in ("ok", "missed")]
        name, value = (tmp_path / "theirs/metrics.csv").read_text(encoding="utf-8").strip().split(",")
        assert (name, len(ours) > 10) == ("val_mean_dice", True)  # MONAI leaves out the images in which there is nothing to find
        assert float(value) == pytest.approx(np.mean(ours), abs=1e-6)


def test_a_folder_in_use_is_left_alone(shell, trained, tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/mine").touch()
    said = shell("export", trained, "--format", "monai-bundle", "--out", tmp_path / "bundle").sentence
    assert "bundle exists: choose another --out" in said


def test_the_command_says_where_to_read_on(shell, trained, tmp_path):
    done = shell("export", trained / "model", "--format", "monai-bundle", "--out", tmp_path / "new/bundle")
    assert done.code == 0, done
    assert f"{tmp_path / 'new/bundle/docs/README.md'}" in done.out
    assert "python -m monai.bundle run" in (tmp_path / "new/bundle/docs/README.md").read_text(encoding="utf-8")
