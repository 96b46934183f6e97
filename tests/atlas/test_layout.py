from allukan.atlas.layout import short, stages
from allukan.models import build_model
from allukan.nn.histogram import learned


def test_a_u_shape_goes_down_on_the_left_and_up_on_the_right():
    names = list(learned(build_model("allukan-tiny", in_channels=3, out_channels=1)))
    found = stages(names)
    assert sorted(name for stage in found for name in stage.layers) == sorted(names)
    left, right = ([stage for stage in found if stage.column == column] for column in (1, 2))
    assert [stage.title for stage in left] == ["encoder.0", "encoder.1", "encoder.2", "embeddings.0", "embeddings.1"]
    assert [stage.row for stage in left] == [2, 3, 4, 5, 6]
    assert [stage.title for stage in right] == [*(f"decoder.{i}" for i in range(5)), "head"]
    assert [stage.row for stage in right] == [6, 5, 4, 3, 2, 1]
    places = [(stage.row, stage.column) for stage in found]
    assert len(set(places)) == len(places)


def test_a_u_shape_with_tokens_alone_is_one_too():
    names = [f"{stage}.linears.0" for stage in ("embeddings.0.1", "embeddings.1.1", "decoder_tokens.0", "decoder_tokens.1")]
    found = stages(names)
    assert [(stage.title, stage.row, stage.column) for stage in found] == [
        ("embeddings.0", 2, 1),
        ("embeddings.1", 3, 1),
        ("decoder.0", 3, 2),
        ("decoder.1", 2, 2),
    ]


def test_a_u_shape_without_numbers_and_with_a_middle_has_a_place_for_every_stage():
    found = stages(["encoder.a", "middle.a", "decoder.a", "decoder.b", "out"])
    assert [(stage.title, stage.row, stage.column) for stage in found] == [
        ("encoder", 2, 1),
        ("decoder", 2, 2),
        ("middle", 3, 2),
        ("out", 1, 2),
    ]


def test_other_networks_are_one_column_in_the_order_of_their_names():
    found = stages(["stem.conv", "layer.0.a", "layer.0.b", "layer.10.a", ""])
    assert [(stage.title, stage.row) for stage in found] == [("stem", 1), ("layer.0", 2), ("layer.10", 3), ("network", 4)]
    assert found[1].layers == ["layer.0.a", "layer.0.b"]
    assert {short(name) for name in ("", "stem.conv")} == {"the network", "stem.conv"}
