"""Plans: what is chosen fits, and nothing larger does; by our own count, which other tests hold against what is measured."""

import json
from dataclasses import replace
from math import prod

import pytest

from allukan.data.fingerprint import ChannelFacts, Fingerprint
from allukan.errors import UserError
from allukan.training.planning import Candidate, Footprint, Limits, epochs_for, explain, measure_speed, plan, stages_for
from allukan.training.planning.patches import patches
from allukan.yaml_files import read_yaml, write_yaml

GIB = 2**30
MR, CT = ChannelFacts("T1", 0.0, 900.0, 300.0, 120.0), ChannelFacts("CT", -150.0, 240.0, 60.0, 45.0)


def fingerprint(size, spacing=None, channels=(MR,), cases=100, classes=("anterior", "posterior")):
    extent = tuple(n * s for n, s in zip(size, spacing or (1.0,) * len(size), strict=True))
    return Fingerprint(
        cases=cases,
        size=tuple(map(float, size)),
        smallest=size,
        largest=size,
        spacing_mm=spacing,
        finest_mm=spacing,
        extent_mm=extent,
        voxels=cases * prod(size),
        channels=channels,
        classes=classes,
        class_shares=(0.03,) * len(classes),
        class_cases=(cases,) * len(classes),
        sampled=True,
    )


HIPPOCAMPUS = fingerprint((36, 50, 35), (1.0, 1.0, 1.0), cases=182)
ABDOMEN = fingerprint((400, 512, 512), (1.0, 0.8, 0.8), (CT,))
PROSTATE = fingerprint((20, 320, 320), (3.6, 0.62, 0.62), (MR, MR))
PICTURES = fingerprint((471, 562), None, (ChannelFacts("", 0.0, 255.0, 90.0, 50.0),) * 3, classes=("lesion",))


def small(found, memory=8 * GIB, model="convtwin-tiny", **more):
    limits = {name: more.pop(name) for name in ("seconds", "flops_per_second") if name in more}
    return plan(found, Limits(memory, **limits), model=model, **more)


def test_hippocampus_is_trained_whole_in_3d():
    made = small(HIPPOCAMPUS)
    assert (made.spatial_dims, made.slice_axis, made.patch, made.limit) == (3, None, (40, 56, 40), "images")
    assert made.options["topology"]["strides"] == [[2, 2, 2]] * 3
    assert made.batch_size == 6  # 5 % of the voxels
    assert {channel.kind for channel in made.normalisation} == {"image"}
    assert made.memory_bytes <= made.memory_given == 8 * GIB


@pytest.mark.slow
@pytest.mark.parametrize("memory", [GIB, 8 * GIB, 64 * GIB])
def test_what_is_chosen_fits_and_nothing_larger_does(memory):
    made = small(ABDOMEN, memory)
    footprint = Footprint("convtwin-tiny", 1, 3, 3)
    chosen = Candidate(made.patch, made.stages)
    assert made.memory_bytes == pytest.approx(footprint.bytes(chosen, made.batch_size), rel=1e-4)
    assert made.memory_bytes <= memory
    candidates = list(patches((400, 512, 512), (1.0, 0.8, 0.8)))
    place = candidates.index(chosen)
    assert place > 0
    assert made.limit == "memory"
    assert footprint.bytes(candidates[place - 1], 2) > memory
    assert footprint.bytes(chosen, made.batch_size + 1) > memory


