"""A hub folder is a model folder is a hub folder. Nothing here talks to the Hub."""

import dataclasses
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from allukan import AllUKAN, build_model, load_model
from allukan.errors import UserError
from allukan.files import read_json
from allukan.inference import Predictor
from allukan.models import ModelCard, load_card, save_model
from tests.integrations.conftest import SMALL, uneven

MET = "activations.safetensors"
FILES = {"README.md", "config.json", "model.safetensors", MET}  # too few validation images for a likeness


@pytest.fixture
def folder(shell, trained, tmp_path):
    assert shell("export", trained, "--format", "hub", "--out", tmp_path / "hub").code == 0
    return tmp_path / "hub"


def test_the_folder_is_a_model_folder_and_the_only_thing_there(folder, trained):
    assert {path.name for path in folder.iterdir()} == FILES
    assert (folder / MET).read_bytes() == (trained / "model" / MET).read_bytes()
    assert [path.name for path in folder.parent.iterdir()] == ["hub"]
    (ours, card), (theirs, other) = load_model(folder), load_model(trained / "model")
    assert card == other
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    assert Predictor(folder).card == card


def test_its_readme_says_what_the_run_says(folder, trained):
    text = (folder / "README.md").read_text(encoding="utf-8")
    summary = read_json(trained / "evaluation/summary.json")
    dice = summary["overall"]["dice"]
    assert f"{dice['mean']:.3f} ({dice['low']:.3f} … {dice['high']:.3f})" in text
    assert f"| all | {summary['overall']['cases']} |" in text
    assert "Dataset `phantoms`, protocol `clean`: " in text
    assert "epochs 1" in text
    assert "Not a medical device" in text
    assert str(trained.parent) not in text  # paths of this machine are nobody's business
    front = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert "library_name: allukan" in front[1]


def test_likeness_goes_along(shell, trained, tmp_path):
    from allukan.models import calibrate_likeness, load_likeness

    model = shutil.copytree(trained / "model", tmp_path / "model")
    network = load_model(model)[0].eval()
    shape = (1, load_card(model).in_channels, *load_card(model).size)
    calibrate_likeness(model, network, 9, lambda i: torch.randn(shape, generator=torch.Generator().manual_seed(i)))
    assert shell("export", model, "--format", "hub", "--out", tmp_path / "hub").code == 0
    assert torch.equal(load_likeness(tmp_path / "hub", network).distances, load_likeness(model, network).distances)


def test_without_a_run_or_an_evaluation_the_readme_says_so(shell, trained, tmp_path):
    save_model(tmp_path / "alone", *load_model(trained / "model"))
    assert shell("export", tmp_path / "alone", "--format", "hub", "--out", tmp_path / "a").code == 0
    assert "exported without its run" in (tmp_path / "a/README.md").read_text(encoding="utf-8")
    (run := tmp_path / "run").mkdir()
    for name in ("config.yaml", "splits.json", "model"):
        (run / name).symlink_to(trained / name)
    (tmp_path / "b").mkdir()  # an empty folder is no folder in use
    assert shell("export", run, "--format", "hub", "--out", tmp_path / "b").code == 0
    assert "Not evaluated yet" in (tmp_path / "b/README.md").read_text(encoding="utf-8")


