"""Evaluation on other people's data: classes by name and value, what is not annotated, what the training has seen."""

import numpy as np
import pytest

from allukan.data import Splits, write_image
from allukan.errors import UserError
from allukan.inference import Prediction, Run, evaluate
from allukan.models import ModelCard

LABELS = np.kron(np.array([[0, 1, 0, 2], [4, 4, 0, 0]], np.uint8), np.ones((8, 8), np.uint8))


class Knowing:
    """A predictor that reads the class off the brightness: 10 times the label."""

    mode, tta = "resize", False

    def __init__(self, classes, values, target="multiclass"):
        n = len(classes)
        self.card = ModelCard("convtwin-tiny", 1, tuple(classes), target, (32, 32), (0.0,), (1.0,), label_values=tuple(values))
        self.levels = 10 * np.array((1, 2, 4)[:n]).reshape(-1, 1, 1)

    def __call__(self, image):
        masks = image[..., 0] == self.levels
        return Prediction(masks.astype(np.float32), masks)

    def masks(self, image):
        return self(image).masks


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return Run(tmp_path / "run", {"data": str(tmp_path / "train")}, Splits("clean", 0, (), (), ()))


def label_maps(root, maps=None, shown=None):
    for number, labels in enumerate(maps or [LABELS, LABELS.T.copy()]):
        write_image(root / f"images/c{number}.png", (shown if shown is not None else labels) * np.uint8(10))
        write_image(root / f"masks/c{number}.png", labels)
    return root


def folders(root, names, labels=LABELS):
    for number in range(2):
        write_image(root / f"images/c{number}.png", labels * np.uint8(10))
        for name, value in names.items():
            write_image(root / f"masks/{name}/c{number}.png", (labels == value) * np.uint8(255))
    return root


def dice(summary):
    return {name: figures["dice"]["mean"] for name, figures in summary["classes"].items()}


def test_values_are_matched_not_places(run, tmp_path):
    """The model knows 1, 2 and 4; the other set holds 2 and 4 only."""
    other = label_maps(tmp_path / "other", [LABELS * (LABELS != 1)])
    summary = evaluate(run, other, predictor=Knowing(["1", "2", "4"], [1, 2, 4]))
    assert dice(summary) == {"1": 1.0, "2": 1.0, "4": 1.0}
    assert summary["classes"]["1"]["status"] == {"both_empty": 1}
    assert "holds 1: taken as absent" in summary["notes"][0]


def test_what_is_predicted_of_an_absent_class_is_a_false_alarm(run, tmp_path):
    other = label_maps(tmp_path / "other", [LABELS * (LABELS != 1)], shown=LABELS)
    summary = evaluate(run, other, predictor=Knowing(["1", "2", "4"], [1, 2, 4]))
    assert dice(summary) == {"1": 0.0, "2": 1.0, "4": 1.0}


def test_an_all_healthy_set_is_scored(run, tmp_path):
    other = label_maps(tmp_path / "other", [LABELS * 0] * 2)
    assert set(dice(evaluate(run, other, predictor=Knowing(["1", "2", "4"], [1, 2, 4]))).values()) == {1.0}
    wrong = label_maps(tmp_path / "wrong", [LABELS * 0] * 2, shown=LABELS)
    summary = evaluate(run, wrong, predictor=Knowing(["1", "2", "4"], [1, 2, 4]), out=tmp_path / "out")
    assert set(dice(summary).values()) == {0.0}
    assert summary["overall"]["status"] == {"false_alarm": 6}


def test_folders_are_matched_by_name_however_they_sort(run, tmp_path):
    other = folders(tmp_path / "other", {"cyst": 2, "mass": 1})  # the model has mass first
    summary = evaluate(run, other, predictor=Knowing(["mass", "cyst"], [], "multilabel"))
    assert dice(summary) == {"mass": 1.0, "cyst": 1.0}


def test_folders_of_label_maps_model(run, tmp_path):
    other = folders(tmp_path / "other", {"cyst": 2, "mass": 1})
    assert dice(evaluate(run, other, predictor=Knowing(["mass", "cyst"], [1, 2]))) == {"mass": 1.0, "cyst": 1.0}


def test_a_class_without_a_folder_is_not_scored(run, tmp_path):
    other = folders(tmp_path / "other", {"cyst": 2})
    summary = evaluate(run, other, predictor=Knowing(["mass", "cyst"], [], "multilabel"))
    assert dice(summary) == {"cyst": 1.0}
    assert "does not name mass: not scored" in summary["notes"][0]


