"""What goes into a model is what it was trained on, whatever other people's files are called."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image

from allukan import Predictor
from allukan.errors import UserError
from allukan.inference import evaluate, find_images, open_run, predict_files
from allukan.models import ImageFile, ModelCard, build_model, load_card, save_model

EXPECTED = "2 files an image, *_0000 (bright) and *_0001 (dark)"
EXPECTS = r"2 files an image, \*_0000 \(bright\) and \*_0001 \(dark\)"


@pytest.fixture(scope="module")
def predictor(two_channels):
    return Predictor(two_channels / "model", "cpu")


def predicted(predictor, inputs, out):
    """The last outcome, with the masks in ``out/masks``."""
    return list(predict_files(predictor, find_images(inputs, predictor.card), out))[-1]


def untrained(folder, in_channels, *files):
    """A model folder with random weights."""
    card = ModelCard(
        "convtwin-tiny", in_channels, ("a",), "binary", (32, 32), (0.5,) * in_channels, (0.2,) * in_channels, files=files
    )
    save_model(folder, build_model("convtwin-tiny", in_channels=in_channels, out_channels=1), card)
    return folder


def random_image(*shape):
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


def test_the_model_folder_says_what_an_image_is_made_of(two_channels):
    assert load_card(two_channels / "model").files == (ImageFile("*_0000", 1, "bright"), ImageFile("*_0001", 1, "dark"))
    assert json.loads((two_channels / "model/config.json").read_text())["files"][1] == {
        "pattern": "*_0001",
        "channels": 1,
        "name": "dark",
    }


@pytest.mark.parametrize("how", ["folder", "files in any order", "nested folders"])
def test_a_folder_of_channels_is_predicted_as_in_training(predictor, pairs, tmp_path, how):
    files = pairs.files("deep/*_0000" if "nested" in how else "*_0000", "deep/*_0001" if "nested" in how else "*_0001")
    inputs = [path for pair in files.values() for path in reversed(pair)] if "order" in how else [pairs.root]
    outcome = predicted(predictor, inputs, tmp_path / "out")
    assert (len(outcome.done), outcome.failed) == (4, [])
    folder = tmp_path / "out/masks" / ("deep" if "nested" in how else "")
    assert {path.name for path in folder.iterdir()} == {f"{name}.png" for name in pairs.images}
    assert pairs.dice(folder) > 0.85  # 0.05 with the channels swapped, 0 with one of them repeated
    for name, image in pairs.images.items():
        expected = predictor(np.ascontiguousarray(np.moveaxis(image, 0, -1))).masks[0]
        assert np.array_equal(np.asarray(Image.open(folder / f"{name}.png")) > 0, expected)


def test_what_lacks_a_file_or_has_one_too_many_is_refused_and_the_others_are_done(predictor, pairs, tmp_path):
    pairs.files("*_0000", "*_0001")
    (pairs.root / "P00_0001.png").unlink()
    pairs.save("P01_0002.png", pairs.images["P01"][0])
    pairs.save("scout.png", pairs.images["P01"][0])
    outcome = predicted(predictor, [pairs.root], tmp_path / "out")
    assert [path.name for path in outcome.done] == ["P02_0000.png", "P03_0000.png"]
    sentences = [sentence for _, sentence in outcome.failed]
    root = pairs.root
    assert sentences == [
        f"image P00 ({root}/P00_0000.png) lacks *_0001: the model expects {EXPECTED}.",
        f"image P01 ({', '.join(f'{root}/P01_000{n}.png' for n in range(3))}) has a file too many: the model expects {EXPECTED}.",
        f"{root}/scout.png is none of the files that the model expects: {EXPECTED}. Rename it, or give a JSON list.",
    ]


def test_a_channel_in_colour_is_not_taken_for_two(predictor, pairs):
    first, second = pairs.files("*_0000", "*_0001")["P00"]
    Image.fromarray(random_image(32, 32, 3)).save(second)
    with pytest.raises(
        UserError, match=r"P00_0001\.png is in colour \(\d+\.\d % of its pixels\) and the model was trained on grey"
    ):
        predictor([first, second])


def test_predictor_takes_the_files_of_an_image_together(predictor, pairs):
    for name, files in pairs.files("*_0000", "*_0001").items():
        stacked = predictor(np.ascontiguousarray(np.moveaxis(pairs.images[name], 0, -1)))
        assert np.array_equal(predictor(files).probabilities, stacked.probabilities)
        assert np.array_equal(predictor(tuple(map(str, files))).masks, stacked.masks)
        with pytest.raises(UserError, match=f"1 given, but the model expects {EXPECTS}, together as a list"):
            predictor(files[0])
        with pytest.raises(UserError, match=rf"_0001\.png is not file 1 of what the model expects: {EXPECTS}, in this order"):
            predictor(files[::-1])
    with pytest.raises(UserError, match=r"are of different images \(P00, P01\)"):
        predictor([pairs.root / "P00_0000.png", pairs.root / "P01_0001.png"])


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 1), (32, 32, 3), (2, 32, 32), (2, 32, 32, 2), (32,), (0, 32, 2)])
def test_arrays_of_another_shape_are_refused(predictor, shape):
    with pytest.raises(UserError, match=r"shape \("):
        predictor(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("image", [Image.new("P", (32, 32)), None, [], [np.zeros((32, 32), np.uint8)] * 2])
def test_what_is_no_path_and_no_array_is_refused(predictor, image):
    with pytest.raises(UserError, match="a path, a list of paths or an array is expected"):
        predictor(image)


@pytest.mark.parametrize("dtype", [bool, np.float32, np.uint16, np.int64])
def test_arrays_of_another_kind_are_refused(predictor, dtype):
    with pytest.raises(UserError, match=r"bytes 0 … 255 \(uint8\), got"):
        predictor(np.zeros((32, 32, 2), dtype))


def test_batches_are_not_broadcast(predictor):
    import torch

    assert predictor.probabilities(torch.zeros(1, 2, 32, 32, dtype=torch.uint8)).shape == (1, 1, 32, 32)
    for wrong in (
        torch.zeros(1, 1, 32, 32, dtype=torch.uint8),
        torch.zeros(1, 2, 32, 32),
        torch.zeros(2, 32, 32, dtype=torch.uint8),
    ):
        with pytest.raises(UserError, match=r"bytes \(B, 2, H, W\) are expected, got"):
            predictor.probabilities(wrong)


LISTS = {
    "lists of files": lambda files: list(files.values()),
    "files": lambda files: [path for pair in files.values() for path in pair],
    "test": lambda files: {"test": list(files.values())},
    "testing, as MONAI": lambda files: {"testing": [{"image": pair} for pair in files.values()], "training": []},
    "names in another order": lambda files: {
        "test": [pair[::-1] for pair in files.values()],
        "channel_names": {"0": "Dark", "1": "Bright"},
    },
    "patterns in another order": lambda files: {"test": [pair[::-1] for pair in files.values()]},
}


@pytest.mark.parametrize("how", LISTS)
def test_a_json_list_is_predicted(predictor, pairs, tmp_path, how):
    files = {name: [path.name for path in pair] for name, pair in pairs.files("*_0000", "*_0001").items()}
    (pairs.root / "list.json").write_text(json.dumps(LISTS[how](files)), encoding="utf-8-sig")
    outcome = predicted(predictor, [pairs.root / "list.json"], tmp_path / "out")
    assert (len(outcome.done), outcome.failed) == (4, [])
    assert pairs.dice(tmp_path / "out/masks") > 0.85


def test_a_json_list_may_call_its_files_anything(predictor, pairs, tmp_path):
    files = [[path.relative_to(pairs.root).as_posix() for path in pair] for pair in pairs.files("a/*", "b/*_x").values()]
    (pairs.root / "list.json").write_text(json.dumps({"test": files}))
    outcome = predicted(predictor, [pairs.root / "list.json"], tmp_path / "out")
    assert outcome.failed == []
    assert pairs.dice(tmp_path / "out/masks/a") > 0.85


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "no list of images"),
        ({"training": [{"image": "a.png", "label": "b.png"}]}, "no list of images"),
        ({"test": ["a.png"], "testing": ["b.png"]}, "no list of images to predict, or several"),
        ([{"label": "a.png"}], r"entry \{'label': 'a\.png'\} that names no image"),
        ([3], "entry 3 that names no image"),
        (
            {"test": [["P00_0000.png", "P00_0001.png"]], "channel_names": {"0": "bright", "1": "fluid"}},
            "bright, fluid, but the model",
        ),
    ],
)
def test_json_lists_that_are_none(predictor, pairs, content, words):
    pairs.files("*_0000", "*_0001")
    (pairs.root / "list.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=words):
        find_images([pairs.root / "list.json"], predictor.card)


def test_faults_of_single_entries(predictor, pairs):
    pairs.files("*_0000", "*_0001")
    entries = [["P00_0000.png", "gone.png"], ["P01_0000.png", "P01_0001.png", "P02_0001.png"], ["P02_0000.png", "P03_0001.png"]]
    (pairs.root / "list.json").write_text(json.dumps(entries))
    gone, many, mixed = find_images([pairs.root / "list.json"], predictor.card)
    assert "gone.png, which does not exist" in gone.fault
    assert "3 files, but the model expects 2 files an image" in many.fault
    assert "are of different images (P02, P03)" in mixed.fault


def test_names_beside_the_images_put_channels_in_order(predictor, pairs, tmp_path):
    """nnU-Net's imagesTs, whose dataset.json numbers the channels otherwise than that of the training."""
    pairs.files("imagesTs/*_0001", "imagesTs/*_0000")
    (pairs.root / "dataset.json").write_text(json.dumps({"channel_names": {"1": "bright", "0": "dark"}}))
    assert predicted(predictor, [pairs.root / "imagesTs"], tmp_path / "out").failed == []
    assert pairs.dice(tmp_path / "out/masks") > 0.85
    (pairs.root / "dataset.json").write_text(json.dumps({"channel_names": {"1": "bright", "0": "fluid"}}))
    outcome = predicted(predictor, [pairs.root / "imagesTs"], tmp_path / "other")
    assert outcome.done == []
    assert "fluid, bright, but the model expects 2 files an image" in outcome.failed[0][1]