def test_scores_of_other_weights_are_not_told(shell, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    network, card = load_model(trained / "model")
    save_model(tmp_path / "run/model", uneven(network), card)  # the training went on
    said = shell("export", tmp_path / "run", "--format", "hub", "--out", tmp_path / "hub").sentence
    assert "has scores of an earlier state" in said
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize("name", ["model", "copy"])
def test_a_model_in_a_folder_of_something_else_has_no_run(shell, trained, tmp_path, name):
    shutil.copytree(trained / "model", tmp_path / name)
    (tmp_path / "config.yaml").write_text("defaults: []\n")
    assert shell("export", tmp_path / name, "--format", "hub", "--out", tmp_path / "hub").code == 0
    assert "exported without its run" in (tmp_path / "hub/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("out", [".", "../link"])
def test_an_empty_folder_is_filled(monkeypatch, shell, trained, tmp_path, out):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty")
    assert shell("export", trained, "--format", "hub", "--out", out).code == 0
    assert {path.name for path in Path.cwd().iterdir()} == FILES
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "link"}


def test_a_folder_in_use_is_left_alone(shell, trained, tmp_path):
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub/mine").touch()
    assert "hub exists: choose another --out" in shell("export", trained, "--format", "hub", "--out", tmp_path / "hub").sentence
    assert [path.name for path in (tmp_path / "hub").iterdir()] == ["mine"]


def test_what_goes_wrong_leaves_nothing(monkeypatch, shell, trained, tmp_path):
    monkeypatch.setattr("allukan.integrations.hub.torch.equal", lambda a, b: False)
    assert "computes something else" in shell("export", trained, "--format", "hub", "--out", tmp_path / "hub").sentence
    assert not list(tmp_path.iterdir())


def test_without_huggingface_hub_a_sentence_says_what_to_install(monkeypatch, trained):
    from allukan.models import pretrained

    pretrained._hub.cache_clear()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'allukan\[hub\]'"):
        AllUKAN.from_pretrained(trained / "model")


class TestPretrained:
    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("huggingface_hub")

    def test_there_and_back(self, folder, trained, tmp_path):
        network = AllUKAN.from_pretrained(folder)
        assert type(network) is AllUKAN
        assert not network.training
        network.save_pretrained(tmp_path / "again")
        assert {path.name for path in (tmp_path / "again").iterdir()} == {"README.md", "config.json", "model.safetensors"}
        other, card = load_model(tmp_path / "again")
        x = torch.randn(1, 1, 40, 32)
        assert torch.equal(other(x), load_model(trained / "model")[0](x))
        assert card == network.card == load_model(trained / "model")[1]
        assert "library_name: allukan" in (tmp_path / "again/README.md").read_text(encoding="utf-8")

    def test_a_model_folder_is_a_hub_folder(self, trained):
        assert AllUKAN.from_pretrained(trained / "model").in_channels == 1

    def test_a_network_of_ones_own_needs_its_card(self, tmp_path):
        network = AllUKAN(1, 1, size="tiny", **SMALL)
        with pytest.raises(UserError, match="give card="):
            network.save_pretrained(tmp_path)
        with pytest.raises(UserError, match="give card="):
            network.push_to_hub("user/name")
        card = ModelCard("allukan-tiny", 1, ("mass",), "binary", (32, 32), (0.5,), (0.2,), options=SMALL)
        network.save_pretrained(tmp_path, card)
        assert AllUKAN.from_pretrained(tmp_path).card == card

    @pytest.mark.parametrize(
        "change", [{"spline": {"base": "relu"}}, {"spline": {"grid_range": (-2.0, 2.0)}}, {"spline": {"grid_size": 5}}]
    )
    def test_a_card_of_another_network_is_refused(self, tmp_path, change):
        """Whoever loads the folder builds what the card says."""
        network = AllUKAN(1, 1, size="tiny", **SMALL, **change)
        card = ModelCard("allukan-tiny", 1, ("mass",), "binary", (32, 32), (0.5,), (0.2,), options=SMALL)
        with pytest.raises(UserError, match="the network is not the 'allukan-tiny' of its card"):
            network.save_pretrained(tmp_path / "new", card)
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize(
        ("layer", "change"),
        [
            ("conv", {"spline": {"base": "relu"}}),
            ("ka", {"topology": {**SMALL["topology"], "strides": [2, 2, 2, 2, [1, 2]]}}),
            ("ka", {"order": "layer-first"}),
        ],
        ids=["activation", "strides", "layers"],
    )
    def test_what_has_no_weights_must_be_that_of_the_card(self, tmp_path, layer, change):
        network = AllUKAN(1, 1, size="tiny", layer=layer, **(SMALL | change))
        model = {"conv": "convtwin-tiny", "ka": "allukan-tiny"}[layer]
        card = ModelCard(model, 1, ("mass",), "binary", (32, 32), (0.5,), (0.2,), options=SMALL)
        before = torch.get_rng_state()
        with pytest.raises(UserError, match=f"the network is not the {model!r} of its card"):
            network.save_pretrained(tmp_path / "new", card)
        assert torch.equal(torch.get_rng_state(), before)

    def test_how_it_is_computed_may_differ_from_the_card(self, tmp_path):
        network = AllUKAN(1, 1, size="tiny", **SMALL, spline={"impl": "eager", "recompute": False})
        card = ModelCard("allukan-tiny", 1, ("mass",), "binary", (32, 32), (0.5,), (0.2,), options=SMALL)
        network.save_pretrained(tmp_path, card)
        assert AllUKAN.from_pretrained(tmp_path).card == card

    def test_what_is_uploaded_is_the_model_folder(self, monkeypatch, folder):
        import huggingface_hub

        sent = []

        class Api:
            def __init__(self, token=None):
                pass

            def create_repo(self, repo_id, **options):
                return type("Repository", (), {"repo_id": repo_id})

            def upload_folder(self, folder_path, **options):
                sent.extend(sorted(path.name for path in Path(folder_path).iterdir()))
                return "commit"

        monkeypatch.setattr(huggingface_hub.hub_mixin, "HfApi", Api)
        assert AllUKAN.from_pretrained(folder).push_to_hub("user/name") == "commit"
        assert sent == ["README.md", "config.json", "model.safetensors"]

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda f: (f / "model.safetensors").unlink(), "model.safetensors cannot be read as weights"),
            (lambda f: (f / "config.json").unlink(), "holds no trained model"),
            (lambda f: (f / "config.json").write_text("{}"), "is not a model description"),
            (lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04pickle"), "cannot be read as weights"),
        ],
    )
    def test_what_is_no_model_is_told_in_a_sentence(self, folder, spoil, words):
        spoil(folder)
        with pytest.raises(UserError, match=words):
            AllUKAN.from_pretrained(folder)

    def test_what_is_not_there_is_told_in_a_sentence(self, tmp_path):
        for name in ("somebody/nothing", str(tmp_path / "gone")):
            with pytest.raises(UserError, match="is no folder, and the Hub gives no model of that name"):
                AllUKAN.from_pretrained(name, local_files_only=True, cache_dir=tmp_path)

    def test_another_kind_of_network_is_refused(self, folder):
        card = dataclasses.replace(load_card(folder), model="unet", options={})
        save_model(folder, build_model("unet", in_channels=1, out_channels=1), card)
        with pytest.raises(UserError, match=r"holds a 'unet', which is no AllUKAN: use allukan\.load_model"):
            AllUKAN.from_pretrained(folder)
