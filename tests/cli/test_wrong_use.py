"""Every wrong use ends in one clear sentence, exit code 2, and nothing written."""

import json
import resource
import shutil
import signal

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

TRAIN = ["--model", "allukan-tiny", "--size", "32", "--epochs", "1", "--accelerator", "cpu", "--devices", "1"]


@pytest.fixture
def dataset(phantoms, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(phantoms, tmp_path / "data")


def first(dataset, folder="images"):
    return sorted((dataset / folder).iterdir())[0]


def no_masks(d):
    shutil.rmtree(d / "masks")
    return "mask"


def empty(d):
    shutil.rmtree(d)
    d.mkdir()
    return str(d)


def missing(d):
    shutil.rmtree(d)
    return "does not exist"


def masks_in_a_folder_of_another_name(d):
    (d / "masks/0").rename(d / "drawn")
    (d / "masks").rmdir()
    return f"if {d / 'drawn'} holds them, rename it to masks."


def mask_without_image(d):
    path = first(d)
    path.unlink()
    return path.stem


def image_without_mask(d):
    path = first(d, "masks/0")
    path.unlink()
    return path.stem


def sizes_differ(d):
    path = first(d, "masks/0")
    Image.open(path).resize((20, 20)).save(path)
    return path.name


def not_binary(d):
    path = first(d, "masks/0")
    Image.fromarray(np.arange(48 * 48, dtype=np.uint8).reshape(48, 48)).save(path)
    return path.name


def truncated(d):
    path = first(d)
    path.write_bytes(path.read_bytes()[:200])
    return path.name


def text_named_png(d):
    path = first(d)
    path.write_text("hello")
    return path.name


def nan_in_the_image(d):
    path = first(d)
    path.unlink()
    values = np.zeros((48, 48), np.float32)
    values[3, 4] = np.nan
    tifffile.imwrite(path.with_suffix(".tif"), values)
    return path.stem


def one_image_only(d):
    for path in sorted((d / "images").iterdir())[1:]:
        path.unlink()
        (d / "masks/0" / f"{path.stem}.png").unlink()
    return "1"


SPOILERS = [
    missing,
    empty,
    no_masks,
    masks_in_a_folder_of_another_name,
    mask_without_image,
    image_without_mask,
    sizes_differ,
    not_binary,
    truncated,
    text_named_png,
    nan_in_the_image,
    one_image_only,
]


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda f: f.__name__)
def test_spoiled_data(shell, dataset, tmp_path, spoil):
    word = spoil(dataset)
    assert word in shell("train", dataset, "--out", tmp_path / "run", *TRAIN).sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--size", "20"], "size '20'"),
        (["--size", "large"], "size 'large'"),
        (["--model", "alukan-tiny"], "did you mean 'allukan-tiny'"),
        (["--protocol", "fair"], "protocol 'fair'"),
        (["--precision", "fp4"], "precision 'fp4'"),
        (["--sharing", "most"], "sharing 'most'"),
        (["--input-grad", "none"], "input_grad 'none'"),
        (["--set", "options.spline.grid=3"], "grid"),
        (["--set", "epoch=3"], "did you mean 'epochs'"),
        (["--set", "epochs"], "NAME=VALUE"),
        (["--groups", "nowhere.csv"], "nowhere.csv"),
        (["--accelerator", "cuda"], "accelerator 'cuda'"),
        (["--accelerator", "abacus"], "accelerator 'abacus'"),
        (["--devices", "none"], "devices 'none'"),
        (["--lr", "-1"], "lr"),
        (["--lr", "inf"], "lr must be a number"),
        (["--seed", "-3"], "seed must be a whole number"),
        (["--set", "compile=no thanks"], "compile must be true or false, got 'no thanks'"),
        (["--set", "epochs=1e3"], "epochs must be a whole number"),
        (["--set", "options=3"], "options must be 'name: value' pairs"),
        (["--set", "options.spline.recompute=maybe"], "recompute must be true or false"),
        (["--batch-size", "1"], "batch norm has a single value"),
        (["--devices", "99"], "99 devices cannot share"),
        (["--init", "nowhere"], "holds no trained model"),
        (["--init-heads", "new"], "add --init RUN/model"),
    ],
)
def test_options_that_do_not_exist(shell, phantoms, tmp_path, options, word):
    if "cuda" in options:
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has the device")
    assert word in shell("train", phantoms, "--out", tmp_path / "run", *TRAIN, *options).sentence
    assert not (tmp_path / "run" / "model").exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["predict", "RUN"], "missing argument 'inputs'; see allukan predict --help."),
        (["predict", "RUN", "x.png"], "missing option '--out'; see allukan predict --help."),
        (["data", "check"], "missing argument 'folder'; see allukan data check --help."),
        (["data", "chek"], "no such command 'chek': did you mean 'check'? See allukan data --help."),
        (["train", "x", "--epochs", "many"], "invalid value for '--epochs': "),
        (["train", "x", "--epoch", "3"], "no such option: --epoch (Possible options: --epochs); see allukan train --help."),
        (["app", "RUN", "--port", "0"], "invalid value for '--port': "),
        (["train", "--out"], "option '--out' requires an argument."),
    ],
)
def test_a_command_line_that_cannot_be_read(shell, arguments, sentence):
    assert shell(*arguments).sentence.startswith(f"allukan: {sentence}")


