import pytest

from allukan.costs import parameter_count
from allukan.errors import UserError
from allukan.models import build_model
from benchmarks import efficiency
from benchmarks.efficiency import bench_efficiency
from benchmarks.efficiency_figure import draw
from benchmarks.pages import check_figure, fill_block


@pytest.mark.slow
def test_models_beside_their_twin_and_what_is_not_run(quick):
    found = bench_efficiency(quick, ["stackedkan-tiny", "allukan-tiny"], px=32, batch=2, limit_gib=0.05)
    by_name = {row["name"]: row for row in found.rows}
    assert list(by_name) == ["convtwin-tiny", "stackedkan-tiny", "allukan-tiny"]
    for name, row in by_name.items():
        assert row["parameters"] == parameter_count(build_model(name, in_channels=3, out_channels=1))
        assert row["forward_flops"] < row["backward_flops"]
    assert by_name["convtwin-tiny"]["saved_ratio"] == by_name["convtwin-tiny"]["step_ratio"] == 1
    assert by_name["stackedkan-tiny"]["saved_ratio"] > 100
    assert by_name["allukan-tiny"]["step_seconds"] > 0
    assert "step_seconds" not in by_name["stackedkan-tiny"]
    assert found.about == {"images": "2×3×32×32"}
    assert found.notes == ["stackedkan-tiny: not run, it keeps 0.2 GiB for the backward pass"]


def test_a_model_whose_package_is_missing_is_named(quick, monkeypatch):
    def refuse():
        raise UserError("PlainConvUNet needs a package.")

    known = efficiency.factory_networks
    monkeypatch.setattr(efficiency, "factory_networks", lambda *a: known(*a) | {"plainconv": refuse})
    found = bench_efficiency(quick, ["convtwin-tiny"], px=32, batch=2)
    assert [row["name"] for row in found.rows] == ["convtwin-tiny"]
    assert found.notes == ["plainconv: left out. PlainConvUNet needs a package."]


def test_wrong_use(quick):
    with pytest.raises(UserError, match="more than one value at the bottom"):
        bench_efficiency(quick, px=32)
    with pytest.raises(UserError, match="limit_gib must be above 0"):
        bench_efficiency(quick, limit_gib=0)
    with pytest.raises(UserError, match="did you mean 'unet'"):
        bench_efficiency(quick, ["unett"])
    with pytest.raises(UserError, match="its twin does not fit"):
        bench_efficiency(quick, ["ukan-linear"], px=32, batch=2, limit_gib=2.1e-3)


def test_a_block_of_a_page_is_renewed_and_nothing_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a -->\nold\n<!-- /a -->\nafter\n")
    for text in ("first", "second"):
        fill_block(page, "a", text)
    assert page.read_text() == "before\n<!-- a -->\n\nsecond\n\n<!-- /a -->\nafter\n"
    for other in (page, tmp_path / "none.md"):
        with pytest.raises(UserError, match="has no lines <!-- b --> and <!-- /b -->"):
            fill_block(other, "b", "text")


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_figure_names_every_model(tmp_path, ending):
    rows = [
        {"name": "allukan-tiny", "saved_bytes": 2**20, "parameters": 10, "step_seconds": 0.1},
        {"name": "unet", "saved_bytes": 2**20, "parameters": 10, "step_seconds": 0.1},
        {"name": "stackedkan-tiny", "saved_bytes": 2**30, "parameters": 10**8},
    ]
    path = tmp_path / f"figure.{ending}"
    draw(path, rows, {"images": "1×3×32×32", "device": "abacus", "threads": 10})
    assert path.stat().st_size > 1000
    if ending == "svg":
        text = path.read_text()
        assert "<!-- 1×3×32×32 on abacus, 10 threads -->" in text
        assert all(f"<!-- {name} -->" in text for name in ("allukan-tiny", "unet", "stackedkan-tiny (not run)"))


def test_a_figure_of_another_kind_is_refused_before_anything_is_measured(tmp_path):
    for path in (tmp_path / "figure.txt", tmp_path / "none" / "figure.png"):
        with pytest.raises(UserError, match="cannot be drawn"):
            check_figure(path)
