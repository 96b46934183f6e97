"""What is no label is not learned: ignored pixels, numbered objects, lossy label maps; all labels as one class."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from allukan.data import IGNORED, LabelRules, check_dataset, open_dataset, parse_ignore, read_masks
from allukan.data.label_survey import class_doubt, survey
from allukan.errors import UserError


def blocks(*rows):
    """A label map of 8 × 8 pixels for every number, so that every class is an area."""
    return np.kron(np.array(rows, np.uint8), np.ones((8, 8), np.uint8))


def maps(make, arrays, suffix=".png"):
    for number, array in enumerate(arrays):
        make.save(f"images/c{number}.png", make.grey(*array.shape))
        make.save(f"masks/c{number}{suffix}", array)
    return make.root


def cells(count):
    """Numbered discs."""
    labels = np.zeros((64, 64), np.uint8)
    for k in range(count):
        y, x = 8 + 14 * (k // 4), 8 + 14 * (k % 4)
        labels[y - 4 : y + 4, x - 4 : x + 4] = k + 1
    return labels


def problems(root, **rules):
    return [finding.what for finding in check_dataset(root, LabelRules(**rules)).findings if finding.fatal]


def notes(root, **rules):
    return [finding.what for finding in check_dataset(root, LabelRules(**rules)).findings if not finding.fatal]


@pytest.fixture
def voc(make):
    """Classes 1 and 2 and, as in Pascal VOC, 255 along their borders."""
    return maps(make, [blocks([0, 1, 255, 2], [0, 0, 255, 0])] * 4)


def test_255_alone_is_the_foreground_and_keeps_its_value(make):
    root = maps(make, [blocks([0, 255], [0, 0])] * 4)
    dataset = open_dataset(root)
    assert (dataset.classes, dataset.label_values, dataset.named, dataset.merged) == (("foreground",), (255,), False, False)
    assert read_masks(dataset.cases[0], dataset).tolist() == [blocks([0, 1], [0, 0]).tolist()]
    assert check_dataset(root).facts["classes"] == "foreground (255)"


def test_255_beside_classes_is_a_question(voc):
    with pytest.raises(UserError, match=r"the label 255 stands beside 1, 2: say --ignore 255 .* or --ignore none"):
        open_dataset(voc)
    assert len(problems(voc)) == 1


def test_ignored_pixels_are_in_no_class(voc):
    dataset = open_dataset(voc, LabelRules(ignore=255))
    assert (dataset.classes, dataset.label_values, dataset.ignored) == (("1", "2"), (1, 2), 255)
    masks = read_masks(dataset.cases[0], dataset)
    assert masks[0].tolist() == blocks([0, 1, IGNORED, 0], [0, 0, IGNORED, 0]).tolist()
    assert masks[1].tolist() == blocks([0, 0, IGNORED, 1], [0, 0, IGNORED, 0]).tolist()


def test_with_ignore_none_it_is_a_class(voc):
    assert open_dataset(voc, LabelRules(ignore="none")).label_values == (1, 2, 255)


def test_a_mask_of_0_and_255_is_a_class(make):
    assert open_dataset(maps(make, [blocks([0, 255])] * 3)).label_values == (255,)


def test_65535_is_asked_about_too(make):
    labels = blocks([0, 1, 2])
    with pytest.raises(UserError, match="label 65535 stands beside 1"):
        open_dataset(maps(make, [np.where(labels == 2, np.uint16(65535), labels)] * 3))


def test_ignored_pixels_are_no_foreground_in_the_check(voc):
    facts = check_dataset(voc, LabelRules(ignore=255)).facts
    assert facts["ignored label"] == "255"
    assert facts["class 1"].startswith("foreground 12.5 %")


@pytest.mark.parametrize("value", [0, -1, 2.5, "x", True])
def test_ignore_is_a_value_from_1_upwards(value):
    with pytest.raises(UserError, match="option ignore must be the value of the label, from 1 upwards, or none"):
        LabelRules(ignore=value)


def test_ignore_from_the_command_line():
    assert [parse_ignore(text) for text in ("7", "none", None)] == [7, "none", None]


def test_nnunets_ignore_is_no_class(make):
    make.nnunet(4, labels={"background": 0, "a": 1, "ignore": 2})
    dataset = open_dataset(make.root)
    assert (dataset.classes, dataset.label_values, dataset.ignored) == (("a",), (1,), 2)
    labels = np.asarray(Image.open(dataset.cases[0].masks[0][0]))
    assert (read_masks(dataset.cases[0], dataset)[0] == IGNORED).tolist() == (labels == 2).tolist()


def test_the_user_may_ignore_a_named_class(make):
    assert open_dataset(make.nnunet(3), LabelRules(ignore=2)).classes == ("cyst",)


def test_ignored_values_in_binary_masks(make):
    for i in range(3):
        make.save(f"images/c{i}.png", make.grey(8, 24))
        make.save(f"masks/0/c{i}.png", blocks([0, 255, 128]))
    plain, dataset = open_dataset(make.root), open_dataset(make.root, LabelRules(ignore=128))
    with pytest.raises(UserError, match="not binary"):
        read_masks(plain.cases[0], plain)
    assert read_masks(dataset.cases[0], dataset)[0, 0].tolist() == [0] * 8 + [1] * 8 + [IGNORED] * 8


def test_jpeg_label_maps_are_refused(make):
    root = maps(make, [blocks([0, 1, 2], [2, 1, 0])] * 3, ".jpg")
    with pytest.raises(UserError, match=r"c0\.jpg is a JPEG of more than black and white, which changes the numbers"):
        open_dataset(root)
    assert len(problems(root)) == 3
    (root / "masks/c0.jpg").rename(root / "masks/c0.png")  # whatever it is called
    assert "c0.png is a JPEG" in problems(root)[0]
    dataset = open_dataset(root, LabelRules(foreground=True))
    with pytest.raises(UserError, match="is a JPEG"):
        read_masks(dataset.cases[0], dataset)


def test_masks_that_are_all_the_same_are_noted(make):
    """A field of view, or copies of one file."""
    view, black = blocks([255, 255, 0]), blocks([0, 0, 0])
    root = maps(make, [view, view, view, black, blocks([0, 0, 255])])
    said = "the masks of 3 of 5 images are the same: are they a field of view, or copies of one file?"
    assert said in notes(root)
    make.save("masks/c2.png", blocks([255, 0, 0]))
    assert not any("are the same" in what for what in notes(root))


def disc(value, radius=17, outside=0):
    y, x = np.mgrid[:64, :64]
    return np.where((y - 30) ** 2 + (x - 33) ** 2 < radius**2, value, outside).astype(np.uint8)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("folder", ["masks", "masks/polyp"])
def test_jpegs_of_black_and_white_are_cut_at_the_middle(make, folder, colour):
    """As the masks of Kvasir-SEG come, some of which are blurred at the edges, and one may be black."""
    truth = [disc(255), disc(255, 6), disc(0)]
    for i, mask in enumerate(truth):
        make.save(f"images/c{i}.jpg", make.grey(64, 64))
        image = Image.fromarray(mask).convert("RGB" if colour else "L")
        if i == 0:
            image = image.resize((32, 32)).resize((64, 64), Image.Resampling.BILINEAR)
        (make.root / folder).mkdir(parents=True, exist_ok=True)
        image.save(make.root / folder / f"c{i}.jpg", quality=75)
    dataset = open_dataset(make.root)
    assert dataset.target == "binary"
    for case, mask in zip(dataset.cases, truth, strict=True):
        assert (read_masks(case, dataset)[0] != (mask > 0)).mean() < 0.01
    assert [what for what in notes(make.root) if "JPEG" in what] == [
        f"3 masks, as {make.root / folder}/c0.jpg, are JPEGs: from 128 upwards is foreground."
    ]


@pytest.mark.parametrize(
    "grey",
    [
        disc(60),
        disc(128),
        np.maximum(disc(85), disc(255, 8)),
        disc(2),
        np.maximum(disc(200), disc(255, 8)),
        np.maximum(disc(50), disc(255, 8)),
    ],
)
@pytest.mark.parametrize("folder", ["masks", "masks/0"])
def test_jpegs_of_several_classes_are_not_cut(make, folder, grey):
    make.save("images/a.png", make.grey(64, 64))
    make.save(f"{folder}/a.jpg", grey)
    assert any("a.jpg is a JPEG of more than black and white" in what for what in problems(make.root))


def test_coloured_jpegs_are_not_cut(make):
    make.save("images/a.png", make.grey(64, 64))
    make.save("masks/a.jpg", np.stack([disc(255), disc(0), disc(0)], axis=-1))
    assert "is a JPEG of more than black and white" in problems(make.root)[0]


def test_a_jpeg_saved_as_png_looks_interpolated(make, tmp_path):
    Image.fromarray(disc(60).astype(np.uint8)).save(tmp_path / "l.jpg", quality=95)
    root = maps(make, [np.asarray(Image.open(tmp_path / "l.jpg"))] * 3)
    assert any("look interpolated, or like JPEG" in what for what in problems(root))


def test_interpolated_label_maps_are_refused_and_thin_classes_are_not(make):
    smooth = np.rint(ndimage.zoom(disc(40.0), 2, order=1)).astype(np.uint8)
    words, certain = class_doubt([survey(make.save("smooth.png", smooth))])
    assert "look interpolated" in words
    assert certain
    vessels = np.zeros((40, 40), np.uint8)
    vessels[10:30, 10:30] = 4
    vessels[35:37], vessels[:, 3], vessels[5] = 1, 2, 3
    words, certain = class_doubt([survey(make.save("vessels.png", vessels))])
    assert "1, 2, 3 are only thin lines" in words
    assert not certain


def test_numbered_objects_are_refused(make):
    root = maps(make, [cells(count) for count in (5, 16, 9, 7)])
    with pytest.raises(UserError, match=r"16 values, and every map counts from 1 .* --foreground"):
        open_dataset(root)
    dataset = open_dataset(root, LabelRules(foreground=True))
    assert (dataset.classes, dataset.target, dataset.label_values) == (("foreground",), "binary", ())
    assert read_masks(dataset.cases[1], dataset)[0].tolist() == (cells(16) > 0).astype(int).tolist()


def test_few_numbered_regions_are_only_noted(make):
    root = maps(make, [cells(count) for count in (1, 2, 3)])
    assert any("look like numbered objects" in what for what in notes(root))
    assert not problems(root)


def test_organs_are_not_numbered_objects(make):
    """Six organs, each one region, not all in every slice."""
    organs = cells(6)
    slices = [organs, organs * (organs != 2), organs * (organs > 3), organs * (organs != 1)]
    assert not any("numbered" in what for what in [*notes(maps(make, slices)), *problems(make.root)])
    assert open_dataset(make.root).label_values == (1, 2, 3, 4, 5, 6)


def test_names_in_dataset_json_settle_it(make):
    root = maps(make, [cells(count) for count in (5, 16, 9, 7)])
    make.json("dataset.json", {"labels": {f"cell {k}": k for k in range(1, 17)}})
    dataset = open_dataset(root)
    assert (dataset.layout, dataset.classes[0], dataset.label_values[-1], dataset.named) == ("label-maps", "cell 1", 16, True)


def test_class_folders_become_one_class(make):
    root = make.folders(3, classes=("benign", "malignant"))
    both, one = open_dataset(root), open_dataset(root, LabelRules(foreground=True))
    masks = read_masks(one.cases[0], one)
    assert masks[0].tolist() == read_masks(both.cases[0], both).max(0).tolist()
    assert one.classes == ("foreground",)


def test_classes_of_one_case_must_agree_in_size(make):
    root = make.folders(3, classes=("a", "b"))
    make.save("masks/b/c00.png", make.mask(9, 9))
    dataset = open_dataset(root)
    with pytest.raises(UserError, match=r"b/c00\.png is 9×9 pixels but .*a/c00\.png is 20×30: masks of a case must agree"):
        read_masks(dataset.cases[0], dataset)


def test_a_value_that_no_png_holds_is_refused(make):
    make.nnunet(3, labels={"background": 0, "a": 1, "b": 70000})
    with pytest.raises(UserError, match="class 'b' of value 70000: number them up to 65535"):
        open_dataset(make.root)


def test_empty_label_maps_are_a_dataset_where_nothing_is_learned(make):
    root = maps(make, [blocks([0, 0])] * 3)
    with pytest.raises(UserError, match=r"every mask .* is empty"):
        open_dataset(root)
    dataset = open_dataset(root, learn=False)
    assert dataset.classes == ()
    assert read_masks(dataset.cases[0], dataset).shape == (0, 8, 16)


def test_class_numbers_in_binary_masks_are_noted(make):
    """Each file has one value, and still they are two classes."""
    for i in range(4):
        make.save(f"images/c{i}.png", make.grey(8, 16))
        make.save(f"masks/0/c{i}.png", blocks([0, 1 + i % 2]))
    assert any("have 1, 2 as foreground" in what for what in notes(make.root))


def test_inverted_masks_are_noted(make):
    root = make.folders(4)
    assert not any("inverted" in what for what in notes(root))
    for i in range(4):
        make.save(f"masks/0/c{i:02d}.png", 255 - make.mask())
    assert any("inverted, or" in what for what in notes(root))