@pytest.mark.parametrize("names", [("bright", "dark"), ("Dark", "Bright"), None])
def test_evaluate_matches_channels_by_name(two_channels, predictor, pairs, tmp_path, names):
    order = (1, 0) if names == ("Dark", "Bright") else (0, 1)
    summary = evaluate(open_run(two_channels), pairs.nnunet(names, order), predictor=predictor, out=tmp_path / "e")
    assert summary["classes"]["mass"]["dice"]["mean"] > 0.85


@pytest.mark.parametrize(
    ("names", "order", "words"),
    [
        (("bright", "fluid"), (0, 1), r"calls the files of an image bright, fluid, but the model expects"),
        (None, (0,), f"has one file an image, but the model expects {EXPECTS}"),
        (None, (0, 1, 1), f"has 3 files an image, but the model expects {EXPECTS}"),
    ],
)
def test_evaluate_refuses_other_channels(two_channels, predictor, pairs, tmp_path, names, order, words):
    with pytest.raises(UserError, match=words):
        evaluate(open_run(two_channels), pairs.nnunet(names, order), predictor=predictor, out=tmp_path / "e")
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("patterns", "inputs"),
    [
        (("*_t1", "*_t2"), ["."]),
        (("t1/*", "t2/*"), ["."]),
        (("t1/*", "t2/*"), ["t1", "t2"]),
        (("t1_*", "t2_*"), ["."]),
        (("*", "*_t2"), ["."]),
        (("*.dwi.b0", "*.dwi.b1000"), ["."]),
    ],
)
def test_files_that_a_datalist_told_apart_otherwise(two_channels, pairs, tmp_path, patterns, inputs):
    model = shutil.copytree(two_channels / "model", tmp_path / "model")
    card = json.loads((model / "config.json").read_text())
    files = [{"pattern": pattern, "channels": 1} for pattern in patterns]
    (model / "config.json").write_text(json.dumps(card | {"files": files}))
    pairs.files(*patterns)
    outcome = predicted(Predictor(model, "cpu"), [pairs.root / name for name in inputs], tmp_path / "out")
    assert (len(outcome.done), outcome.failed) == (4, [])
    assert pairs.dice(tmp_path / "out/masks") > 0.85


