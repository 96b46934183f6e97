"""The line before the images are read: where it takes a while, and nowhere else."""

import logging

from allukan.data import Case, Dataset
from allukan.training.reading import tell_of_reading

MEGABYTE = 2**20


def dataset(root, size, dims):
    """Two cases, one a file and one a folder of a file, of so many bytes; what is in them is not read."""
    (root / "b").mkdir(parents=True)
    for path in (root / "a.nii", root / "b/1.dcm"):
        with path.open("wb") as file:
            file.truncate(size)
    cases = tuple(Case(name, (root / path,), ()) for name, path in (("a", "a.nii"), ("b", "b")))
    return Dataset(root, "label-maps", cases=cases, spatial_dims=dims)


def test_what_takes_a_while_is_told_by_one_process(tmp_path, caplog):
    large, small = dataset(tmp_path / "large", 6 * MEGABYTE, 3), dataset(tmp_path / "small", 4 * MEGABYTE, 2)
    with caplog.at_level(logging.INFO, "allukan"):
        tell_of_reading(large, ["a", "b"], first=False)
        tell_of_reading(small, ["a", "b"])
        tell_of_reading(large, ["a"])
        assert caplog.messages == []
        tell_of_reading(large, ["a", "b"])
    assert caplog.messages == [f"reading 2 volumes of {tmp_path / 'large'} (12 MB) …"]
