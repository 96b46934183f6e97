"""Names of files and folders: what pairs up, what is left out, and the sentence for everything that is doubtful."""

import codecs
import json
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from allukan.data import Splits, check_dataset, load_groups, open_dataset, read_masks, write_image
from allukan.data.names import on_disk, search, unread
from allukan.errors import UserError

NFC, NFD = (unicodedata.normalize(form, "é läsion") for form in ("NFC", "NFD"))
JUNK = (".ipynb_checkpoints", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", ".git", "__pycache__")
SPOILT = ("._c00.png", ".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.png", "ehthumbs.db")


def junk(make, *folders):
    for folder in folders:
        for name in SPOILT:
            (make.root / folder / name).write_bytes(b"\0\5\26\7junk")
        for name in JUNK:
            (make.root / folder / name).mkdir()
            (make.root / folder / name / "c00-checkpoint.png").write_bytes(b"junk")


@pytest.mark.parametrize("layout", ["folders", "label_maps", "nnunet", "decathlon"])
def test_system_files_and_folders_are_no_data(make, layout, caplog):
    if layout == "decathlon":
        make.label_maps()
        entries = [{"image": f"images/c{i:02d}.png", "label": f"masks/c{i:02d}.png"} for i in range(4)]
        (make.root / "images").rename(make.root / "x")
        (make.root / "masks").rename(make.root / "y")
        entries = [{"image": f"x/c{i:02d}.png", "label": f"y/c{i:02d}.png"} for i in range(4)]
        make.json("list.json", {"training": entries})
        folders = ("x", "y", ".")
    else:
        getattr(make, layout)(4)
        folders = ("imagesTr", "labelsTr", ".") if layout == "nnunet" else ("images", "masks", ".")
    before = open_dataset(make.root)
    junk(make, *folders)
    (make.root / "._list.json").write_bytes(b"\0\5\26\7junk")
    assert open_dataset(make.root) == before
    assert check_dataset(make.root).trainable
    assert caplog.records == []


def test_a_dataset_in_a_hidden_folder_is_read(make):
    make.root = make.root / ".cache" / "__MACOSX"
    assert open_dataset(make.folders(3)).ids == ("c00", "c01", "c02")
    assert [path.name for path in search(make.root / "images")] == ["c00.png", "c01.png", "c02.png"]


@pytest.mark.parametrize(("image", "mask"), [(NFD, NFC), (NFC, NFD)])
@pytest.mark.parametrize("layout", ["folders", "label-maps", "nnunet", "decathlon"])
def test_unicode_forms_pair_up_and_paths_stay(make, image, mask, layout):
    truth = make.labels(2)
    places = {
        "folders": ("images/{}.png", "masks/0/{}.png"),
        "label-maps": ("images/{}.png", "masks/{}.png"),
        "nnunet": ("imagesTr/{}_0000.png", "labelsTr/{}.png"),
        "decathlon": ("x/{}.png", "y/{}.png"),
    }[layout]
    make.save(places[0].format(image), make.grey())
    make.save(places[1].format(mask), truth)
    if layout == "nnunet":
        make.json("dataset.json", {"labels": {"background": 0, NFD: 1}, "file_ending": ".png"})
    if layout == "decathlon":  # whose list was written on another machine
        entry = {"image": places[0].format(mask), "label": places[1].format(image).replace("/", "\\")}
        make.json("list.json", {"training": [entry], "labels": {"1": NFD}})
    dataset = open_dataset(make.root)
    case = dataset.cases[0]
    assert dataset.layout == layout
    assert case.id == NFC
    assert case.images[0].name == places[0].format(image).rpartition("/")[2]
    assert np.array_equal(read_masks(case, dataset)[0], truth)
    assert dataset.select([NFD]) == (case,)
    if layout in ("nnunet", "decathlon"):
        assert dataset.classes == (NFC,)


def test_unicode_forms_in_groups_and_splits(make):
    make.save(f"images/{NFD}.png", make.grey())
    make.save(f"masks/0/{NFC}.png", make.mask())
    dataset = open_dataset(make.root)
    (make.root / "g.csv").write_text(f"id,p\n{NFD},x\n", encoding="utf-8")
    assert load_groups(dataset, str(make.root / "g.csv")) == {NFC: "x"}
    assert load_groups(dataset, f"re:^({NFD[:2]})") == {NFC: NFC[0]}
    Splits("ukan", 0, (NFD,), (NFD,), ()).save(make.root / "s.json")
    Splits.load(make.root / "s.json").matches(dataset)
    assert Splits.load(make.root / "s.json").train == (NFC,)


def test_class_folders_in_another_form(make):
    root = make.folders(2, classes=(NFD, "0"))
    assert set(open_dataset(root).classes) == {NFC, "0"}
    (root / "masks" / NFC).mkdir()
    with pytest.raises(UserError, match="differ only in the Unicode form"):
        open_dataset(root)


def test_two_files_that_differ_in_form_only(make):
    for name in (NFC, NFD):
        make.save(f"images/{name}.png", make.grey())
        make.save("masks/0/x.png", make.mask())
    with pytest.raises(UserError, match="differ only in the Unicode form of their names: keep one"):
        open_dataset(make.root)


def test_letter_case_of_a_pair_is_asked_for(make):
    make.folders(2)
    make.save("images/IMG.PNG", make.grey())
    make.save("masks/0/img.png", make.mask())
    with pytest.raises(
        UserError, match=r"image 'IMG' and mask 'img' of .* differ in upper and lower case: give them the same name\.$"
    ):
        open_dataset(make.root)


def test_letter_case_of_the_suffix_does_not_matter(make):
    make.save("images/IMG.PNG", make.grey())
    make.save("masks/0/IMG.png", make.mask())
    assert open_dataset(make.root).ids == ("IMG",)


def test_names_that_other_systems_take_for_one_are_noted(make, caplog):
    make.folders(2, classes=("Cyst", "cyst"))
    for name in ("A", "a", "con", "x.", "b?"):
        make.save(f"images/{name}.png", make.grey())
        for folder in ("Cyst", "cyst"):
            make.save(f"masks/{folder}/{name}.png", make.mask())
    check = check_dataset(make.root)
    said = [finding.what for finding in check.findings if not finding.fatal]
    assert check.trainable
    assert (
        said[0] == "images 'A' and 'a' differ only in upper and lower case, which are one file on Windows and macOS: rename one."
    )
    assert said[1] == "3 of the names of images, as 'b?', cannot be written on Windows: rename them."
    assert said[2].startswith("classes 'Cyst' and 'cyst' differ only")
    assert open_dataset(make.root).ids == ("A", "a", "b?", "c00", "c01", "con", "x.")
    assert [record.message for record in caplog.records] == said[:3]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such names")
@pytest.mark.parametrize(("name", "words"), [(b"l\xe4sion.png", "no UTF-8 text"), (b"a\nb.png", r"'a\\nb.png' .* line break")])
def test_names_that_cannot_be_ids_are_refused(make, name, words):
    make.folders(2)
    for folder in ("images", "masks/0"):
        Image.fromarray(make.mask()).save(make.root / "new.png")
        os.rename(make.root / "new.png", os.path.join(os.fsencode(make.root / folder), name))
    with pytest.raises(UserError, match=words):
        open_dataset(make.root)
    assert not check_dataset(make.root).trainable


WORDS = ("_mask", "_masks", "_seg", "_segmentation", "_label", "_labels", "_gt", "_GT", "_groundtruth", "_annotation", "-mask")


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("folder", ["masks/", "masks/0/"])
def test_masks_named_after_their_image(make, folder, word):
    truth = {name: make.labels(2) for name in ("a", "scan.v2", "a_b")}
    for name, mask in truth.items():
        make.save(f"images/{name}.png", make.grey())
        make.save(f"{folder}{name}{word}.png", mask)
    dataset = open_dataset(make.root)
    assert dataset.layout == ("label-maps" if folder == "masks/" else "folders")
    assert dataset.ids == ("a", "a_b", "scan.v2")
    for case in dataset.cases:
        assert np.array_equal(read_masks(case, dataset)[0], truth[case.id])


def test_an_image_of_its_own_is_no_mask_of_another(make):
    masks = {name: make.labels(2) for name in ("a", "a_mask")}
    for name, mask in masks.items():
        make.save(f"images/{name}.png", make.grey())
        make.save(f"masks/{name}.png", mask)
    dataset = open_dataset(make.root)
    assert dataset.ids == ("a", "a_mask")
    assert [np.array_equal(read_masks(case, dataset)[0], masks[case.id]) for case in dataset.cases] == [True, True]


@pytest.mark.parametrize("folder", ["masks", "masks/0"])
@pytest.mark.parametrize(("one", "other"), [("a", "a_mask"), ("a_mask", "a_seg"), ("a", "a_mask_1")])
def test_two_masks_that_fit_are_not_chosen_between(make, folder, one, other):
    make.save("images/a.png", make.grey())
    for name in (one, other):
        make.save(f"{folder}/{name}.png", make.mask())
    with pytest.raises(UserError, match=r"both fit image 'a': keep one of them|mask 'a_mask_1' of .* has no image"):
        open_dataset(make.root)


def test_the_numbered_masks_of_a_case_are_united(make):
    parts = [make.mask(), make.mask()]
    make.save("images/benign (1).png", make.grey())
    for name, part in zip(("benign (1)_mask", "benign (1)_mask_1"), parts, strict=True):
        make.save(f"masks/0/{name}.png", part)
    dataset = open_dataset(make.root)
    assert np.array_equal(read_masks(dataset.cases[0], dataset)[0], (parts[0] | parts[1]) > 0)


@pytest.mark.parametrize("suffix", [".webp", ".nii.gz", ".heic", ".jp2", ".npy", ""])
def test_formats_that_are_not_read_are_named(make, suffix, caplog):
    root = make.folders(3)
    for name in ("x", "y"):
        for folder in ("images", "masks/0"):
            (root / folder / f"{name}{suffix}").write_bytes(b"x")
    (root / "images/readme.txt").write_bytes(b"x")
    assert open_dataset(root).ids == ("c00", "c01", "c02")
    what = f"end in {suffix}, which is" if suffix else "have no suffix and are"
    said = f"2 files in {root / 'images'}, as x{suffix}, {what} not read: convert them to PNG or TIFF."
    assert [record.message for record in caplog.records] == [said, said.replace(str(root / "images"), str(root / "masks/0"))]
    assert said in [finding.what for finding in check_dataset(root).findings]


@pytest.mark.parametrize("suffix", [".webp", ".nii.gz"])
def test_a_partner_that_is_not_read_is_the_reason(make, suffix):
    root = make.folders(3)
    (root / "images/c00.png").rename(root / f"images/c00{suffix}")
    (root / "masks/0/c01.png").rename(root / f"masks/0/c01_mask{suffix}")
    said = {finding.where: finding.what for finding in check_dataset(root).findings if finding.fatal}
    end = f"ends in {suffix}, which is not read: convert it to PNG or TIFF."
    assert said == {"c00": f"{root}/images/c00{suffix} {end}", "c01": f"{root}/masks/0/c01_mask{suffix} {end}"}


@pytest.mark.parametrize("folder", ["images", "masks/0"])
def test_only_formats_that_are_not_read(make, folder):
    root = make.folders(3)
    for path in (root / folder).iterdir():
        path.rename(path.with_suffix(".webp"))
    with pytest.raises(UserError, match=r"3 files in .*, as c00\.webp, end in \.webp, which is not read: convert them"):
        open_dataset(root)


def test_images_in_deeper_folders_are_not_lost_in_silence(make, caplog):
    root = make.folders(3)
    make.save("images/more/d.png", make.grey())
    open_dataset(root)
    assert [record.message for record in caplog.records] == [
        f"{root / 'images/more'} is a folder within the folder of the images, and not searched: move its images up."
    ]


def test_links_are_followed_but_not_round_and_round(make):
    make.folders(2)
    (make.root / "images/loop").symlink_to(make.root / "images")
    (make.root / "images/a-link").symlink_to(make.root / "masks")
    found = [str(path.relative_to(make.root / "images")) for path in search(make.root / "images")]
    assert found == ["c00.png", "c01.png", "a-link/0/c00.png", "a-link/0/c01.png"]


def test_a_link_that_leads_nowhere_is_missed(make):
    root = make.folders(2)
    (root / "images/z.png").symlink_to(root / "gone.png")
    (root / "masks/0/z.png").symlink_to(root / "gone.png")
    assert next(f.what for f in check_dataset(root).findings if f.fatal) == f"{root}/images/z.png does not exist."


TABLES = {
    "semicolons and capitals": ("ID;Patient Name\nc00;p1\nc01;p 1\nc02; p1 \n", ""),
    "tabs, quotes and a mark": ('\ufeff"id"\t"patient"\n"c00"\tp1\n"c01"\t"p 1"\nc02\tp1\n', ""),
    "names of files": ("id,patient\nc00.png,p1\nc01.png,p 1\nc02,p1\n", ""),
    "another column": ("patient name;id;age\np1;c00;3\np 1;c01;4\np1;c02;3\n", ":Patient_Name"),
}


@pytest.mark.parametrize("name", TABLES)
def test_groups_of_a_spreadsheet(make, name):
    dataset = open_dataset(make.folders(3))
    text, column = TABLES[name]
    (make.root / "g.csv").write_text(text, encoding="utf-8")
    assert load_groups(dataset, f"{make.root / 'g.csv'}{column}") == {"c00": "p1", "c01": "p 1", "c02": "p1"}


@pytest.mark.parametrize("name", ["001", "20231124093000001"])
@pytest.mark.parametrize(
    "spoilt", [lambda name: str(int(name)), lambda name: f"{int(name)}.0", lambda name: f"{float(name):.2E}"]
)
def test_ids_that_became_numbers_are_recognised(make, name, spoilt):
    if name == spoilt(name) or (name == "001" and "E" in spoilt(name)):
        pytest.skip("nothing is spoilt")
    make.save(f"images/{name}.png", make.grey())
    make.save(f"masks/0/{name}.png", make.mask())
    (make.root / "groups.csv").write_text(f"id;patient\n{spoilt(name)};7\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"where the image is '{name}': a spreadsheet took it for a number"):
        load_groups(open_dataset(make.root), None)


@pytest.mark.parametrize("rows", ["c00,1\nc01,1\nc00,2", "c00,1\nc01,1\nc00.png,2"])
def test_an_image_in_two_groups_is_refused(make, rows):
    dataset = open_dataset(make.folders(2))
    (make.root / "groups.csv").write_text(f"id,patient\n{rows}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"'?c00(\.png)?'? into '?1'? and into '?2'?: leave one of them out"):
        load_groups(dataset, None)


def test_ranges_of_a_spreadsheet(make):
    dataset = open_dataset(make.folders(3))
    table = make.root / "sequences.csv"
    table.write_text("First frame;Last frame;Sequence\n0;1;a\n2;9;b\n", encoding="utf-8")
    assert load_groups(dataset, None) == {"c00": "a", "c01": "a", "c02": "b"}
    table.write_text("sequence\tfirst_frame\tlast_frame\na\t0\t2\nb\t2\t9\n", encoding="utf-16")
    with pytest.raises(UserError, match="'c02' into a and b: its ranges overlap"):
        load_groups(dataset, None)


@pytest.mark.parametrize("encode", [lambda t: codecs.BOM_UTF8 + t.encode(), lambda t: t.encode("utf-16")])
def test_marks_at_the_start_of_descriptions(make, encode):
    make.nnunet(labels={"background": 0, "läsion": 1, "cyst": 2})
    path = make.root / "dataset.json"
    path.write_bytes(encode(path.read_text(encoding="utf-8")))
    assert open_dataset(make.root).classes == ("läsion", "cyst")


def test_dots_in_names_survive_writing(tmp_path):
    for name in ("scan.v2", "scan.v3", "a.1", "x" * 251, "con"):
        write_image(tmp_path / f"{name}.png", np.full((4, 4), len(name), np.uint8))
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a.1", "con", "scan.v2", "scan.v3", "x" * 251]
    assert np.asarray(Image.open(tmp_path / "scan.v3.png")).max() == 7


def test_a_dataset_folder_in_another_form(make):
    make.root = make.root / NFD
    make.folders(2)
    assert open_dataset(make.root.parent / NFC).root == make.root
    assert on_disk(make.root.parent / "gone") == make.root.parent / "gone"


def test_ids_of_every_kind_come_back(make):
    names = [
        "a,b",
        "=1+2",
        "[red]x[_red]",
        "[1]",
        "患者 1",
        "🩻",
        "trailing ",
        "dot.",
        "100%",
        "$x$",
        "a'b",
        'q"q',
        "a\\b",
        "<b>",
        "%(x)s",
    ]
    for name in names:
        make.save(f"images/{name}.png", make.grey())
        make.save(f"masks/<i>0, [x]/{name}.png", make.mask())
    dataset = open_dataset(make.root)
    assert (sorted(dataset.ids), dataset.classes) == (sorted(names), ("<i>0, [x]",))
    Splits("ukan", 0, dataset.ids, dataset.ids, ()).save(make.root / "s.json")
    assert Splits.load(make.root / "s.json").train == dataset.ids
    assert json.loads((make.root / "s.json").read_text(encoding="ascii"))["train"] == list(dataset.ids)


def test_a_datalist_may_name_no_format_that_is_not_read(make):
    Image.fromarray(make.grey()).save(make.root / "a.webp")
    make.save("m.png", make.mask())
    with pytest.raises(UserError, match=r"a\.webp ends in \.webp, which is not read"):
        open_dataset(make.json("list.json", {"training": [{"image": "a.webp", "label": "m.png"}]}))


def test_a_folder_in_other_letters_is_named(make):
    root = make.folders(2)
    (root / "images").rename(root / "Images")
    (root / "masks").rename(root / "other")
    with pytest.raises(UserError, match="Images is spelled otherwise than expected: rename it to images"):
        open_dataset(root)


def test_the_voxels_beside_a_header_are_read(tmp_path):
    """PROMISE12 comes as .mhd with .raw."""
    known = frozenset({".mhd", ".nhdr"})
    names = ("a.mhd", "a.raw", "b.nhdr", "b.raw.gz", "c.zraw")
    [said] = unread([tmp_path / name for name in names], known)
    assert said.startswith(f"1 file in {tmp_path}, as c.zraw, ends in .zraw, which is not read")