def old(model, folder):
    """A copy as version 0.1 wrote it."""
    folder = shutil.copytree(model, folder)
    card = json.loads((folder / "config.json").read_text())
    del card["files"]
    (folder / "config.json").write_text(json.dumps(card))
    return folder


def test_a_model_of_version_0_1_is_right_too(two_channels, predictor, pairs, tmp_path):
    run = shutil.copytree(two_channels, tmp_path / "run")
    shutil.rmtree(run / "model")
    before = Predictor(old(two_channels / "model", run / "model"), "cpu")
    files = pairs.files("*_0000", "*_0001")
    assert predicted(before, [pairs.root], tmp_path / "out").failed == []
    assert pairs.dice(tmp_path / "out/masks") > 0.85
    assert np.array_equal(before(files["P00"]).masks, predictor(files["P00"]).masks)
    with pytest.raises(UserError, match=r"the model expects 2 files an image, \*_0000 and \*_0001, together as a list"):
        before(files["P00"][0])
    scores = evaluate(open_run(two_channels), predictor=predictor, out=tmp_path / "e")
    assert evaluate(open_run(run), predictor=before)["overall"] == scores["overall"]


def test_three_channels_of_version_0_1_may_be_one_file_or_three(tmp_path):
    model = Predictor(untrained(tmp_path / "model", 3), "cpu")
    image = random_image(32, 32, 3)
    paths = [tmp_path / f"in/P_{channel:04d}.png" for channel in range(3)]
    paths[0].parent.mkdir()
    for path, channel in zip(paths, np.moveaxis(image, -1, 0), strict=True):
        Image.fromarray(channel).save(path)
    assert np.array_equal(model(paths).probabilities, model(image).probabilities)
    with pytest.raises(UserError, match=r"is one of three grey files, and the model of version 0\.1 does not say"):
        model(paths[0])
    assert len(predicted(model, [paths[0].parent], tmp_path / "out").failed) == 3
    paths[2].unlink()
    assert np.array_equal(model(paths[0]).masks, model(np.repeat(image[..., :1], 3, 2)).masks)