def test_other_names_are_refused_and_mapped(run, tmp_path):
    other = folders(tmp_path / "other", {"Tumour": 1, "Zyste": 2, "vessel": 4})
    predictor = Knowing(["mass", "cyst"], [], "multilabel")
    with pytest.raises(
        UserError, match=r"class 'Tumour', which the model does not know: it has mass, cyst\. .*--map Tumour=mass"
    ):
        evaluate(run, other, predictor=predictor)
    mapping = {"Tumour": "mass", "Zyste": "cyst", "vessel": "none"}
    assert dice(evaluate(run, other, predictor=predictor, mapping=mapping)) == {"mass": 1.0, "cyst": 1.0}


def test_classes_are_united_by_a_mapping_only(run, tmp_path):
    other = folders(tmp_path / "other", {"a": 1, "mass": 2})
    labels = np.where(LABELS == 2, 1, LABELS)
    for number in range(2):
        write_image(other / f"images/c{number}.png", labels * np.uint8(10))
    predictor = Knowing(["mass"], [], "binary")
    with pytest.raises(UserError, match=r"classes 'a' and 'mass', which both are 'mass' .* --map a=mass --map mass=mass"):
        evaluate(run, other, predictor=predictor, mapping={"a": "mass"})
    assert dice(evaluate(run, other, predictor=predictor, mapping={"a": "mass", "mass": "mass"})) == {"mass": 1.0}


@pytest.mark.parametrize(
    ("mapping", "words"),
    [({"x": "mass"}, "has no class 'x', only mass"), ({"mass": "x"}, "the model has no class 'x', only mass; or none")],
)
def test_a_mapping_of_names_that_do_not_exist(run, tmp_path, mapping, words):
    with pytest.raises(UserError, match=words):
        evaluate(run, folders(tmp_path / "o", {"mass": 1}), predictor=Knowing(["mass"], [], "binary"), mapping=mapping)


def test_one_class_without_a_name_is_the_one_class(run, tmp_path):
    other = folders(tmp_path / "other", {"lesion": 1})
    assert dice(evaluate(run, other, predictor=Knowing(["0"], [], "binary"))) == {"0": 1.0}
    with pytest.raises(UserError, match="'lesion', which the model does not know"):
        evaluate(run, other, predictor=Knowing(["polyp"], [], "binary"))


@pytest.mark.parametrize(("value", "ours", "theirs"), [(255, "lesion", 1), (1, "foreground", 255)])
def test_the_one_class_of_other_values(run, tmp_path, value, ours, theirs):
    """Masks of 0 and 255 for a model of 0 and 1, and the other way round: nobody named theirs."""
    maps = [(labels == 1) * np.uint8(value) for labels in (LABELS, LABELS.T.copy())]
    other = label_maps(tmp_path / "other", maps, shown=LABELS * (LABELS == 1))
    write_image(other / "images/c1.png", (LABELS.T == 1) * np.uint8(10))
    assert dice(evaluate(run, other, predictor=Knowing([ours], [theirs], "binary"))) == {ours: 1.0}


def test_the_number_of_a_folder_is_no_value(run, tmp_path):
    other = label_maps(tmp_path / "other", [LABELS * (LABELS == 1)])
    with pytest.raises(UserError, match="class '1', which the model does not know"):
        evaluate(run, other, predictor=Knowing(["0", "1"], [], "multilabel"))


def test_a_value_that_the_model_does_not_know(run, tmp_path):
    with pytest.raises(UserError, match=r"class '4', which the model does not know: it has 1 \(1\), 2 \(2\)"):
        evaluate(run, label_maps(tmp_path / "other"), predictor=Knowing(["1", "2"], [1, 2]))


def test_ignored_pixels_count_in_no_score(run, tmp_path):
    """A whole object is wrong, but where nothing counts."""
    labels = LABELS.copy()
    labels[LABELS == 1] = 255
    other = label_maps(tmp_path / "other", [labels], shown=LABELS)
    ignoring = Run(run.folder, {**run.config, "ignore": 255}, run.splits)
    summary = evaluate(ignoring, other, predictor=Knowing(["1", "2", "4"], [1, 2, 4]))
    assert dice(summary) == {"1": 1.0, "2": 1.0, "4": 1.0}
    assert summary["classes"]["1"]["status"] == {"both_empty": 1}


