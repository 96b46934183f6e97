"""The fingerprint of cases on disk, and what it is told that they show."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from allukan.data import open_dataset, survey, write_phantoms
from allukan.data.case_survey import _modality
from allukan.errors import UserError
from tests.volume_sets import blob, decathlon


def test_volumes_have_the_intensities_and_spacings_of_their_files(tmp_path):
    random = np.random.default_rng(0)
    cases = {f"c{i}": blob(random, (12, 20, 16)) for i in range(3)}
    dataset = open_dataset(decathlon(tmp_path, cases, affine=np.diag([2, 1, 3, 1])))
    found = survey(dataset, dataset.cases[:2], (1,))
    inside = np.concatenate([cases[name][0][cases[name][1] > 0] for name in ("c0", "c1")])
    assert (found.cases, found.size, found.spacing_mm) == (2, (16, 20, 12), (3, 1, 2))
    assert found.channels[0].name == "MRI"
    assert (found.channels[0].low, found.channels[0].high) == pytest.approx(tuple(np.percentile(inside, (0.5, 99.5))))
    assert found.class_shares[0] == pytest.approx(np.mean([(cases[name][1] == 1).mean() for name in ("c0", "c1")]))
    (tmp_path / "dataset.json").write_text(json.dumps(json.loads((tmp_path / "dataset.json").read_text()) | {"modality": {}}))
    dataset = open_dataset(tmp_path)
    assert survey(dataset, dataset.cases, (1,)).channels[0].name == ""
    with pytest.raises(UserError, match=r"no images of .* to plan for"):
        survey(dataset, (), (1,))


def test_pictures_have_no_spacing(tmp_path):
    write_phantoms(tmp_path, 8, 48, 0)
    dataset = open_dataset(tmp_path)
    found = survey(dataset, dataset.cases, (1,))
    assert (found.size, found.spacing_mm, len(found.channels)) == ((48, 48), None, 1)


def test_what_dicom_shows_is_its_modality():
    assert [_modality(Path(get_testdata_file(name))) for name in ("CT_small.dcm", "MR_small.dcm")] == ["CT", "MR"]