def test_three_grey_files_are_no_picture_in_rgb(tmp_path):
    files = [ImageFile(f"*_{channel:04d}", 1) for channel in range(3)]
    model = Predictor(untrained(tmp_path / "model", 3, *files), "cpu")
    assert model(random_image(32, 32, 3)).masks.shape == (1, 32, 32)
    for grey in (random_image(32, 32), random_image(32, 32, 1)):
        with pytest.raises(UserError, match=r"has 1 channels .* expects 3, of 3 files an image, \*_0000, \*_0001 and \*_0002"):
            model(grey)


def test_grey_becomes_rgb_and_nothing_else_does(tmp_path):
    model = Predictor(untrained(tmp_path / "model", 3, ImageFile("*", 3)), "cpu")
    grey = random_image(32, 32)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    expected = model(np.repeat(grey[..., None], 3, 2)).probabilities
    assert np.array_equal(model(grey).probabilities, expected)
    assert np.array_equal(model(tmp_path / "grey.png").probabilities, expected)
    for channels in (2, 4):
        with pytest.raises(UserError, match=f"has {channels} channels and the model expects 3"):
            model(random_image(32, 32, channels))
    with pytest.raises(UserError, match=r"has 32 channels and the model expects 3 \(height, width, channels\)"):
        model(random_image(3, 32, 32))


@pytest.mark.parametrize("channels", [2, 4])
def test_a_file_of_several_channels_is_stacked_as_in_training(tmp_path, channels):
    """What no alpha says it is stays a channel, and nothing is repeated to fill one up."""
    model = Predictor(untrained(tmp_path / "model", channels, ImageFile("*", channels)), "cpu")
    image = random_image(32, 32, channels)
    planes = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unspecified"] * (channels - 1)}
    tifffile.imwrite(tmp_path / "a.tif", image, **planes)
    outcome = predicted(model, [tmp_path / "a.tif"], tmp_path / "out")
    assert (outcome.done, outcome.failed) == ([tmp_path / "a.tif"], [])
    assert np.array_equal(model(tmp_path / "a.tif").probabilities, model(image).probabilities)
    for other in (random_image(32, 32), random_image(32, 32, 3)):
        Image.fromarray(other).save(tmp_path / "b.png")
        with pytest.raises(UserError, match=rf"b\.png has \d channels? and the model expects {channels}"):
            model(tmp_path / "b.png")