def test_without_a_command_the_help_is_shown(shell):
    for arguments in ([], ["data"]):
        done = shell(*arguments)
        assert (done.code, done.err) == (2, "")
        assert "Usage: allukan" in done.out


def test_a_training_that_diverges_ends_with_one_sentence(shell, phantoms, tmp_path):
    done = shell("train", phantoms, "--out", tmp_path / "run", *TRAIN, "--lr", "1e30")
    assert done.code == 2
    said = done.err.strip().splitlines()
    assert said[-1].startswith("allukan: the loss is nan in epoch 1, step 2 of 2 (images phantom_")
    assert "Traceback" not in done.err
    assert not (tmp_path / "run" / "model").exists()


def test_a_run_that_exists_is_not_touched(shell, phantoms, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "exists already" in shell("train", phantoms, "--out", tmp_path, *TRAIN).sentence
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_train_without_out_or_data(shell, phantoms):
    assert "--out" in shell("train", phantoms).sentence
    assert "--out" in shell("train", "--resume").sentence
    assert "dataset" in shell("train", "--out", "nowhere").sentence
    image = first(phantoms)
    assert f"{image} is an image: give the folder of a dataset" in shell("train", image, "--out", "nowhere").sentence


def test_resume_refuses_what_it_cannot_continue(shell, trained, tmp_path):
    assert "can be resumed" in shell("train", "--resume", "--out", tmp_path / "none").sentence
    assert "keeps its options" in shell("train", "--resume", "--out", trained, "--seed", 9).sentence
    run = shutil.copytree(trained, tmp_path / "run")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("allukan-tiny", "allukan-small"))
    assert "another architecture" in shell("train", "--resume", "--out", run).sentence
    shutil.copy(trained / "config.yaml", config)
    last = torch.load(run / "last.ckpt", weights_only=True)
    last["optimizer_states"][0]["param_groups"] = last["optimizer_states"][0]["param_groups"][:1]
    torch.save(last, run / "last.ckpt")
    assert "as another version of allukan did" in shell("train", "--resume", "--out", run).sentence
    (run / "last.ckpt").write_bytes(b"garbage")
    assert "not a readable checkpoint" in shell("train", "--resume", "--out", run).sentence


