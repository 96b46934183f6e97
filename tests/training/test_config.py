import pytest
import yaml

from allukan.data import Dataset
from allukan.errors import UserError
from allukan.models import ModelCard, save_model
from allukan.training import TrainConfig, load_config, resume_config
from allukan.training.resume import check_classes

GIVEN = {"data": "d", "out": "o"}


def test_flags_win_over_yaml_and_nested_options_merge(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("epochs: 7\nbatch_size: 3\noptions: {norm: group, spline: {grid_size: 8}}\n")
    config = load_config(file, {**GIVEN, "epochs": 9, "options": {"spline": {"sharing": 4}}})
    assert (config.epochs, config.batch_size) == (9, 3)
    assert config.options == {"norm": "group", "spline": {"grid_size": 8, "sharing": 4}}


def test_what_is_saved_is_everything_in_force(tmp_path):
    config = TrainConfig(**GIVEN, size="64x96", protocol="ukan")
    config.save(tmp_path / "config.yaml")
    raw = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert raw["size"] == [64, 96]
    assert raw["lr"] == 1e-4  # the protocol's, not None
    assert load_config(tmp_path / "config.yaml", {}) == config


def test_two_averages_are_one_too_many():
    with pytest.raises(UserError, match="ema and snapshots both average"):
        TrainConfig(**GIVEN, ema=0.9, snapshots=2)


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("size", "big", "size 'big'"),
        ("size", 16, "at least 32"),
        ("size", "64x64x0", "at least 1 voxel"),
        ("intensities", "ct,mr", "intensities hold 'mr': give ct or image a channel"),
        ("intensities", [[1, 0, 0, 1]], "lowest, highest, mean and deviation"),
        ("intensities", [[0, 1, 0, 0]], "lowest, highest, mean and deviation"),
        ("memory", "8", "memory '8' is not usable"),
        ("memory", 8, "memory 8 is not usable"),
        ("budget", "30", "time '30' is not usable"),
        ("size", "64x64x64x64", "size"),
        ("epochs", 0, "epochs"),
        ("epochs", 1.5, "whole number"),
        ("batch_size", -1, "batch_size"),
        ("batch_size", True, "batch_size"),
        ("lr", float("nan"), "lr"),
        ("lr", "fast", "lr"),
        ("protocol", "clena", "protocol 'clena'"),
        ("precision", "fp8", "precision 'fp8'"),
        ("ema", 1.0, "ema must be a number of at least 0 and below 1"),
        ("dice", "bach", "unknown dice 'bach': did you mean 'batch'"),
        ("optimizer", "sgd", "unknown optimizer 'sgd'"),
        ("snapshots", 1, "snapshots 1 of 400 epochs is not usable: give 2 or more"),
        ("snapshots", 401, "snapshots 401 of 400 epochs"),
        ("warmup", -1, "warmup must be a number of at least 0"),
        ("warmup", 400, "warmup 400 is too long for 400 epochs"),
        ("spline_lr", -1, "spline_lr"),
        ("spline_smoothness", "much", "spline_smoothness"),
        ("augment", "affine,elastik", "augment holds 'elastik'"),
        ("augment", ["affine", "affine"], "each once"),
        ("epoch", 3, "did you mean 'epochs'"),
        ("compile", "no thanks", "compile must be true or false, got 'no thanks'"),
        ("compile", 0, "compile must be true or false"),
        ("compile", None, "compile must be true or false"),
        ("epochs", "3", "epochs must be a whole number"),
        ("epochs", 1e3, "epochs must be a whole number"),
        ("batch_size", [8], "batch_size must be a whole number"),
        ("seed", -1, "seed must be a whole number of at least 0 and at most 4294967295"),
        ("seed", 2**32, "seed must be a whole number of at least 0 and at most 4294967295"),
        ("lr", float("inf"), "lr must be a number"),
        ("lr", 10**400, "lr must be a number"),
        ("lr", [0.1], "lr must be a number"),
        ("weight_decay", None, "weight_decay must be a number"),
        ("spline_smoothness", float("inf"), "spline_smoothness must be a number"),
        ("ema", float("nan"), "ema must be a number"),
        ("size", None, "size None"),
        ("size", True, "size True"),
        ("size", 256.5, "size 256.5"),
        ("size", [256.7, 256], "size"),
        ("size", {"256": 1}, "size"),
        ("model", ["ukan"], "model must be text"),
        ("data", 3, "data must be text"),
        ("groups", ["a"], "groups must be text"),
        ("init", True, "init must be text"),
        ("accelerator", None, "accelerator must be text"),
        ("precision", 32, "precision must be one of auto, 32-true, bf16-mixed, 16-mixed, got 32"),
        ("protocol", None, "protocol must be one of clean, ukan, got None"),
        ("devices", True, "devices must be a whole number or 'auto'"),
        ("devices", [0, 1], "devices must be"),
        ("augment", 3, "augment must be names"),
        ("augment", {"affine": True}, "augment must be names"),
        ("options", None, "options must be 'name: value' pairs"),
        ("options", "norm: group", "options must be"),
        ("options", {3: 4}, "options must be"),
    ],
)
def test_bad_values_are_named(field, value, word):
    with pytest.raises(UserError, match=word):
        load_config(None, {**GIVEN, field: value})