@pytest.mark.slow
def test_more_memory_gives_larger_patches():
    sizes = [prod(small(ABDOMEN, memory).patch) for memory in (GIB, 4 * GIB, 16 * GIB, 128 * GIB)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 4


def test_a_short_time_makes_steps_small_first_of_batch_then_of_patch():
    rate = 1e10
    footprint = Footprint("convtwin-tiny", 1, 3, 3)
    whole = Candidate((40, 56, 40), stages_for((40, 56, 40)))
    times = [1000 * footprint.flops(whole, batch) / rate for batch in (10, 3, 1)]
    plenty, some, little = (small(HIPPOCAMPUS, seconds=seconds * 1.01, flops_per_second=rate) for seconds in times)
    assert (plenty.batch_size, plenty.limit) == (6, "images")
    assert (some.patch, some.batch_size, some.limit) == ((40, 56, 40), 3, "time")
    assert prod(little.patch) < prod(some.patch)
    assert (little.batch_size, little.limit, little.notes) == (2, "time", ())
    least = small(HIPPOCAMPUS, seconds=1.0, flops_per_second=rate)
    assert least.batch_size == 2
    assert "too short for 1000 steps" in least.notes[0]


@pytest.mark.slow
def test_long_voxels_are_neither_halved_nor_mixed_at_first():
    made = small(PROSTATE)
    assert made.spatial_dims == 3
    assert made.options["topology"]["strides"][0] == [1, 2, 2]
    assert made.options["topology"]["kernels"][0] == [1, 3, 3]
    assert len(made.normalisation) == 2


@pytest.mark.slow
def test_few_slices_are_pictures():
    made = small(fingerprint((5, 256, 200), (8.0, 1.0, 1.0)))
    assert (made.spatial_dims, made.slice_axis, made.patch) == (2, 0, (256, 224))
    assert "5 slices" in made.notes[0]
    sagittal = small(fingerprint((256, 200, 5), (1.0, 1.0, 8.0)))
    assert (sagittal.slice_axis, sagittal.patch) == (2, (256, 224))
    assert small(fingerprint((5, 256, 200), (8.0, 1.0, 1.0)), dims=3).spatial_dims == 3


def test_dimensions_that_are_asked_for():
    made = small(HIPPOCAMPUS, dims=2)
    assert (made.spatial_dims, made.slice_axis, made.patch, made.notes) == (2, 0, (56, 40), ())
    assert made.batch_size > 100  # small slices: as many voxels as 8 pictures of 256²
    with pytest.raises(UserError, match="3 dimensions need volumes"):
        small(PICTURES, dims=3)


@pytest.mark.slow
def test_where_3d_does_not_fit_slices_do_and_that_is_said():
    found = fingerprint((64, 64, 64), (1.0, 1.0, 1.0))
    three, two = (Footprint("convtwin-base", 1, 3, dims) for dims in (3, 2))
    smallest, slices = list(patches((64, 64, 64)))[-1], list(patches((64, 64)))[-1]
    between = (three.bytes(smallest, 2) + two.bytes(slices, 2)) // 2
    made = small(found, between, "convtwin-base")
    assert made.spatial_dims == 2
    assert "not even the smallest 3D patch fits" in made.notes[0]
    with pytest.raises(UserError, match=r"convtwin-base takes .* for 2 patches of 32×32×32"):
        small(found, between, "convtwin-base", dims=3)
    with pytest.raises(UserError, match="give more memory, or a smaller model"):
        small(found, 2**20)


@pytest.mark.slow
def test_pictures_are_planned_by_the_same_planner():
    made = small(PICTURES)
    assert (made.spatial_dims, made.patch, made.batch_size, made.spacing_mm) == (2, (416, 512), 6, None)
    assert made.options == {}
    assert {channel.kind for channel in made.normalisation} == {"dataset"}
    less = small(PICTURES, GIB // 2)
    assert prod(less.patch) < prod(made.patch)
    assert less.limit == "memory"


@pytest.mark.slow
def test_ct_is_clipped_to_its_foreground():
    (ct,) = small(ABDOMEN).normalisation
    assert (ct.kind, ct.low, ct.high, ct.mean, ct.std) == ("clip", -150.0, 240.0, 60.0, 45.0)
    flat = replace(ABDOMEN, channels=(ChannelFacts("ct", 5.0, 5.0, 5.0, 0.0),))
    assert small(flat).normalisation[0].std > 0


def test_options_of_the_model_are_kept():
    made = small(HIPPOCAMPUS, options={"norm": "group", "topology": {"depth": 1}})
    assert made.options["norm"] == "group"
    assert made.options["topology"].keys() == {"depth", "strides", "kernels"}
    assert small(HIPPOCAMPUS, model="unet").options == {}


@pytest.mark.slow
def test_a_plan_goes_to_yaml_and_json(tmp_path):
    made = small(ABDOMEN, seconds=1800.0)
    assert json.loads(json.dumps(made.as_dict())) == made.as_dict()
    write_yaml(tmp_path / "plan.yaml", made.as_dict())
    back = read_yaml(tmp_path / "plan.yaml")
    assert back == made.as_dict()
    assert (tuple(back["patch"]), back["normalisation"][0]["kind"]) == (made.patch, "clip")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("found", "more", "words"),
    [
        (
            HIPPOCAMPUS,
            {"seconds": 1200.0},
            [
                "36×50×35 voxels of 1×1×1 mm: a 3D network, convtwin-tiny, on patches of 40×56×40, 6 a step",
                "more is not needed",
                "3 stages, which divide its axes by 8×8×8",
                "z-score of every image",
                "anterior, posterior",
                "take 20 minutes",
            ],
        ),
        (ABDOMEN, {}, ["more does not fit", "clipped to -150 … 240", "8.0 GiB given"]),
        (PROSTATE, {}, ["2 finest resolutions do not mix the axis of long voxels"]),
        (PICTURES, {}, ["471×562 pixels: a 2D network", "on images of 416×512", "usual ones of the network"]),
        (HIPPOCAMPUS, {"dims": 2}, ["on slices of 56×40 across axis D"]),
        (fingerprint((5, 256, 200), (8.0, 1.0, 1.0)), {}, ["Note: volumes of 5 slices"]),
        (replace(ABDOMEN, channels=(CT, MR)), {}, ["channel 0 clipped to", "channel 1 z-score of every image"]),
    ],
)
def test_an_explanation_says_it_in_one_paragraph(found, more, words):
    text = explain(small(found, **more))
    assert not [word for word in words if word not in text]
    assert "\n" not in text


def test_epochs_fill_the_time():
    assert [epochs_for(budget, 10.0) for budget in (10.0, 99.9, 100.0)] == [1, 9, 10]
    with pytest.raises(UserError, match=r"one epoch takes about 10 seconds and 5 seconds are left"):
        epochs_for(5.0, 10.0)


def test_speed_is_flops_over_seconds(monkeypatch):
    from allukan.training.planning import timing

    clock = iter([10.0, 14.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    footprint, candidate = Footprint("convtwin-tiny", 1, 2, 2), Candidate((32, 32), stages_for((32, 32)))
    assert measure_speed(footprint, candidate) == 2 * footprint.flops(candidate, 2) / 4.0
