"""The benchmarks give figures that are right where that can be known, and rows for everything that was asked for."""

import json
import time

import pytest
import torch
from torch import nn

from allukan.costs import saved_bytes
from allukan.errors import UserError
from allukan.provenance import environment
from benchmarks import networks
from benchmarks.contenders import PeerLayers
from benchmarks.gradients import bench_gradients
from benchmarks.layers import Sizes, bench_layers
from benchmarks.models import bench_models
from benchmarks.networks import Task, on_paper
from benchmarks.peers import find_peers
from benchmarks.report import Result, check_out, markdown, write_json
from benchmarks.settings import Settings
from benchmarks.timing import interleaved
from benchmarks.training import bench_training


def plain_conv(c):
    return nn.Conv2d(c.in_channels, c.out_channels, c.kernel_size, c.stride, c.padding, groups=c.groups)


TASK = Task("tiny", batch=2, in_channels=1, px=32)


def test_interleaved_times_are_those_of_sleeping():
    order = []

    def sleeper(name, seconds):
        return lambda: (order.append(name), time.sleep(seconds))

    steps = {"slow": sleeper("slow", 0.09), "fast": sleeper("fast", 0.03)}
    times = interleaved(steps, torch.device("cpu"), reference="fast", repeats=4, seconds=0.01)
    assert order[2:] == ["slow", "fast"] * 3  # after a call each to warm up: three rounds, as both are slow
    assert times["slow"].repeats == 3
    assert times["fast"].seconds == pytest.approx(0.03, rel=0.5)
    assert 1.5 < times["slow"].ratio < 4
    assert times["slow"].quartiles[0] <= times["slow"].seconds <= times["slow"].quartiles[1]


def test_single_steps_are_called_once_a_sample():
    calls = []
    steps = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    interleaved(steps, torch.device("cpu"), reference="a", repeats=4, seconds=1, single=True)
    assert calls[4:] == ["a", "b"] * 4  # after two of each to warm up


def test_fast_steps_are_repeated_within_a_sample():
    calls = []
    times = interleaved({"a": lambda: calls.append(1)}, torch.device("cpu"), reference="a", repeats=2, seconds=1)
    assert len(calls) > 1000
    assert times["a"].seconds < 1e-4


def test_layers(quick, clones):
    of_peers = [peer for peer in find_peers(clones)[0] if peer.name == "efficient-kan"]
    sizes = Sizes(channels=6, px=8, features=10, samples=12)
    rows = bench_layers(quick, sizes, variants=["ka", "stacked"], of_peers=of_peers)
    assert [row["name"] for row in rows] == [
        *("Conv2d + SiLU", "ka", "stacked", "unfold + efficient-kan"),
        *("Linear + SiLU", "ka", "stacked", "efficient-kan"),
    ]
    by_name = {row["name"]: row for row in rows[:4]}
    assert by_name["Conv2d + SiLU"]["parameters"] == 6 * 6 * 9
    assert by_name["stacked"]["parameters"] == 10 * 6 * 6 * 9
    assert by_name["Conv2d + SiLU"]["saved_bytes"] == 2 * by_name["ka"]["saved_bytes"] == 2 * 4 * 2 * 6 * 8 * 8
    assert by_name["Conv2d + SiLU"]["step_ratio"] == 1
    for row in rows:
        assert all(row[f"{what}_seconds"] > 0 for what in ("forward", "step", "inference"))


def test_every_option_of_the_layers_changes_the_layer(quick):
    def title(**options):
        sizes = Sizes(**({"channels": 2, "px": 4, "features": 2, "samples": 2} | options))
        rows = bench_layers(quick, sizes, variants=[])
        return rows[0]["layer"], rows[1]["layer"]

    titles = [title(), title(px=5), title(batch=1), title(channels=3), title(kernel_size=1), title(spatial_dims=3)]
    titles += [title(features=3), title(samples=3)]
    assert len(set(titles)) == len(titles)


@pytest.mark.slow
def test_models_in_the_same_topology(quick):
    peer = PeerLayers("linear", nn.Linear, plain_conv)
    half = PeerLayers("no convolution", nn.Linear, None)
    others = {"other": lambda: nn.Conv2d(1, 1, 1)}
    rows = bench_models(quick, TASK, variants=["ka", "ka-free"], of_peers=[peer, half], others=others)
    assert [row["name"] for row in rows] == ["conv", "ka", "ka-free", "linear", "other"]
    assert rows[-1]["parameters"] == 2
    assert all(row["step_ratio"] > 0 and row["repeats"] == 1 for row in rows)
    for row, name in zip(rows, ["conv", "ka", "ka-free"], strict=False):
        assert row["saved_bytes"] >= on_paper(TASK.network(name), TASK)["saved_bytes"]  # of the loss, too