@pytest.mark.parametrize(("text", "word"), [("- 1\n- 2\n", "option: value"), ("a: [1", "not valid YAML")])
def test_bad_yaml(tmp_path, text, word):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=word):
        load_config(tmp_path / "c.yaml", GIVEN)
    with pytest.raises(UserError, match="cannot be read"):
        load_config(tmp_path / "missing.yaml", GIVEN)


def test_a_resumed_run_keeps_its_options_but_may_change_machine(tmp_path):
    TrainConfig(data="d", out=str(tmp_path), epochs=400).save(tmp_path / "config.yaml")
    assert resume_config(tmp_path, {"devices": "1", "data": "moved"}).data == "moved"
    with pytest.raises(UserError, match=r"epochs is 400 in .* and 3 now: a resumed run can only be given more epochs"):
        resume_config(tmp_path, {"epochs": 3})
    assert resume_config(tmp_path, {"epochs": 600}).epochs == 600
    with pytest.raises(UserError, match=r"lr is 0\.003 in .* and 0\.1 now: a resumed run keeps its options"):
        resume_config(tmp_path, {"lr": 0.1})
    with pytest.raises(UserError, match="unknown option 'epoch': did you mean 'epochs'"):
        resume_config(tmp_path, {"epoch": 3})
    with pytest.raises(UserError, match=r"config\.yaml is missing"):
        resume_config(tmp_path / "nowhere", {})


