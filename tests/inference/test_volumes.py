"""Volumes through a model and back: every voxel of the answer in its place, against nibabel, numpy and scipy."""

import itertools
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from scipy.ndimage import label, zoom
from scipy.special import softmax

from allukan.data import Splits, read_volume
from allukan.data.volumes import Geometry, Image, read_image
from allukan.errors import UserError
from allukan.files import read_table
from allukan.inference import Cleaning, Outcome, Predictor, Run, Segmenter, evaluate, find_images, open_run, predict_files
from allukan.inference.inputs import VolumeInput
from allukan.integrations.source import batches_to_try, normalised, open_source
from allukan.models import ImageFile, ModelCard, load_card, save_model
from tests.volume_sets import blob, blobs, save

SHAPE = (14, 12, 10)  # of the volumes, as nibabel has them: x, y, z
TURNS = [(order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)]


def made(folder, spacing_mm=(1.0, 1.0, 1.0), size=(16, 16, 16), **given):
    """A model of random weights and statistics, whose answer is different everywhere."""
    torch.manual_seed(0)
    options = {"spatial_dims": 3, "normalisation": "image", "label_values": (3, 7), "classes": ("a", "b"), **given}
    rest = {"in_channels": 1, "target": "multiclass", "size": size, "mean": (0.0,), "std": (1.0,), "spacing_mm": spacing_mm}
    card = ModelCard("convtwin-tiny", **rest, **options)
    network = card.build().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        last = list(network.head.children())[-1]
        last.weight.mul_(5)
        last.bias -= network(torch.randn(1, 1, *size)).mean(dim=(0, 2, 3, 4))
    return save_model(folder, network, card), network


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return made(tmp_path_factory.mktemp("model") / "m")[0]


class Known(Segmenter):
    """Answers with random numbers of the two classes, the same for every volume of a shape."""

    mode, tta = "sliding", False

    def __init__(self, model):
        self.card = load_card(model)

    def of_picture(self, picture):
        raise AssertionError("a volume is no picture")

    def planes(self, volume, tick):
        random = np.random.default_rng(5)
        for _ in range(volume.geometry.shape[0]):
            numbers = random.choice(3, volume.geometry.shape[1:], p=[0.8, 0.1, 0.1])
            yield torch.from_numpy(np.eye(3, dtype=np.float32)[numbers]).movedim(-1, 0)

    def windows(self, volume):
        return 0


def predict(model, inputs, out, **given):
    outcome = Outcome()
    predictor = model if isinstance(model, Segmenter) else Predictor(model, "cpu")
    for outcome in predict_files(predictor, find_images(inputs, predictor.card), out, **given):  # noqa: B007
        pass
    return outcome


def test_all_48_ways_to_store_a_volume_give_one_answer_each_in_its_own_geometry(model, tmp_path):
    """Oracle: nibabel turns the answers to one orientation, in which they must be the same, bit for bit."""
    array, _ = blob(np.random.default_rng(0), SHAPE)
    right = nibabel.Nifti1Image(array, np.diag([1.0, 1.0, 1.0, 1.0]))
    for number, (order, signs) in enumerate(TURNS):
        turned = right.as_reoriented(np.stack([order, signs], axis=1))
        nibabel.save(turned, tmp_path / f"v{number:02d}.nii.gz")
    done = predict(model, [tmp_path], tmp_path / "out")
    assert (len(done.done), done.failed) == (48, [])
    answers = []
    for number in range(48):
        image, found = (nibabel.load(folder / f"v{number:02d}.nii.gz") for folder in (tmp_path, tmp_path / "out/masks"))
        assert np.array_equal(found.affine, image.affine)
        assert found.shape == image.shape
        assert found.get_data_dtype() == np.uint8
        answers.append(np.asanyarray(nibabel.as_closest_canonical(found).dataobj))
    assert set(np.unique(answers[0])) == {0, 3, 7}  # the values of the label maps
    assert all(np.array_equal(answer, answers[0]) for answer in answers)


