"""What the page shows and hands out, against what ``predict_files`` writes of the same image, read with PIL and nibabel."""

import zipfile

import nibabel
import numpy as np
import pytest
from PIL import Image

from allukan.app import Scene, segment
from allukan.errors import UserError
from allukan.inference import find_images, predict_files
from tests.data.volumes.conftest import Series

LIMIT = 10**7


@pytest.fixture
def visit(predictors, tmp_path):
    """Sends files to models by name."""

    def send(files, *names):
        folder = tmp_path / "visit"
        folder.mkdir()
        return segment({name: predictors[name] for name in names}, files, folder, LIMIT, lambda part, name: None)

    return send


def predicted(predictor, path, out, **given):
    list(predict_files(predictor, find_images([path], predictor.card), out, **given))
    return out


def test_the_mask_of_a_picture_is_the_file_that_predict_writes(visit, predictors, picture, tmp_path):
    found = visit([picture], "binary")
    expected = predicted(predictors["binary"], picture, tmp_path / "out", save_probabilities=True)
    assert found.download().read_bytes() == (expected / "masks/scan.png").read_bytes()
    mask = np.asarray(Image.open(expected / "masks/scan.png")) > 0
    assert 0 < mask.sum() < mask.size
    assert found.table() == [{"class": "lesion", "pixels": int(mask.sum()), "of the image": f"{mask.mean():.2%}"}]
    assert np.array_equal(found.findings["binary"].masks[0, 0], mask)
    probability, at_half = found.findings["binary"].at_threshold("lesion", 0.3)
    stored = np.load(expected / "probabilities/scan.npz")["probabilities"][0]
    assert np.array_equal(probability[0], stored)
    assert np.array_equal(at_half[0], stored > 0.3)
    assert found.size(at_half) == f"{(stored > 0.3).sum()} pixels ({(stored > 0.3).mean():.2%} of the image)"


def test_at_its_own_threshold_a_mask_is_the_one_that_was_written(visit, volume):
    found = visit([volume], "thresholded")
    written = nibabel.load(found.download()).get_fdata() > 0
    _, mask = found.findings["thresholded"].at_threshold("lesion", 0.6)
    assert 0 < mask.sum() == written.sum()
    assert found.size(mask) == f"{written.sum() * 0.8 * 0.8 * 2 / 1000:.3f} ml"


def test_a_volume_comes_back_on_its_grid_with_its_values_and_is_shown_from_the_feet(visit, predictors, volume, tmp_path):
    found = visit([volume], "volume")
    expected = predicted(predictors["volume"], volume, tmp_path / "out")
    ours, theirs = nibabel.load(found.download()), nibabel.load(expected / "masks/head.nii.gz")
    labels = np.asanyarray(ours.dataobj)
    assert np.array_equal(labels, np.asanyarray(theirs.dataobj))
    assert np.array_equal(ours.affine, nibabel.load(volume).affine)
    assert found.findings["volume"].probabilities is None  # the most probable class wins: there is no threshold
    assert [(row["class"], row["voxels"]) for row in found.table()] == [
        (name, str((labels == value).sum())) for name, value in (("a", 3), ("b", 7))
    ]
    assert float(found.table()[0]["mm³"]) == pytest.approx((labels == 3).sum() * 1.28, abs=0.05)
    shown = found.findings["volume"].masks  # slices from the feet, rows to the back, columns to the left; nibabel: to R, A, S
    assert np.array_equal(shown[1], (labels == 7)[::-1, ::-1].transpose(2, 1, 0))
    assert found.scene.fullest(shown) == (labels > 0).sum((0, 1)).argmax()


def test_pictures_of_a_volume_have_the_shape_of_the_body(visit, volume):
    scene = visit([volume], "volume").scene
    assert scene.slices.shape == (10, 14, 12, 1)
    assert scene.bare(3).shape == (512, round(512 * 12 / 14), 3)


def test_contours_are_drawn_on_the_right_alone(visit, picture):
    found = visit([picture], "binary")
    before, after = found.scene.bare(0), found.scene.drawn(0, found.findings["binary"].masks)
    assert before.shape == after.shape == (341, 512, 3)
    changed = (before != after).any(-1)
    assert 0 < changed.mean() < 0.5
    assert (after[changed] == [230, 159, 0]).all()