def test_augmentation_from_a_text_with_commas_a_list_and_none(tmp_path):
    assert TrainConfig(**GIVEN, augment="affine, speckle").augment == ("affine", "speckle")
    assert TrainConfig(**GIVEN, augment="none").augment == ()
    assert TrainConfig(**GIVEN, protocol="ukan").augment == ()
    TrainConfig(**GIVEN, augment=["elastic"]).save(tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml", {}).augment == ("elastic",)


def test_a_list_of_one_is_a_square():
    assert TrainConfig(**GIVEN, size=[256]).size == TrainConfig(**GIVEN, size=256).size == (256, 256)


@pytest.mark.parametrize(
    ("model", "options", "word"),
    [
        ("allukan-tiny", {"spline": False}, "spline must be a mapping"),
        ("allukan-tiny", {"spline": {"recompute": "no"}}, "recompute must be true or false, got 'no'"),
        (
            "allukan-tiny",
            {"spline": {"grid_size": True}},
            "whole number of at least 1 and at most 256, got True",
        ),
        (
            "allukan-tiny",
            {"spline": {"grid_size": "8"}},
            "whole number of at least 1 and at most 256, got '8'",
        ),
        ("allukan-tiny", {"spline": {"grid_range": "12"}}, "grid_range must be two numbers between -1e6 and 1e6, got '12'"),
        ("allukan-tiny", {"topology": {"residual": "no"}}, "residual must be true or false"),
        ("unet", {"channels": {4: 1, 5: 1, 6: 1, 7: 1, 8: 1}}, "channels must be whole numbers"),
        ("unet", {"channels": "44488"}, "channels must be whole numbers, got '44488'"),
    ],
)
def test_options_within_options_have_a_kind_too(model, options, word):
    card = ModelCard(model, 1, ("0",), "binary", (32, 32), (0.0,), (1.0,), options=options)
    with pytest.raises(UserError, match=word):
        card.build()


def test_a_run_of_another_version_is_told(tmp_path):
    (tmp_path / "config.yaml").write_text("data: d\nout: o\nmomentum: 0.9\n")
    with pytest.raises(UserError, match=r"config\.yaml is of another version of allukan.*: unknown option 'momentum'"):
        resume_config(tmp_path, {})
    (tmp_path / "config.yaml").write_text("data: d\nout: o\nepochs: 3\n")  # an older one lacks options, which have defaults
    assert resume_config(tmp_path, {}).epochs == 3


def test_what_a_run_has_taken_fills_only_what_is_open(tmp_path):
    strides = {"topology": {"strides": [[2, 2, 2]], "drop_path": 0.2}}
    clip = (-150.0, 240.0, 60.0, 45.0)
    taken = TrainConfig(**GIVEN, size="40x56x40", spacing_mm="1,1,1", epochs=7, batch_size=5, intensities=[clip], options=strides)
    taken.save(tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml", {}) == taken
    found = TrainConfig(**GIVEN, epochs=9).completed(taken)
    assert (found.size, found.spacing_mm, found.epochs, found.batch_size) == ((40, 56, 40), (1.0, 1.0, 1.0), 9, 5)
    assert (found.intensities, found.options) == ((clip,), {"topology": {"strides": [[2, 2, 2]]}})
    own = TrainConfig(**GIVEN, options={"topology": {"widths": [8]}}).completed(taken)
    assert own.options == {"topology": {"widths": [8]}}


@pytest.mark.parametrize("given", [{"memory": "8GiB"}, {"budget": "30m"}])
def test_the_literature_has_its_sizes(given):
    with pytest.raises(UserError, match=f"the size, batch and epochs of the literature: leave {next(iter(given))} out"):
        TrainConfig(**GIVEN, protocol="ukan", **given)


def test_paths_are_kept_whole(tmp_path, monkeypatch):
    """A run is evaluated from other folders than that of its training, where another set may have the same name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    for name in ("g.csv", "splits.json"):
        (tmp_path / name).write_text("")
    (tmp_path / "c.yaml").write_text("data: set\nout: run\ngroups: g.csv:patient\nsplits: splits.json\n")
    config = load_config("c.yaml", {})
    assert (config.data, config.groups) == (str(tmp_path / "set"), f"{tmp_path}/g.csv:patient")
    assert config.splits == str(tmp_path / "splits.json")
    assert load_config("c.yaml", {"groups": "re:^(.)"}).groups == "re:^(.)"
    assert load_config("c.yaml", {"data": "gone"}).data == "gone"


@pytest.mark.parametrize(
    ("classes", "values"),
    [(("tumour", "cyst"), (1, 2)), (("cyst", "tumour"), (1, 3)), (("cyst",), (1,)), (("cyst", "tumour"), ())],
)
def test_a_run_goes_on_with_its_classes(tmp_path, classes, values):
    card = ModelCard("convtwin-tiny", 1, ("cyst", "tumour"), "multiclass", (32, 32), (0.5,), (0.2,), label_values=(1, 2))
    check_classes(tmp_path, Dataset(tmp_path, "label-maps", classes, label_values=values))  # nothing is trained yet
    save_model(tmp_path / "model", card.build(), card)
    check_classes(tmp_path, Dataset(tmp_path, "label-maps", ("cyst", "tumour"), label_values=(1, 2)))
    with pytest.raises(UserError, match=r"was trained on the classes cyst \(1\), tumour \(2\), and"):
        check_classes(tmp_path, Dataset(tmp_path, "label-maps", classes, label_values=values))