@pytest.mark.parametrize("copied", [False, True])
def test_images_of_the_training_are_noted(run, tmp_path, copied):
    root = label_maps(tmp_path / "train", [LABELS, LABELS.T.copy(), LABELS[::-1].copy(), LABELS[:, ::-1].copy()])
    seen = Run(run.folder, run.config, Splits("clean", 0, ("c0", "c1"), ("c2",), ("c3",)))
    data = root
    if copied:  # and renamed
        data = tmp_path / "copy"
        for number in range(4):
            for folder in ("images", "masks"):
                (data / folder).mkdir(parents=True, exist_ok=True)
                (data / folder / f"x{number}.png").write_bytes((root / folder / f"c{number}.png").read_bytes())
    predictor = Knowing(["1", "2", "4"], [1, 2, 4])
    summary = evaluate(seen, data, predictor=predictor)
    assert summary["seen_in_training"] == 3
    assert summary["notes"][0].startswith("3 of these 4 images were in the training, as ")
    alone = evaluate(seen, predictor=predictor)
    assert (alone["seen_in_training"], alone["notes"]) == (0, [])


def test_masks_of_another_size_are_one_sentence(run, tmp_path):
    other = label_maps(tmp_path / "other")
    write_image(other / "masks/c1.png", np.ones((9, 9), np.uint8))
    with pytest.raises(UserError, match="is 9×9 pixels but its image is"):
        evaluate(run, other, predictor=Knowing(["1", "2", "4"], [1, 2, 4]))


def test_groups_of_the_training_are_not_asked_of_other_data(run, tmp_path):
    grouped = Run(run.folder, {**run.config, "groups": r"re:^patient(\d+)"}, run.splits)
    assert dice(evaluate(grouped, label_maps(tmp_path / "other"), predictor=Knowing(["1", "2", "4"], [1, 2, 4])))["1"] == 1.0


def test_scores_of_other_data_and_other_subsets_are_not_overwritten(run, tmp_path):
    first, second = label_maps(tmp_path / "a" / "set"), label_maps(tmp_path / "b" / "set")
    predictor = Knowing(["1", "2", "4"], [1, 2, 4])
    assert evaluate(run, first, predictor=predictor)["folder"] == str(run.folder / "evaluation-set")
    before = (run.folder / "evaluation-set/summary.json").read_bytes()
    with pytest.raises(UserError, match=r"evaluation-set holds the scores of .*a.set: choose another --out"):
        evaluate(run, second, predictor=predictor)
    assert (run.folder / "evaluation-set/summary.json").read_bytes() == before
    evaluate(run, first, predictor=predictor)  # the same again
    own = Run(run.folder, {"data": str(first)}, Splits("clean", 0, (), ("c0",), ("c1",)))
    folders = [evaluate(own, subset=subset, predictor=predictor)["folder"] for subset in (None, "test", "val", "all")]
    assert [folder.removeprefix(str(run.folder)) for folder in folders] == [
        "/evaluation",
        "/evaluation",
        "/evaluation-val",
        "/evaluation-all",
    ]
    with pytest.raises(UserError, match=r"evaluation holds the scores of test images: choose another --out"):
        evaluate(own, subset="val", predictor=predictor, out=run.folder / "evaluation")


def test_somebodys_files_are_not_overwritten(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/cases.csv").write_text("my patients")
    with pytest.raises(UserError, match=r"mine.cases\.csv is there and not of an evaluation"):
        evaluate(run, label_maps(tmp_path / "o"), predictor=Knowing(["1", "2", "4"], [1, 2, 4]), out=tmp_path / "mine")
    assert (tmp_path / "mine/cases.csv").read_text() == "my patients"


def test_a_copy_is_seen_also_where_labels_are_read_by_rules(run, tmp_path):
    labels = [np.where(maps == 1, 255, maps).astype(np.uint8) for maps in (LABELS, LABELS.T)]
    label_maps(tmp_path / "train", labels)
    label_maps(tmp_path / "copy", labels)
    ignoring = Run(run.folder, {**run.config, "ignore": 255}, Splits("clean", 0, ("c0",), ("c1",), ()))
    summary = evaluate(ignoring, tmp_path / "copy", predictor=Knowing(["1", "2", "4"], [1, 2, 4]))
    assert summary["seen_in_training"] == 2


def test_without_the_data_of_the_training_it_is_said_that_nothing_is_known(run, tmp_path):
    summary = evaluate(run, label_maps(tmp_path / "other"), predictor=Knowing(["1", "2", "4"], [1, 2, 4]))
    assert summary["seen_in_training"] is None
    assert summary["notes"] == ["the data of the training are not where they were: whether these images were in it is not known."]
