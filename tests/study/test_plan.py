"""A study is checked whole before anything starts."""

import json
from dataclasses import replace

import pytest

from allukan.errors import UserError
from allukan.study import check_study, load_study


def options(study, out, name):
    return next(trial for trial in study.trials(out) if trial.name == name).config({})


def test_cells_are_the_product_and_the_nearer_option_wins(write, tmp_path):
    study = load_study(
        write(
            data={"a": "a", "fine": {"path": "b", "size": 64, "batch_size": 2}},
            models={"ka": {"model": "allukan-tiny", "batch_size": 3}, "conv": {"model": "convtwin-tiny"}},
            protocols=["clean", "ukan"],
            seeds=[0, 5, 7],
        )
    )
    trials = study.trials(tmp_path)
    assert len({trial.folder for trial in trials}) == len(trials) == 24
    near = options(study, tmp_path, "fine/ukan/ka/5")
    assert (near.size, near.batch_size, near.epochs, near.protocol, near.seed) == ((64, 64), 3, 1, "ukan", 5)
    assert options(study, tmp_path, "fine/clean/conv/0").batch_size == 2
    assert options(study, tmp_path, "a/clean/conv/0").batch_size is None
    check_study(study, tmp_path)


def test_paths_are_relative_to_the_file(write, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = load_study(write(data={"a": {"path": "a", "groups": "a/groups.csv:patient"}}))
    assert study.data["a"]["path"] == str(folder / "a")
    assert study.data["a"]["groups"] == str(folder / "a/groups.csv:patient")
    check_study(study, tmp_path / "out")


def test_every_model_gets_the_same_grid_by_the_clean_protocol(write, tmp_path):
    grid = {"lr": [0.001, 0.01], "weight_decay": [0.0]}
    models = {"ka": {"model": "allukan-tiny"}, "conv": {"model": "convtwin-tiny"}}
    study = load_study(write(models=models, protocols=["ukan"], tune={"grid": grid, "seed": 4}))
    points = [trial for trial in study.trials(tmp_path) if trial.point]
    assert [(trial.model, trial.options["lr"]) for trial in points] == [
        ("ka", 0.001),
        ("ka", 0.01),
        ("conv", 0.001),
        ("conv", 0.01),
    ]
    assert {(trial.options["protocol"], trial.options["seed"]) for trial in points} == {("clean", 4)}


def test_stochastic_depth_is_tuned_where_a_model_has_it(write, tmp_path):
    models = {"ka": {"model": "allukan-tiny", "options": {"topology": {"depth": 3}}}, "unet": {"model": "unet"}}
    study = load_study(write(models=models, tune={"grid": {"drop_path": [0, 0.1]}}))
    points = {trial.name: trial.config({}).options for trial in study.trials(tmp_path) if trial.point is not None}
    assert points == {
        "a/tune/ka/drop_path=0": {"topology": {"depth": 3, "drop_path": 0}},
        "a/tune/ka/drop_path=0.1": {"topology": {"depth": 3, "drop_path": 0.1}},
        "a/tune/unet/default": {},
    }
    check_study(study, tmp_path / "out")


def test_the_rate_of_splines_is_tuned_where_a_model_has_some(write, tmp_path):
    models = {"ka": {"model": "allukan-tiny"}, "conv": {"model": "convtwin-tiny"}, "ukan": {"model": "ukan"}}
    study = load_study(write(models=models, tune={"grid": {"lr": [1e-3], "spline_lr": [1e-3, 1e-2]}}))
    points = [trial for trial in study.trials(tmp_path) if trial.point is not None]
    assert [(trial.model, trial.config({}).spline_lr) for trial in points] == [
        ("ka", 1e-3),
        ("ka", 1e-2),
        ("conv", 1e-3),
        ("ukan", 1e-3),
        ("ukan", 1e-2),
    ]
    check_study(study, tmp_path / "out")


def test_numbers_as_people_write_them(write, tmp_path):
    path = write()
    path.write_text("data: {a: a}\nmodels: {ka: {model: allukan-tiny, lr: 1e-3}}\n")
    assert options(load_study(path), tmp_path, "a/clean/ka/0").lr == 0.001


KA = {"model": "allukan-tiny"}
TUNE = {"grid": {"lr": [0.1]}}
DROPPED = {"topology": {"drop_path": 0}}


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"seed": [1]}, "did you mean 'seeds'"),
        ({"data": None}, "names no data"),
        ({"models": None}, "names no models"),
        ({"data": {"a": "nowhere"}}, "nowhere does not exist"),
        ({"data": {"a": {"size": 64}}}, "'a' has no folder"),
        ({"data": {"a/b": "a"}}, "'a/b'"),
        ({"data": {"a": {"path": "a", "sise": 64}}}, "did you mean 'size'"),
        ({"data": {"a": {"path": "a", "groups": "a/none.csv"}}}, "none.csv"),
        ({"models": {"ka": {"lr": 0.1}}}, "models.ka does not say which"),
        ({"models": {"ka": {"model": "alukan-tiny"}}}, "did you mean 'allukan-tiny'"),
        ({"models": {"ka": {**KA, "options": {"spline": {"sharing": "most"}}}}}, "sharing 'most'"),
        ({"models": {"ka": {**KA, "learning": 1}}}, "'learning'"),
        ({"models": {"ka": {**KA, "seed": 1}}}, "'seed'"),
        ({"models": ["allukan-tiny"]}, "models must be"),
        ({"protocols": ["fair"]}, "'fair'"),
        ({"protocols": []}, "protocols is empty"),
        ({"seeds": [1, 1]}, "1 twice"),
        ({"seeds": ["one"]}, "'one'"),
        ({"common": {"size": 8}}, "size 8"),
        ({"common": {"devices": 2}}, "'devices'"),
        ({"cross": [{"train": "a", "test": "b"}]}, "'b'"),
        ({"cross": [{"train": "b", "test": "a"}]}, "'b'"),
        ({"cross": [{"train": "a", "test": "a"}]}, "leave it out"),
        ({"test_data": {"a": "b"}}, "in data and in test_data"),
        ({"tune": {"grid": {}}}, "no grid"),
        ({"tune": {"grid": {"lr": 0.1}}}, "tune.grid.lr"),
        ({"tune": {"grid": {"lr": [0.1, 0.1]}}}, "tune.grid.lr"),
        ({"tune": {"grid": {"lr": [-1]}}}, "lr"),
        ({"tune": {"grid": {"model": ["a"]}}}, "'model'"),
        ({"tune": {**TUNE, "on": "test"}}, "tune.on"),
        ({"tune": {**TUNE, "seed": [0, 1]}}, "tune.seed"),
        ({"tune": TUNE, "models": {"ka": {**KA, "lr": 0.1}}}, "models.ka gives lr"),
        (
            {"tune": {"grid": {"drop_path": [0]}}, "models": {"ka": {**KA, "options": {"topology": {"drop_path": 0}}}}},
            "ka gives drop_path",
        ),
        ({"tune": TUNE, "common": {"lr": 0.1}}, "common gives lr"),
        ({"models": {"conv": {"model": "convtwin-tiny", "spline_lr": 0.1}}}, "no splines: leave spline_lr out"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_studies(write, tmp_path, given, word):
    with pytest.raises(UserError) as error:
        check_study(load_study(write(**given)), tmp_path / "out")
    assert word in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_name_that_stands_twice(write, tmp_path):
    path = write()
    path.write_text("data: {a: a}\nmodels:\n  ka: {model: allukan-tiny}\n  ka: {model: allukan-base}\n")
    with pytest.raises(UserError, match="'ka' in line 4 is there already"):
        load_study(path)


def test_a_folder_of_another_study_is_refused(write, done):
    both = {"ka": {"model": "allukan-tiny"}, "conv": {"model": "convtwin-tiny"}}
    check_study(load_study(write(models=both, protocols=["clean", "ukan"])), done)
    with pytest.raises(UserError, match=r"was started with lr 0\.003 and the study says 0\.1"):
        check_study(load_study(write(models=both | {"ka": {**KA, "lr": 0.1}})), done)
    with pytest.raises(UserError, match="was started with options"):
        check_study(load_study(write(models=both | {"ka": {**KA, "options": {"norm": "group"}}})), done)


@pytest.mark.parametrize(
    ("given", "common", "words"),
    [
        ({"epochs": 3}, {"size": 32}, "epochs 3 and the study says 400"),
        ({"batch_size": 2}, {}, "batch_size 2 and the study says 8"),
        ({}, {"size": None}, r"size \(32, 32\) and the study says \(256, 256\)"),
        ({"options": {"topology": {"widths": [4, 4, 8, 8, 8]}}}, {}, "options .*widths.* and the study says {}"),
    ],
)
def test_what_a_study_no_longer_says_is_not_what_was_started(write, tmp_path, given, common, words):
    common = {"size": 32, **common}
    study = load_study(write(common={**common, "size": 32, **given}))
    [trial] = study.trials(tmp_path / "out")
    trial.folder.mkdir(parents=True)
    (trial.folder / "splits.json").write_text("{}")
    started = replace(trial.config({}), dice="image")
    replace(started, epochs=started.epochs or 400, batch_size=started.batch_size or 8).save(trial.folder / "config.yaml")
    check_study(study, tmp_path / "out")
    with pytest.raises(UserError, match=f"was started with {words}"):
        check_study(load_study(write(common={name: value for name, value in common.items() if value})), tmp_path / "out")


def test_a_grid_that_has_got_points_may_choose_otherwise(write, tmp_path):
    study = load_study(write(tune={"grid": {"lr": [0.01, 0.1]}}))
    trial = study.trials(tmp_path / "out")[-1]
    trial.folder.mkdir(parents=True)
    trial.config({"lr": 0.01}).save(trial.folder / "config.yaml")
    (trial.folder / "splits.json").write_text("{}")
    with pytest.raises(UserError, match=r"ka.0 was started before all points of tune\.grid were done"):
        check_study(study, tmp_path / "out")


def split_of(folder, name, **parts):
    ids = sorted(path.stem for path in (folder / "a/images").iterdir())
    path = folder / name
    path.write_text(json.dumps({part: ids[start:stop] for part, (start, stop) in parts.items()}))
    return path


def test_a_split_of_ones_own_is_relative_to_the_file_and_checked_before_anything_starts(write, folder, tmp_path):
    path = split_of(folder, "own.json", train=(0, 9), val=(9, 11), test=(11, 20))
    study = load_study(write(data={"a": {"path": "a", "splits": "own.json"}}))
    assert study.data["a"]["splits"] == str(path)
    check_study(study, tmp_path / "out")
    split_of(folder, "own.json", train=(0, 9), val=(9, 11))
    with pytest.raises(UserError, match=r"data 'a' has no test images in its split \(.*own.json\), and a study compares"):
        check_study(study, tmp_path / "out")
    path.write_text("{}")
    with pytest.raises(UserError, match=r"own\.json is not a file of splits"):
        check_study(study, tmp_path / "out")
    check_study(load_study(write(data={"a": {"path": "a", "splits": "drawn"}}, protocols=["clean", "ukan"])), tmp_path / "out")
    with pytest.raises(UserError, match="the protocol ukan draws 80/20"):
        check_study(load_study(write(data={"a": {"path": "a", "splits": "own.json"}}, protocols=["ukan"])), tmp_path / "out")
    with pytest.raises(UserError, match=r"unknown option of models\.ka 'splits'"):
        load_study(write(models={"ka": {"model": "allukan-tiny", "splits": "own.json"}}))


def test_names_that_are_one_folder_elsewhere_are_refused(write):
    with pytest.raises(UserError, match="models has 'ka' and 'KA', which are one folder on Windows and macOS"):
        load_study(write(models={"ka": {"model": "allukan-tiny"}, "KA": {"model": "unet"}}))
