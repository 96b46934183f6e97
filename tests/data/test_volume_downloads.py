"""Sets of volumes as their authors give them away: BraTS, KiTS, LiTS, Synapse and ACDC without moving a file, and their like."""

import nibabel
import numpy as np
import pytest

from allukan.data import load_groups, open_dataset, plan_splits, read_masks
from allukan.data.case_folders import case_folders
from allukan.data.layouts import scan_dataset
from allukan.data.volumes import read_image
from allukan.errors import UserError
from allukan.options import LabelRules
from tests.volume_sets import blob, save

BRATS = ("flair", "t1", "t1ce", "t2")


@pytest.fixture
def volumes(tmp_path):
    """Writes a volume or its label map below the folder of the test."""
    random = np.random.default_rng(0)

    def write(*names, labels=False, values=(0, 1, 2)):
        for name in names:
            image, found = blob(random, (10, 12, 8))
            save(tmp_path / name, np.array(values, np.uint8)[found] if labels else image)

    write.root = tmp_path
    return write


def brats(volumes, join="_", above="", cases=("BraTS20_001", "BraTS20_002", "BraTS20_003"), channels=BRATS):
    for case in cases:
        volumes(*(f"{above}{case}/{case}{join}{channel}.nii.gz" for channel in channels))
        volumes(f"{above}{case}/{case}{join}seg.nii.gz", labels=True, values=(0, 1, 4))
    return volumes.root


@pytest.mark.parametrize(("join", "channels"), [("_", BRATS), ("-", ("t1c", "t1n", "t2f", "t2w"))])
def test_brats(volumes, join, channels):
    dataset = open_dataset(brats(volumes, join, channels=channels))
    assert dataset.ids == ("BraTS20_001", "BraTS20_002", "BraTS20_003")
    assert (dataset.layout, dataset.spatial_dims, dataset.classes, dataset.label_values) == ("label-maps", 3, ("1", "4"), (1, 4))
    assert dataset.patterns == tuple(f"*{join}{channel}" for channel in channels)
    assert dataset.channel_names == channels
    for case in dataset.cases:
        assert [path.name for path in case.images] == [f"{case.id}{join}{channel}.nii.gz" for channel in channels]
        assert case.masks == ((case.images[0].with_name(f"{case.id}{join}seg.nii.gz"),),)


def test_brats_of_two_grades_with_patients_of_one_name(volumes):
    brats(volumes, above="HGG/", cases=("P1", "P2"))
    assert open_dataset(brats(volumes, above="LGG/", cases=("P1",))).ids == ("HGG/P1", "HGG/P2", "LGG/P1")


def test_brats_in_parts(volumes):
    brats(volumes, above="train/")
    brats(volumes, above="val/", cases=("BraTS20_004",))
    folds = {None: {"train": ("BraTS20_001", "BraTS20_002", "BraTS20_003"), "val": ("BraTS20_004",)}}
    assert open_dataset(volumes.root).given.folds == folds


def test_names_of_classes_stand_in_a_description(volumes):
    (brats(volumes) / "dataset.json").write_text('{"labels": {"background": 0, "core": 1, "enhancing": 4}}')
    assert open_dataset(volumes.root).classes == ("core", "enhancing")
    assert open_dataset(volumes.root, LabelRules(foreground=True)).classes == ("foreground",)


def test_kits_whose_files_have_one_name_in_all_folders(volumes):
    cases = ("case_00000", "case_00001", "case_00002")
    volumes(*(f"data/{case}/imaging.nii.gz" for case in (*cases, "case_00210")))
    for case in cases:
        volumes(f"data/{case}/segmentation.nii.gz", labels=True)
    dataset = open_dataset(volumes.root)
    assert (dataset.ids, dataset.patterns, dataset.channel_names) == (cases, ("*/imaging",), ())
    [note] = dataset.given.notes
    assert note == f"without segmentation and not used: 1 of the images, as {volumes.root / 'data/case_00210'}."
    assert note in plan_splits(dataset, source="drawn", pairs=[]).notes


def totalsegmentator(volumes, organs=("liver", "spleen"), cases=("s0000", "s0001", "s0002")):
    volumes(*(f"{case}/ct.nii.gz" for case in cases))
    for k, organ in enumerate(organs):
        values = (0, *np.eye(2, dtype=int)[k])
        volumes(*(f"{case}/segmentations/{organ}.nii.gz" for case in cases), labels=True, values=values)
    return volumes.root


def test_totalsegmentator_with_a_file_a_class(volumes):
    dataset = open_dataset(totalsegmentator(volumes))
    assert (dataset.ids, dataset.classes, dataset.target) == (("s0000", "s0001", "s0002"), ("liver", "spleen"), "multilabel")
    assert (dataset.patterns, dataset.spatial_dims, dataset.layout) == (("*/ct",), 3, "folders")
    case = dataset.cases[1]
    files = [volumes.root / f"s0001/segmentations/{organ}.nii.gz" for organ in ("liver", "spleen")]
    truth = np.stack([nibabel.load(file).get_fdata().transpose(2, 1, 0) for file in files])
    found = read_masks(case, dataset, read_image(case.images[0]))
    assert truth.any()
    np.testing.assert_array_equal(found.sum((1, 2, 3)), truth.sum((1, 2, 3)))
    merged = open_dataset(volumes.root, LabelRules(foreground=True))
    assert read_masks(merged.cases[1], merged).sum() == truth.max(0).sum()


