"""A study reads labels as its trainings do, and finds the classes of data it tests on by name and value."""

import numpy as np
import pytest

from allukan.data import write_image
from allukan.errors import UserError
from allukan.study import check_study, load_study


@pytest.fixture
def maps(tmp_path):
    def one(name, values):
        for number in range(6):
            labels = np.kron(np.array([0, *values], np.uint8), np.ones((32, 8), np.uint8))
            write_image(tmp_path / name / f"images/c{number}.png", np.roll(labels * np.uint8(30), number, 1))
            write_image(tmp_path / name / f"masks/c{number}.png", np.roll(labels, number, 1))
        return str(tmp_path / name)

    return one


def test_labels_are_read_as_the_options_of_the_data_say(write, tmp_path, maps):
    path = maps("set", [1, 2, 255])
    with pytest.raises(UserError, match="label 255 stands beside 1, 2"):
        check_study(load_study(write(data={"a": path})), tmp_path / "out")
    study = load_study(write(data={"a": {"path": path, "ignore": 255}}))
    check_study(study, tmp_path / "out")
    assert study.trials(tmp_path)[0].config({}).ignore == 255


def test_labels_are_no_matter_of_a_model(write):
    with pytest.raises(UserError, match=r"unknown option of models\.ka 'ignore'"):
        load_study(write(models={"ka": {"model": "allukan-tiny", "ignore": 255}}))


def test_classes_of_a_cross_test_are_found_by_value(write, tmp_path, maps):
    cross = [{"train": "a", "test": "b"}]
    data = {"a": maps("a", [1, 2, 4])}
    check_study(load_study(write(data=data, test_data={"b": maps("b", [2, 4])}, cross=cross)), tmp_path / "out")
    with pytest.raises(UserError, match=r"cross a → b: .* class '3', which the model does not know"):
        check_study(load_study(write(data=data, test_data={"b": maps("c", [2, 3])}, cross=cross)), tmp_path / "out")
