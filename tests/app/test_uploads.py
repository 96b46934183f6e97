"""What is refused before anything is read: too much, bombs, archives that reach outside."""

import gzip
import zipfile

import pytest

from allukan.app import open_models
from allukan.app.uploads import ENTRIES, MEGABYTE, only_image, read_whole, received
from allukan.errors import UserError
from allukan.inference import Predictor

LIMIT = MEGABYTE


@pytest.fixture
def packed(tmp_path):
    """Writes a zip of names and contents."""

    def write(contents, name="sent.zip", **options):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED, **options) as archive:
            for place, content in contents.items():
                archive.writestr(place, content)
        return tmp_path / name

    return write


def refused(files, folder):
    with pytest.raises(UserError) as caught:
        received(files, folder / "upload", LIMIT)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_zip_is_unpacked_into_a_folder_of_its_name(packed, tmp_path):
    folder = received([packed({"deep/IM0": b"one", "IM1": b"two"}, "thorax ct.zip")], tmp_path / "upload", LIMIT)
    assert folder.name == "thorax ct"
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == ["IM1", "deep/IM0"]


def test_several_files_lie_in_one_folder(tmp_path):
    sent = []
    for number in range(2):
        path = tmp_path / str(number) / f"P_{number:04d}.png"
        path.parent.mkdir()
        path.write_bytes(bytes([number]))
        sent.append(path)
    folder = received(sent, tmp_path / "upload", LIMIT)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"P_0000.png": b"\0", "P_0001.png": b"\1"}
    assert refused([sent[0], sent[0]], tmp_path / "again") == "two files are called P_0000.png: rename one."


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../outside", "..\\outside", "C:\\outside"])
def test_an_archive_that_reaches_outside_is_refused(packed, tmp_path, name):
    assert "names a file outside of itself" in refused([packed({name: b"x"})], tmp_path)
    assert not (tmp_path / "upload").exists()


def test_a_bomb_is_not_unpacked(packed, tmp_path):
    bomb = packed({f"{n}": bytes(MEGABYTE) for n in range(6)})
    assert bomb.stat().st_size < LIMIT / 50
    assert refused([bomb], tmp_path) == "sent.zip, unpacked, has more than 4 MB, the most that is taken: send less."
    assert not (tmp_path / "upload").exists()


def test_a_bomb_in_gzip_is_refused_too(tmp_path):
    path = tmp_path / "head.nii.gz"
    path.write_bytes(gzip.compress(bytes(6 * MEGABYTE)))
    assert refused([path], tmp_path).startswith("head.nii.gz, unpacked, has more than 4 MB")
    path.write_bytes(gzip.compress(bytes(100))[:-9])
    assert "damaged" in refused([path], tmp_path)


def test_an_archive_that_lies_about_its_sizes_gives_no_more_than_it_says(packed, tmp_path):
    path = packed({"x": bytes(5 * MEGABYTE)})
    content, size = path.read_bytes(), (5 * MEGABYTE).to_bytes(4, "little")
    assert content.count(size) == 2  # in front of the entry, and in the directory
    path.write_bytes(content.replace(size, (10).to_bytes(4, "little")))
    assert "damaged" in refused([path], tmp_path)
    assert sum(file.stat().st_size for file in (tmp_path / "upload").rglob("*") if file.is_file()) <= 10


def test_too_much_too_many_nothing_and_no_archive(packed, tmp_path):
    large = tmp_path / "large.png"
    large.write_bytes(bytes(LIMIT + 1))
    assert refused([large], tmp_path) == "the upload has more than 1 MB, the most that is taken: send less."
    assert f"at most {ENTRIES}" in refused([packed(dict.fromkeys(map(str, range(ENTRIES + 1)), b""))], tmp_path)
    assert "no file was given" in refused([], tmp_path)
    fake = tmp_path / "fake.zip"
    fake.write_bytes(b"PK\3\4 and no more")
    assert refused([fake], tmp_path) == "fake.zip is damaged or no zip archive: pack it again."
    small = packed({"x": b"y"})
    assert refused([small, fake], tmp_path) == "sent.zip came with other files: send a zip alone."


def test_an_encrypted_archive_is_named_as_such(packed, tmp_path):
    path = packed({"x": b"y"})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flags in front of the entry
    content[content.index(b"PK\1\2") + 8] |= 1  # and in the directory
    path.write_bytes(content)
    assert refused([path], tmp_path) == "sent.zip is encrypted: pack it without a password."


def test_a_list_of_files_of_this_machine_is_refused(tmp_path):
    path = tmp_path / "list.JSON"
    path.write_text('["/home/somebody/scan.png"]')
    assert refused([path], tmp_path) == "list.JSON is a list of files and no image: send the image itself."


META = "ObjectType = Image\nNDims = 3\nDimSize = 4 3 2\nElementType = MET_UCHAR\nElementSpacing = 1 1 1\n"
NRRD = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 3 2\nspacings: 1 1 1\nencoding: raw\n"


@pytest.fixture
def headed(tmp_path):
    """Writes a header with 24 voxels behind it, beside 24 others that were sent too, and below some that were not."""

    def write(name, header):
        path = tmp_path / "sent" / name
        path.parent.mkdir()
        for place in (tmp_path / "secret.raw", path.with_name("own.raw")):
            place.write_bytes(bytes(range(24)))
        path.write_bytes(header.replace("{secret}", str(tmp_path / "secret.raw")).encode() + bytes(range(24)))
        return path

    return write


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.mha", META + "ElementDataFile = {secret}\n"),
        ("a.mha", META + "elementdatafile = LOCAL\nElementDataFile = {secret}\n"),  # ITK passes over the first
        ("a.mhd", META + "ElementDataFile = ../secret.raw\n"),
        ("a.mhd", META + "ElementDataFile = LIST\n{secret}\n"),
        ("a.nrrd", NRRD + "data file: {secret}\n\n"),
        ("a.nhdr", NRRD + "data file: ..\\secret.raw\n\n"),
        ("a.nhdr", NRRD + "data file: v%d.raw 1 2 1\n\n"),
    ],
)
def test_a_header_does_not_reach_voxels_that_were_not_sent(headed, predictors, name, header):
    with pytest.raises(UserError, match=rf"^{name} names voxels in other files"):
        only_image(headed(name, header), predictors["volume"].card)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.mha", META + "ElementDataFile = LOCAL\n"),
        ("a.mhd", META + "ElementDataFile = own.raw\n"),
        ("a.nrrd", NRRD + "\n"),
        ("a.nhdr", NRRD + "data file: own.raw\n\n"),
    ],
)
def test_voxels_in_a_file_or_beside_it_are_read(headed, predictors, name, header):
    card = predictors["volume"].card
    assert read_whole(only_image(headed(name, header), card), card).array.ravel().tolist() == list(range(24))


def test_models_are_called_after_their_runs(folders):
    def opened(*names):
        return open_models([folders[name] for name in names], lambda folder: Predictor(folder, "cpu"))

    assert list(opened("binary", "other")) == ["binary", "other"]
    with pytest.raises(UserError, match="is named twice"):
        opened("binary", "binary")
    with pytest.raises(UserError, match="some of the models are of pictures and some of volumes"):
        opened("binary", "volume")
