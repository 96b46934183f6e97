import pytest
import yaml

from allukan.errors import UserError
from allukan.training import TrainConfig, load_config, resume_config

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


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("size", "big", "size 'big'"),
        ("size", 16, "at least 32"),
        ("size", "64x64x64", "size"),
        ("epochs", 0, "epochs"),
        ("epochs", 1.5, "whole number"),
        ("batch_size", -1, "batch_size"),
        ("batch_size", True, "batch_size"),
        ("lr", float("nan"), "lr"),
        ("lr", "fast", "lr"),
        ("protocol", "clena", "protocol 'clena'"),
        ("precision", "fp8", "precision 'fp8'"),
        ("ema", 1.0, "ema must be below 1"),
        ("spline_lr", -1, "spline_lr"),
        ("spline_smoothness", "much", "spline_smoothness"),
        ("augment", "affine,elastik", "augment holds 'elastik'"),
        ("augment", ["affine", "affine"], "each once"),
        ("epoch", 3, "did you mean 'epochs'"),
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
    TrainConfig(data="d", out=str(tmp_path)).save(tmp_path / "config.yaml")
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