def test_a_class_that_one_volume_lacks_is_a_problem(volumes):
    root = totalsegmentator(volumes)
    (root / "s0001/segmentations/liver.nii.gz").unlink()
    with pytest.raises(UserError, match="s0001 has no mask liver, which other images have: add an empty one"):
        open_dataset(root)
    assert scan_dataset(root)[0].ids == ("s0000", "s0002")


def test_organs_that_are_saved_where_they_are_present_are_not_united(volumes):
    for case, organs in (("s1", "a"), ("s2", "ab"), ("s3", "b"), ("s4", "c")):
        volumes(f"{case}/ct.nii.gz")
        volumes(*(f"{case}/segmentations/organ_{organ}.nii.gz" for organ in organs), labels=True, values=(0, 1, 1))
    with pytest.raises(UserError, match=r"s1 has no mask organ_b, .* or say --foreground to take all masks as one class"):
        open_dataset(volumes.root)
    assert open_dataset(volumes.root, LabelRules(foreground=True)).classes == ("foreground",)


@pytest.mark.parametrize("other", ["prediction", "label_viz", "ground_truth_expert1", "lesion"])
def test_another_mask_is_no_channel(volumes, other):
    for case in ("a", "b"):
        volumes(f"{case}/t1.nii.gz", f"{case}/flair.nii.gz")
        volumes(f"{case}/mask.nii.gz", f"{case}/{other}.nii.gz", labels=True)
    with pytest.raises(UserError, match=f"a holds mask and {other}, which may all be masks: keep one of them"):
        open_dataset(volumes.root)


def test_channels_and_strange_folders_are_named(volumes):
    root = brats(volumes)
    volumes("old/P04_x.nii.gz")
    notes = open_dataset(root).given.notes
    assert f"1 folders hold other files than the rest and are not used, as {root / 'old'}." in notes
    assert "seg is taken for the mask, and the other files for channels: flair, t1, t1ce, t2." in notes


def test_visits_of_a_patient_stay_together(volumes):
    for patient, visit in (("p1", "a"), ("p1", "b"), ("p2", "a"), ("p3", "a"), ("p4", "a")):
        volumes(f"{patient}/{visit}/flair.nii.gz")
        volumes(f"{patient}/{visit}/mask.nii.gz", labels=True)
    dataset = open_dataset(volumes.root)
    groups = load_groups(dataset, None)
    assert dataset.ids == ("p1/a", "p1/b", "p2/a", "p3/a", "p4/a")
    assert [groups[name] for name in dataset.ids] == ["p1", "p1", "p2", "p3", "p4"]
    assert any("4 folders, as" in note and "are taken for patients" in note for note in dataset.given.notes)


def test_folders_of_the_decathlon_without_their_list(volumes):
    for name in ("a", "b"):
        volumes(f"imagesTr/{name}.nii.gz")
        volumes(f"labelsTr/{name}.nii.gz", labels=True)
    assert (open_dataset(volumes.root).ids, open_dataset(volumes.root).classes) == (("a", "b"), ("1", "2"))


def test_pictures_in_folders_of_their_own(make):
    for case in ("a", "b"):
        make.save(f"{case}/image.png", make.grey())
        make.save(f"{case}/mask.png", make.mask())
    dataset = open_dataset(make.root)
    assert (dataset.ids, dataset.spatial_dims, dataset.classes) == (("a", "b"), 2, ("foreground",))


def test_a_folder_with_other_files_is_a_problem(volumes):
    """Patient 355 of BraTS 2020 has a label map of another name."""
    brats(volumes)
    odd = volumes.root / "BraTS20_002"
    (odd / "BraTS20_002_seg.nii.gz").rename(odd / "W39_1998.09.19_Segm.nii.gz")
    with pytest.raises(
        UserError, match=r"BraTS20_002 holds W39_1998.09.19_Segm, flair, t1, t1ce, t2 and other folders flair, seg, t1"
    ):
        open_dataset(volumes.root)


def test_two_masks_in_every_folder_are_not_guessed_between(volumes):
    brats(volumes)
    for case in ("BraTS20_001", "BraTS20_002", "BraTS20_003"):
        volumes(f"{case}/{case}_mask.nii.gz", labels=True)
    with pytest.raises(UserError, match="BraTS20_001 holds mask and seg, which may all be masks: keep one of them"):
        open_dataset(volumes.root)


def test_masks_beside_an_image_called_as_its_folder_may_be_several(make):
    for case in ("a", "b"):
        make.save(f"{case}/{case}.png", make.grey())
        make.save(f"{case}/{case}_mask.png", make.mask())
    make.save("a/a_mask_1.png", make.mask())
    assert [len(case.masks[0]) for case in open_dataset(make.root).cases] == [2, 1]