def test_a_grey_model_takes_rgb_without_colour(tmp_path):
    model = Predictor(untrained(tmp_path / "model", 1, ImageFile("*", 1)), "cpu")
    grey = random_image(32, 32)
    expected = model(grey).probabilities
    for mode in ("RGB", "RGBA", "LA"):
        Image.fromarray(grey).convert(mode).save(tmp_path / f"{mode}.png")
        assert np.array_equal(model(tmp_path / f"{mode}.png").probabilities, expected), mode
    colour = np.repeat(grey[..., None], 3, 2)
    colour[5, 5] = (250, 20, 20)
    for mode in ("RGB", "RGBA"):
        Image.fromarray(colour).convert(mode).save(tmp_path / "colour.png")
        with pytest.raises(UserError, match=r"colour\.png is in colour \(0\.1 % of its pixels\)"):
            model(tmp_path / "colour.png")


def test_a_grey_scan_in_a_colour_jpeg_stays_grey(tmp_path):
    model = Predictor(untrained(tmp_path / "model", 1, ImageFile("*", 1)), "cpu")
    smooth = np.asarray(Image.fromarray(random_image(8, 8)).resize((64, 64)))
    Image.fromarray(np.repeat(smooth[..., None], 3, 2)).save(tmp_path / "scan.jpg", quality=80)
    assert np.abs(model(tmp_path / "scan.jpg").probabilities - model(smooth).probabilities).max() < 0.1
    with pytest.raises(UserError, match="is in colour"):
        model(random_image(32, 32, 3))


def test_nnunets_single_channel_is_named_as_nnunet_does(tmp_path):
    model = Predictor(untrained(tmp_path / "model", 1, ImageFile("*_0000", 1, "US")), "cpu")
    (tmp_path / "in").mkdir()
    for name in ("A_0000", "plain", "B_0000", "B_0001"):
        Image.fromarray(random_image(32, 32)).save(tmp_path / f"in/{name}.png")
    outcome = predicted(model, [tmp_path / "in"], tmp_path / "out")
    assert {path.name for path in (tmp_path / "out/masks").iterdir()} == {"A.png", "plain.png"}
    assert ["image B" in sentence and "a file too many" in sentence for _, sentence in outcome.failed] == [True]
    with pytest.raises(UserError, match=r"B_0001\.png is not file 1"):
        model(tmp_path / "in/B_0001.png")


def test_frames_that_end_on_numbers_are_images_of_their_own(tmp_path):
    """A model of single files: what looks like nnU-Net's channels are the frames of a video."""
    model = Predictor(untrained(tmp_path / "model", 1, ImageFile("*", 1)), "cpu")
    (tmp_path / "in").mkdir()
    for number in range(2):
        Image.fromarray(random_image(32, 32)).save(tmp_path / f"in/frame_{number:04d}.png")
    assert predicted(model, [tmp_path / "in"], tmp_path / "out").failed == []
    assert {path.name for path in (tmp_path / "out/masks").iterdir()} == {"frame_0000.png", "frame_0001.png"}


def test_files_of_one_image_in_two_formats_and_results_that_collide(predictor, pairs):
    pairs.files("*_0000", "*_0001")
    copy = pairs.root / "P00_0000.tif"
    Image.fromarray(pairs.images["P00"][0]).save(copy)
    with pytest.raises(UserError, match="would both be written to"):
        find_images([pairs.root], predictor.card)
    copy.unlink()
    shutil.copytree(pairs.root, pairs.root.parent / "again")
    with pytest.raises(UserError, match="would both be written to P00"):
        find_images([pairs.root, pairs.root.parent / "again"], predictor.card)


def test_a_card_that_contradicts_itself_is_refused(two_channels, tmp_path):
    model = shutil.copytree(two_channels / "model", tmp_path / "model")
    card = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(card | {"files": card["files"][:1]}))
    with pytest.raises(UserError, match="contradicts itself"):
        load_card(model)
    (model / "config.json").write_text(json.dumps(card | {"files": [{"name": "x"}]}))
    with pytest.raises(UserError, match="is not a model description"):
        load_card(model)


def test_options_of_the_card_are_kept(two_channels, tmp_path):
    card = load_card(two_channels / "model")
    save_model(tmp_path, card.build(), replace(card, threshold=0.4))
    assert load_card(tmp_path) == replace(card, threshold=0.4)
