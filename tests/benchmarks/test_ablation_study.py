"""The arithmetic of the ablation table."""

import pytest

from allukan.errors import UserError
from benchmarks.ablation_study import read_runs, rows_of


def write_run(folder, iou, finished=True, lr=0.1):
    folder.mkdir(parents=True)
    rows = "".join(f"{value},0.5,0.25\n" for value in iou)
    (folder / "history.csv").write_text(f"val_iou,val_loss,train_loss\n{rows}")
    (folder / "config.yaml").write_text(f"data: somewhere\nlr: {lr}\n")
    if finished:
        (folder / "finished.json").write_text("{}")


@pytest.fixture
def study(tmp_path):
    for data, seed, old, new in (("a", 0, 0.5, 0.6), ("a", 1, 0.4, 0.6), ("b", 0, 0.3, 0.2)):
        write_run(tmp_path / data / "clean/old" / str(seed), [0.9, old - 0.1, old, old + 0.1])  # the last three count
        write_run(tmp_path / data / "clean/new" / str(seed), [0.1, new, new, new], lr=0.2)
    write_run(tmp_path / "b/clean/new/1", [0.9] * 4, lr=0.2)  # has no partner
    write_run(tmp_path / "b/clean/worse/0", [0.0] * 4)
    write_run(tmp_path / "b/clean/broken/0", [0.0] * 4, finished=False)
    return tmp_path


def test_differences_are_paired_by_data_set_and_seed(study):
    rows = rows_of(*read_runs([study]), "old")
    assert [row["model"] for row in rows] == ["old", "new", "worse"]
    new = rows[1]
    assert (new["runs"], new["difference"], new["a"], new["b"]) == (3, pytest.approx(20 / 3, abs=0.01), 15, -10)
    assert new["standard error"] == pytest.approx(8.82, abs=0.01)  # of 10, 20 and -10
    assert new["options"] == {"lr": 0.2}
    assert rows[2]["standard error"] is None
    with pytest.raises(UserError, match="no run of 'older' is finished: there are new, old, worse"):
        rows_of(*read_runs([study]), "older")