def test_byte_order_and_a_negative_spacing_change_no_voxel_of_the_answer(model, tmp_path):
    """CT in int16 from -1024 to 3071, stored in both byte orders and with a spacing of -1.5 in its header."""
    array = np.rint(np.interp(blob(np.random.default_rng(0), SHAPE)[0], (60, 140), (-1024, 3071))).astype(np.int16)
    assert (array.min(), array.max()) == (-1024, 3071)
    plain = nibabel.Nifti1Image(array, None)
    plain.header.set_zooms((1.5, 1, 1))
    plain.set_qform(np.diag([1.5, 1, 1, 1]), 1)
    nibabel.save(plain, tmp_path / "plain.nii")
    header = plain.header.as_byteswapped(">")
    nibabel.save(nibabel.Nifti1Image(array.astype(">i2"), None, header), tmp_path / "big.nii")
    content = bytearray((tmp_path / "plain.nii").read_bytes())
    content[80:84] = np.array(-1.5, "<f4").tobytes()  # pixdim[1]
    (tmp_path / "negative.nii").write_bytes(content)
    assert (tmp_path / "big.nii").read_bytes()[:4] == b"\0\0\1\x5c"  # 348 in the other order
    assert predict(model, [tmp_path], tmp_path / "out").failed == []
    names = ("plain", "big", "negative")
    images, found = ([nibabel.load(folder / f"{name}.nii") for name in names] for folder in (tmp_path, tmp_path / "out/masks"))
    answers = [np.asanyarray(mask.dataobj) for mask in found]
    assert len(np.unique(answers[0])) > 1
    for image, mask, answer in zip(images, found, answers, strict=True):
        assert np.array_equal(answer, answers[0])
        assert np.allclose(mask.affine, image.affine)


def oblique():
    turn = np.array([[0.96, -0.28, 0], [0.28 * 0.8, 0.96 * 0.8, -0.6], [0.28 * 0.6, 0.96 * 0.6, 0.8]])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = (turn * (0.7, 3.0, 0.8))[:, [1, 0, 2]] * (1, -1, 1), (-91.5, 12.25, 40)
    return matrix


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_an_oblique_volume_of_thick_slices_comes_back_in_its_own_file_type(model, tmp_path, suffix):
    array, _ = blob(np.random.default_rng(1), SHAPE)
    path = save(tmp_path / "x.nii.gz", array, oblique())
    if suffix in (".nrrd", ".mha"):
        import SimpleITK

        SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(path := tmp_path / f"y{suffix}"))
    elif suffix == ".nii":
        path = save(tmp_path / "y.nii", array, oblique())
    done = predict(model, [path], tmp_path / "out", save_probabilities=True)
    assert done.failed == []
    (mask,) = (tmp_path / "out/masks").iterdir()
    assert mask.name.endswith(suffix)
    image, found = read_image(path), read_image(mask)
    assert image.geometry.shape == found.geometry.shape
    assert np.allclose(image.geometry.affine, found.geometry.affine, atol=1e-5)
    stored = np.load(next((tmp_path / "out/probabilities").iterdir()))["probabilities"]
    assert (np.array([0, 3, 7])[stored.argmax(0)] != found.array[0]).mean() < 0.01  # they are of float16
    assert not (tmp_path / "out/overlays").exists()


def test_a_prediction_is_its_steps_written_out(tmp_path):
    """Scores of the whole volume, linear interpolation to the voxels of the training, the network, and back."""
    folder, network = made(tmp_path / "m", spacing_mm=(2.0, 0.5, 1.0), size=(16, 20, 14))
    array, _ = blob(np.random.default_rng(2), (14, 10, 32))  # 32 slices of 10 × 14, 1 mm
    path = save(tmp_path / "x.nii.gz", array, np.diag([-1.0, -1, 1, 1]))  # x to the left, y to the back: canonical here
    found = Predictor(folder, "cpu")(path)
    scores = ((array - array.mean(dtype=np.float64)) / array.std(dtype=np.float64)).T
    scaled = zoom(scores, (0.5, 2, 1), order=1, grid_mode=True, mode="nearest")
    with torch.no_grad():
        logits = network(torch.from_numpy(scaled.astype(np.float32))[None, None])[0].numpy().astype(np.float64)
    wanted = [zoom(plane, (2, 0.5, 1), order=1, grid_mode=True, mode="nearest") for plane in softmax(logits, axis=0)]
    assert np.allclose(found.probabilities, wanted, atol=2e-4)
    assert (found.masks == np.array([np.argmax(wanted, 0) == k for k in (1, 2)])).mean() > 0.999