def test_a_resumed_run_takes_options_from_every_place_by_one_rule(shell, trained, phantoms, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    resume = ["train", "--resume", "--out", run]
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    (tmp_path / "other.yaml").write_text("lr: 0.1\n")
    assert "option lr is 0.003" in shell(*resume, "--config", tmp_path / "other.yaml").sentence
    (tmp_path / "wrong.yaml").write_text("epoch: 5\n")
    assert "did you mean 'epochs'" in shell(*resume, "--config", tmp_path / "wrong.yaml").sentence
    assert "cannot be read" in shell(*resume, "--config", tmp_path / "none.yaml").sentence
    assert "unknown option 'epoch': did you mean 'epochs'" in shell(*resume, "--set", "epoch=3").sentence
    assert "only be given more epochs" in shell(*resume, "--epochs", 1).sentence
    assert "--init starts a new run" in shell(*resume, "--init", trained / "model").sentence
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    (tmp_path / "same.yaml").write_text("epochs: 3\nlr: 0.003\n")
    done = shell(*resume, "--config", tmp_path / "same.yaml")
    assert done.code == 0, done
    assert [line.split(",")[0] for line in (run / "history.csv").read_text().splitlines()] == ["epoch", "1", "2", "3"]
    assert "nothing is left to do" in " ".join(shell(*resume).err.split())
    assert "epochs: 3\n" in (run / "config.yaml").read_text()


def test_model_folders_that_are_none(shell, trained, phantoms, tmp_path):
    predict = ["predict", tmp_path / "model", phantoms / "images", "--out", tmp_path / "out"]
    assert "no trained model" in shell(*predict).sentence
    model = shutil.copytree(trained / "model", tmp_path / "model")
    card = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(card | {"model": "allukan-small"}))
    assert "does not fit" in shell(*predict).sentence
    (model / "config.json").write_text(json.dumps(card | {"model": "resnet"}))
    assert "resnet" in shell(*predict).sentence
    (model / "config.json").write_text("{")
    assert "config.json" in shell(*predict).sentence
    (model / "config.json").write_text(json.dumps(card))
    (model / "model.safetensors").write_bytes(b"garbage")
    assert "model.safetensors" in shell(*predict).sentence
    assert not (tmp_path / "out").exists()


def test_predict_wrong_inputs(shell, trained, phantoms, tmp_path):
    model = trained / "model"
    assert "nowhere.png" in shell("predict", model, "nowhere.png", "--out", tmp_path / "o").sentence
    (tmp_path / "empty").mkdir()
    assert "no images" in shell("predict", model, tmp_path / "empty", "--out", tmp_path / "o").sentence
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    assert "not empty" in shell("predict", model, phantoms / "images", "--out", tmp_path / "full").sentence
    assert "mode 'wide'" in shell("predict", model, phantoms / "images", "--out", tmp_path / "o", "--mode", "wide").sentence
    assert "device 'tpu9'" in shell("predict", model, phantoms / "images", "--out", tmp_path / "o", "--device", "tpu9").sentence


def test_a_dataset_is_no_folder_of_images_to_predict(shell, trained, phantoms, tmp_path):
    told = shell("predict", trained, phantoms, "--out", tmp_path / "o").sentence
    images, masks = phantoms / "images", phantoms / "masks"
    assert told == f"allukan: {masks} holds masks, which are no images to predict: give the images alone, as {images}."
    assert not (tmp_path / "o").exists()


def test_evaluate_wrong_inputs(shell, trained, phantoms, tmp_path):
    assert "not a finished run" in shell("evaluate", phantoms).sentence
    assert "subset 'best'" in shell("evaluate", trained, "--subset", "best", "--out", tmp_path).sentence
    assert "spacing_mm" in shell("evaluate", trained, "--spacing-mm", "thick", "--out", tmp_path).sentence
    (tmp_path / "notes.txt").write_text("mine")
    said = shell("evaluate", trained, "--out", tmp_path / "notes.txt")
    assert said.err == f"allukan: {tmp_path / 'notes.txt'} is no folder: choose another --out, nothing is overwritten.\n"


@pytest.fixture
def full_disk():
    """A limit on the size of files stands for it: the write of a checkpoint fails."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_out_of_disk_is_told_in_one_sentence(shell, phantoms, tmp_path, full_disk):
    done = shell("train", phantoms, "--out", tmp_path / "run", *TRAIN)
    assert done.code == 2, done
    assert "Traceback" not in done.err
    assert "cannot be written" in done.err.strip().splitlines()[-1]