def test_two_files_of_one_name_are_a_problem(make):
    for case in ("a", "b"):
        for name in ("image.png", "image.jpg"):
            make.save(f"{case}/{name}", make.grey())
        make.save(f"{case}/mask.png", make.mask())
    with pytest.raises(UserError, match=r"a/image.png and image.jpg have the same name: keep one of them. \(1 more"):
        open_dataset(make.root)


def test_one_folder_or_none_with_a_mask_is_another_layout(volumes):
    volumes("a/a_t1.nii.gz", "b/b_t1.nii.gz", "c/t1.nii.gz", "c/notes.nii.gz")
    problems = []
    assert case_folders(volumes.root, problems) is None
    volumes("a/a_seg.nii.gz", labels=True)
    assert case_folders(volumes.root, problems) is None
    assert problems == []


def test_lits_with_the_word_before_the_number(volumes):
    for number in (0, 1, 12):
        volumes(f"volume-{number}.nii.gz")
        volumes(f"segmentation-{number}.nii.gz", labels=True)
    dataset = open_dataset(volumes.root)
    assert dataset.ids == ("volume-0", "volume-1", "volume-12")
    assert [case.masks[0][0].name for case in dataset.cases] == [f"segmentation-{n}.nii.gz" for n in (0, 1, 12)]


@pytest.mark.parametrize(("images", "masks"), [("img", "label"), ("averaged", "truth")])
def test_synapse_with_another_word_in_every_folder(volumes, images, masks):
    """By the names of the folders, or of the files alone."""
    for number in (1, 2):
        volumes(f"{images}/img000{number}.nii.gz")
        volumes(f"{masks}/label000{number}.nii.gz", labels=True)
    dataset = open_dataset(volumes.root)
    assert (dataset.ids, dataset.classes) == (("img0001", "img0002"), ("1", "2"))
    assert [case.masks[0][0].name for case in dataset.cases] == ["label0001.nii.gz", "label0002.nii.gz"]


@pytest.mark.parametrize(
    ("image", "mask"), [("7_image", "7_mask"), ("Image_7", "Mask_7"), ("IMG7", "GT7"), ("Image7", "mask7"), ("7", "mask-7")]
)
def test_pictures_with_a_word_for_each(make, image, mask):
    make.save(f"{image}.png", make.grey())
    make.save(f"{mask}.png", found := make.mask())
    dataset = open_dataset(make.root)
    assert dataset.ids == (image,)
    np.testing.assert_array_equal(read_masks(dataset.cases[0], dataset)[0], found > 0)


def acdc(volumes):
    for patient in ("patient001", "patient002", "patient003"):
        for frame in ("frame01", "frame12"):
            volumes(f"training/{patient}/{patient}_{frame}.nii.gz")
            volumes(f"training/{patient}/{patient}_{frame}_gt.nii.gz", labels=True)
        save(volumes.root / f"training/{patient}/{patient}_4d.nii.gz", np.zeros((10, 12, 8, 3), np.float32))
        (volumes.root / f"training/{patient}/Info.cfg").write_text("Group: DCM\n")
    return volumes.root


def test_acdc_keeps_the_frames_of_a_patient_together(volumes):
    dataset = open_dataset(acdc(volumes))
    assert dataset.ids == tuple(f"patient00{n}_frame{f}" for n in (1, 2, 3) for f in ("01", "12"))
    assert load_groups(dataset, None) == {name: name[:10] for name in dataset.ids}
    assert dataset.given.notes == (
        "3 time series without masks, as patient001_4d, are not used.",
        f"3 folders, as {volumes.root / 'training/patient001'}, are taken for patients, whose images stay together "
        "(if not: --groups re:.*).",
    )
    assert load_groups(dataset, "re:.*") == {name: name for name in dataset.ids}
    (volumes.root / "groups.csv").write_text("id,group\n" + "".join(f"{name},{n}\n" for n, name in enumerate(dataset.ids)))
    assert load_groups(dataset, None)["patient001_frame12"] == "1"


def test_slices_in_folders_of_patients_stay_together(make):
    """As the gliomas of TCGA; two folders with more images than there are folders are kinds, as of BUSI."""
    for patient in ("TCGA_1", "TCGA_2", "TCGA_3"):
        for number in (1, 2):
            make.save(f"{patient}/{patient}_{number}.png", make.grey())
            make.save(f"{patient}/{patient}_{number}_mask.png", make.mask())
    assert set(load_groups(open_dataset(make.root), None).values()) == {"TCGA_1", "TCGA_2", "TCGA_3"}
    for number in (3, 4, 5):
        make.save(f"TCGA_1/TCGA_1_{number}.png", make.grey())
        make.save(f"TCGA_1/TCGA_1_{number}_mask.png", make.mask())
    assert load_groups(open_dataset(make.root), None) is None