def test_windows_of_a_large_volume_are_weighted_by_a_gaussian(model):
    """Where one window covers nothing else, the answer is that of the network alone."""
    predictor = Predictor(model, "cpu")
    seen = []
    hook = predictor._network.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    shape = (20, 16, 30)
    values = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    found = predictor(Image(values, Geometry.of_pixels(shape, (1, 1, 1))))
    hook.remove()
    assert found.masks.shape == (2, *shape)
    assert np.allclose(found.probabilities.sum(0), 1, atol=1e-5)
    assert set(seen) == {(1, 1, 16, 16, 16)}  # one at a time, whatever the size of the volume
    assert len(seen) == 2 * 1 * 3


def test_flips_along_all_axes_are_averaged(model):
    values = np.random.default_rng(0).normal(size=(1, 16, 16, 16)).astype(np.float32)
    image = Image(values, Geometry.of_pixels((16, 16, 16), (1, 1, 1)))
    plain = Predictor(model, "cpu")
    answers = []
    for axes in [axes for count in range(4) for axes in itertools.combinations((1, 2, 3), count)]:
        flipped = Image(np.ascontiguousarray(np.flip(values, axes)), image.geometry)
        answers.append(np.flip(plain(flipped).probabilities, axes))
    assert np.allclose(Predictor(model, "cpu", tta=True)(image).probabilities, np.mean(answers, 0), atol=1e-5)


def test_a_folder_of_slices_is_one_volume(model, tmp_path):
    from tests.data.volumes.conftest import Series

    folder = Series(tmp_path / "in/patient.1").save()
    (tmp_path / "in/notes.txt").write_text("x")
    done = predict(model, [tmp_path / "in"], tmp_path / "out")
    assert done.failed == []
    image, mask = read_image(folder), read_image(tmp_path / "out/masks/patient.1.nii.gz")
    assert not image.geometry.differs(mask.geometry)
    alone = predict(model, [folder], tmp_path / "alone")
    assert alone.failed == []
    assert np.array_equal(read_image(tmp_path / "alone/masks/patient.1.nii.gz").array, mask.array)


def test_masks_of_a_series_as_dicom_seg(model, tmp_path):
    """Read back with highdicom: segments have the names of the classes and lie where the label map of NIfTI does."""
    hd = pytest.importorskip("highdicom", reason="the extra allukan[dicom] is not installed")
    from tests.data.volumes.conftest import Series

    folder = Series(tmp_path / "in/ct").save()
    array, _ = blob(np.random.default_rng(0), SHAPE)
    save(tmp_path / "in/a.nii.gz", array)
    done = predict(Known(model), [tmp_path / "in"], tmp_path / "out", mask_format="dicom-seg")
    assert done.done == [folder]
    ((_, sentence),) = done.failed
    assert "a.nii.gz: a DICOM SEG belongs to a DICOM series" in sentence
    assert predict(Known(model), [folder], tmp_path / "nifti").failed == []
    wanted = read_image(tmp_path / "nifti/masks/ct.nii.gz")
    made = hd.seg.segread(tmp_path / "out/masks/ct.dcm")
    assert [segment.SegmentLabel for segment in made.SegmentSequence] == ["a", "b"]
    volume = made.get_volume(combine_segments=True)
    volume = volume.match_geometry(hd.Volume(wanted.array[0], wanted.geometry.affine, coordinate_system="PATIENT"))
    assert np.array_equal(np.array([0, 3, 7])[volume.array], wanted.array[0])
    assert set(np.unique(wanted.array)) == {0, 3, 7}