def test_a_lesion_between_the_pixels_of_the_page_is_drawn():
    scene = Scene.of(np.zeros((4096, 1024, 1), np.uint8))
    mask = np.zeros((1, 1, 4096, 1024), bool)
    mask[0, 0, 400:402, 200:202] = True
    assert scene.drawn(0, mask)[96:106, 46:56].any()
    assert scene.mapped(0, mask[0] * 0.0, mask[0])[96:106, 46:56].any()


def test_an_image_unlike_the_training_is_told_by_the_name_of_the_model(predictors, picture, tmp_path):
    class Check:  # of a model without splines, which has none of its own
        def __init__(self, unlike):
            self.unlike = unlike

        def row(self, name, image):
            return {"id": name, "score": 9.0, "threshold": 2.0, "unlike": self.unlike}

    models = {name: predictors[name] for name in ("binary", "other")}
    checks = {"binary": Check(False), "other": Check(True)}
    for place, (names, words) in enumerate({("binary",): "", ("other",): "of the training:", tuple(models): "of other:"}.items()):
        (tmp_path / str(place)).mkdir()
        chosen = {name: models[name] for name in names}
        found = segment(chosen, [picture], tmp_path / str(place), LIMIT, lambda part, name: None, checks)
        assert words in found.warning()
        assert bool(words) == bool(found.warning())


def test_overlapping_classes_come_as_a_zip_of_what_predict_writes(visit, predictors, picture, tmp_path):
    found = visit([picture], "overlapping")
    expected = predicted(predictors["overlapping"], picture, tmp_path / "out")
    with zipfile.ZipFile(found.download()) as archive:
        assert sorted(archive.namelist()) == ["a/scan.png", "b/scan.png"]
        for name in archive.namelist():
            assert archive.read(name) == (expected / "masks" / name).read_bytes()
    assert [row["class"] for row in found.table()] == ["a", "b"]


def test_two_models_are_side_by_side(visit, predictors, picture, tmp_path):
    found = visit([picture], "binary", "other")
    assert [row["model"] for row in found.table()] == ["binary", "other"]
    assert found.table()[0]["pixels"] != found.table()[1]["pixels"]
    with zipfile.ZipFile(found.download()) as archive:
        for name in ("binary", "other"):
            expected = predicted(predictors[name], picture, tmp_path / name)
            assert archive.read(f"{name}/scan.png") == (expected / "masks/scan.png").read_bytes()


def test_a_zip_of_a_dicom_series_is_the_series(visit, predictors, tmp_path):
    series = Series(tmp_path / "thorax", count=16)
    folder = series.save()
    packed = tmp_path / "thorax.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
        archive.writestr("__MACOSX/._IM000", "beside")
    found = visit([packed], "volume")
    expected = predicted(predictors["volume"], folder, tmp_path / "out")
    assert found.download().name == "thorax.nii.gz"
    ours, theirs = nibabel.load(found.download()), nibabel.load(expected / "masks/thorax.nii.gz")
    assert np.array_equal(np.asanyarray(ours.dataobj), np.asanyarray(theirs.dataobj))
    assert np.array_equal(ours.affine, theirs.affine)


def test_a_bad_file_is_told_in_one_sentence_without_the_folders_of_this_machine(visit, picture, tmp_path):
    picture.write_bytes(picture.read_bytes()[:40])
    with pytest.raises(UserError) as caught:
        visit([picture], "binary")
    assert str(caught.value).startswith("scan.png ")
    assert str(tmp_path) not in str(caught.value)


def test_a_volume_for_a_model_of_pictures_is_refused_by_its_name(visit, volume):
    with pytest.raises(UserError, match=r"^head\.nii\.gz ends in \.nii\.gz, which is not read"):
        visit([volume], "binary")


def test_several_images_are_too_many(visit, picture, tmp_path):
    second = tmp_path / "second.png"
    second.write_bytes(picture.read_bytes())
    with pytest.raises(UserError, match="2 images were given: send one at a time"):
        visit([picture, second], "binary")


def test_without_a_model_there_is_nothing_to_do(visit, picture):
    with pytest.raises(UserError, match="no model was chosen"):
        visit([picture])