def test_what_does_not_fit_is_measured_on_paper(quick, monkeypatch):
    limit = on_paper(TASK.network("conv"), TASK)["saved_bytes"] * 4
    monkeypatch.setattr(networks, "available_bytes", lambda place: limit)
    conv, stacked = bench_models(quick, TASK, variants=["stacked"])
    assert "step_seconds" in conv
    assert stacked["note"] == "does not fit into memory"
    assert "step_seconds" not in stacked
    assert stacked["saved_bytes"] > 50 * conv["saved_bytes"]
    monkeypatch.setattr(networks, "available_bytes", lambda place: 1000)
    with pytest.raises(UserError, match="2×1×32×32 do not fit"):
        bench_models(quick, TASK, variants=[])


@pytest.mark.parametrize("variant", ["ka", "ka-output", "edge", "stacked"])
def test_paper_and_device_keep_the_same_bytes(variant):
    network, x = TASK.network(variant), torch.randn(TASK.shape)
    assert on_paper(network, TASK)["saved_bytes"] == saved_bytes(lambda: network(x), network)


@pytest.mark.slow
def test_gradients_are_exact_where_they_should_be(quick):
    task = Task("tiny", batch=4, in_channels=1, px=32)
    rows = {row["name"]: row for row in bench_gradients(quick, task, ways=["ka exact", "ka Grad-Free", "ka checkpointed"])}
    assert list(rows) == ["conv", "ka exact", "ka Grad-Free", "ka checkpointed"]
    for name in ("conv", "ka exact", "ka checkpointed"):
        assert rows[name]["gradient_error"] < 0.05, name  # rounding, through norms of few values
        assert rows[name]["gradient_cosine"] > 0.999
    assert rows["ka Grad-Free"]["gradient_error"] > 0.1
    assert rows["ka checkpointed"]["saved_bytes"] < rows["ka exact"]["saved_bytes"] <= rows["ka exact"]["at_once_bytes"]
    assert rows["ka checkpointed"]["at_once_bytes"] > rows["ka checkpointed"]["saved_bytes"]


def test_training_is_timed_by_the_epoch(quick):
    (row,) = bench_training(quick, ["convtwin-tiny"], px=32, batch=4, count=12, epochs=1).rows
    assert row["name"] == "convtwin-tiny"
    assert row["repeats"] == 1
    assert row["images_per_second"] == pytest.approx(8 / row["epoch_seconds"], rel=0.01)  # 70 % of 12, in whole batches of 4
    assert 0 <= row["outside_steps_share"] < 1


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Settings(device="cuda:99"), "device 'cuda:99'"),
        (lambda: Settings(device="meta"), "device 'meta'"),
        (lambda: Settings(precision="fp4"), "precision 'fp4'"),
        (lambda: Settings(threads=0), "threads must be a whole number of at least 1"),
        (lambda: Settings(repeats=0), "repeats"),
        (lambda: Settings(seconds=0), "seconds"),
        (lambda: Task(size="huge"), "size 'huge'"),
        (lambda: Task(px=16), "px"),
        (lambda: Task(spatial_dims=4), "spatial_dims"),
        (lambda: bench_layers(Settings("cpu"), variants=["kan"]), "variant 'kan'"),
        (lambda: Sizes(channels=0), "channels"),
        (lambda: bench_training(Settings("cpu"), ["unett"]), "model 'unett'"),
        (lambda: bench_training(Settings("cpu"), count=2), "count"),
        (lambda: bench_gradients(Settings("cpu"), ways=["ka"]), "way 'ka'"),
    ],
)
def test_wrong_use_is_told_in_one_sentence(make, word):
    with pytest.raises(UserError, match=word) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_threads_are_set_and_given_back():
    before = torch.get_num_threads()
    with Settings("cpu", threads=before + 1).running():
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_tables_have_units():
    table = markdown(
        [{"name": "a|b", "saved_bytes": 3 * 2**20, "step_seconds": 0.5, "step_ratio": 245.3, "list": [1]}]
    ).splitlines()
    assert table[0].split("|")[1:-1] == [" name ", "   saved ", "      step ", " step ratio "]
    assert "a\\|b" in table[2]
    assert "3.0 MiB" in table[2]
    assert "500.00 ms" in table[2]
    assert "245 ×" in table[2]
    assert len({len(line) for line in table}) == 1


def test_a_result_replaces_results_only(tmp_path):
    path = tmp_path / "result.json"
    for count in (1, 2):
        write_json(path, "layers", Result([{"name": "ka"}] * count, ["a note"]), environment("cpu"))
    result = json.loads(path.read_text())
    assert (result["benchmark"], len(result["rows"]), result["notes"]) == ("layers", 2, ["a note"])
    assert {"command", "commit", "device", "versions", "threads"} <= result.keys()
    for text in ("not JSON", "[]", '{"mine": 1}'):
        path.write_text(text)
        with pytest.raises(UserError, match="is not overwritten"):
            check_out(path)
    with pytest.raises(UserError, match="is not a folder"):
        check_out(tmp_path / "none" / "result.json")