def test_dicom_seg_needs_its_extra(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(UserError, match=r"pip install 'allukan\[dicom\]'"):
        next(predict_files(Known(model), [], tmp_path / "out", mask_format="dicom-seg"))


def test_sizes_of_the_classes_are_beside_the_masks(model, tmp_path):
    """Oracle: nibabel's own volume of a mask, in the geometry of each file."""
    for number, spacing in enumerate(((1, 1, 1), (0.5, 2, 1.5))):
        array, _ = blob(np.random.default_rng(number), SHAPE)
        save(tmp_path / f"in/deep/v{number}.nii.gz", array, np.diag([*spacing, 1]))
    assert predict(model, [tmp_path / "in"], tmp_path / "out").failed == []
    rows = read_table(tmp_path / "out/volumes.csv")
    assert [(row["id"], row["class"]) for row in rows] == [(f"deep/v{n}", name) for n in (0, 1) for name in "ab"]
    for row in rows:
        mask = nibabel.load(tmp_path / f"out/masks/{row['id']}.nii.gz")
        voxels = np.asanyarray(mask.dataobj) == {"a": 3, "b": 7}[row["class"]]
        wanted = nibabel.imagestats.mask_volume(nibabel.Nifti1Image(voxels.astype(np.uint8), mask.affine))
        assert float(row["mm3"]) == pytest.approx(wanted)
        assert float(row["ml"]) == pytest.approx(wanted / 1000)
        assert int(row["voxels"]) == voxels.sum()
    steps = predict_files(Known(model), find_images([tmp_path / "in"], load_card(model)), tmp_path / "half")
    next(steps)
    steps.close()  # as an interruption does
    assert [row["id"] for row in read_table(tmp_path / "half/volumes.csv")] == ["deep/v0"] * 2


def test_components_are_removed_from_what_is_written_and_measured(model, tmp_path):
    """Oracle: scipy's components of the masks as they were."""
    array, _ = blob(np.random.default_rng(3), SHAPE)
    path = save(tmp_path / "x.nii.gz", array, np.diag([1, 1, 2, 1]))
    predict(Known(model), [path], tmp_path / "all")
    predict(Known(model), [path], tmp_path / "clean", cleaning=Cleaning.of_names(load_card(model), ["7"], 10.0))
    before, after = (np.asanyarray(nibabel.load(tmp_path / f"{name}/masks/x.nii.gz").dataobj) for name in ("all", "clean"))
    for value in (3, 7):
        parts, count = label(before == value, np.ones((3, 3, 3)))
        sizes = [2 * (parts == number).sum() for number in range(1, count + 1)]
        assert min(sizes) < 10 < max(sizes)  # there is something to remove
        stay = [n for n, size in enumerate(sizes, 1) if size >= 10 and (value == 3 or size == max(sizes))]
        assert np.array_equal(after == value, np.isin(parts, stay))
    rows = {row["class"]: int(row["voxels"]) for row in read_table(tmp_path / "clean/volumes.csv")}
    assert rows == {"a": (after == 3).sum(), "b": (after == 7).sum()}


def test_progress_tells_the_windows_of_a_volume(model, tmp_path):
    values, told = np.random.default_rng(0).normal(size=(1, 20, 16, 30)).astype(np.float32), []
    Predictor(model, "cpu", tta=True).number(
        Image(values, Geometry.of_pixels((20, 16, 30), (1, 1, 1))), progress=lambda *now: told.append(now)
    )
    assert told == [(done, 48) for done in range(1, 49)]  # 2 × 1 × 3 windows, eight times


def test_a_format_that_there_is_not(model, tmp_path):
    with pytest.raises(UserError, match="did you mean 'dicom-seg'"):
        next(predict_files(Predictor(model, "cpu"), [], tmp_path / "out", mask_format="dicomseg"))


def test_what_is_no_volume_of_this_model_is_told_and_the_others_are_done(model, tmp_path):
    array, _ = blob(np.random.default_rng(0), SHAPE)
    save(tmp_path / "in/a.nii.gz", array)
    save(tmp_path / "in/b.nii.gz", np.stack([array, array], -1))
    save(tmp_path / "in/c.nii.gz", np.full(SHAPE, np.nan, np.float32))
    (tmp_path / "in/d.nii.gz").write_bytes(b"\x1f\x8b")
    done = predict(model, [tmp_path / "in"], tmp_path / "out")
    assert [path.name for path in done.done] == ["a.nii.gz"]
    said = {path.name: sentence for path, sentence in done.failed}
    assert set(said) == {"b.nii.gz", "c.nii.gz", "d.nii.gz"}
    assert "2 channels and 1" in said["b.nii.gz"]
    assert "NaN" in said["c.nii.gz"]


def volume_of(values, spacing_mm=(1, 1, 1)):
    return Image(values, Geometry.of_pixels(values.shape[1:], spacing_mm))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model, at: Predictor(model, mode="resize"), "predicted by a sliding window"),
        (lambda model, at: Predictor(model)(np.zeros((4, 4, 4), np.uint8)), "Image of allukan.data.volumes is expected"),
        (
            lambda model, at: Predictor(model)(volume_of(np.ones((1, 4, 4, 4)), None)),
            "the image does not say the size of its voxels",
        ),
        (lambda model, at: Predictor(model)(volume_of(np.full((1, 4, 4, 4), np.nan))), "the image holds NaN or infinite values"),
        (lambda model, at: find_images([(at / "a.png").touch() or at / "a.png"], Predictor(model).card), "convert it to NIfTI"),
        (lambda model, at: find_images([at], Predictor(model).card), r"no images in .*: known are .*\.nii\.gz"),
    ],
)
def test_what_a_model_of_volumes_does_not_take(model, tmp_path, call, words):
    with pytest.raises(UserError, match=words):
        call(model, tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose model is that of random weights, on a set with voxels of 2 × 1 × 0.5 mm (x, y, z)."""
    root = tmp_path_factory.mktemp("run")
    blobs(root / "data", 3, SHAPE, np.diag([2, 1, 0.5, 1]))
    made(root / "run/model", (0.5, 1.0, 2.0), classes=("one", "two"), label_values=(1, 2), files=(ImageFile("*", 1, "MRI"),))
    Splits("clean", 0, ("b00",), ("b01",), ("b02",)).save(root / "run/splits.json")
    (root / "run/config.yaml").write_text(f"data: {root / 'data'}\n")
    return open_run(root / "run")


def test_scores_and_volumes_are_in_mm_of_each_case(run, tmp_path):
    from monai.metrics import compute_hausdorff_distance

    predictor = Predictor(run.folder / "model", "cpu")
    summary = evaluate(run, predictor=predictor, out=tmp_path / "out")
    assert summary["distance_unit"] == "mm"
    rows = read_table(tmp_path / "out/cases.csv")
    assert [row["class"] for row in rows] == ["one", "two"]
    truth = nibabel.load(run.config["data"] + "/labelsTr/b02.nii.gz")
    found = predictor(run.config["data"] + "/imagesTr/b02.nii.gz").masks
    for value, row in enumerate(rows, 1):
        wanted = value == np.asanyarray(truth.dataobj).T
        assert float(row["truth_ml"]) == pytest.approx(wanted.sum() * np.prod(truth.header.get_zooms()) / 1000)
        assert float(row["predicted_ml"]) == pytest.approx(found[value - 1].sum() * np.prod(truth.header.get_zooms()) / 1000)
        pair = [torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (found[value - 1], wanted)]
        distance = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=[0.5, 1.0, 2.0])
        assert float(row["hd95"]) == pytest.approx(float(distance), rel=1e-5)


def test_exports_are_tried_on_volumes_as_the_network_takes_them(run):
    source = open_source(run.folder)
    (at_size, another), told = batches_to_try(source)
    assert told == f"2 volumes of {Path(run.config['data']).name}"
    assert (at_size.shape[2:], at_size.dtype) == (source.card.size, torch.float32)
    assert another.shape != at_size.shape
    (case,) = run.open_data().select(run.splits.test)
    whole = VolumeInput(read_volume(case.images)).of(source.card)
    assert torch.equal(normalised(at_size, source.card), at_size)
    assert torch.isin(at_size, torch.cat([whole.flatten(), torch.zeros(1)])).all()


def test_what_is_of_pictures_only_is_refused_for_a_run_on_volumes(run, tmp_path):
    predictor = Predictor(run.folder / "model", "cpu")
    with pytest.raises(UserError, match="spacing_mm is of pictures"):
        evaluate(run, predictor=predictor, out=tmp_path / "o", spacing_mm=(1.0, 1.0))
    picture = ModelCard("convtwin-tiny", 1, ("one", "two"), "multiclass", (32, 32), (0.0,), (1.0,), label_values=(1, 2))
    save_model(tmp_path / "m", picture.build(), picture)
    with pytest.raises(UserError, match="holds volumes, but the model expects pictures"):
        evaluate(Run(run.folder, run.config, run.splits), predictor=Predictor(tmp_path / "m", "cpu"), out=tmp_path / "o")
