"""What a step takes against what inspection of the whole batch counts, and how much memory there is against files like Linux'."""

import subprocess
import sys
from math import prod

import pytest
import torch

from allukan.costs import inspect_model
from allukan.errors import UserError
from allukan.models import build_model
from allukan.training.planning import Candidate, Footprint, available_memory, stages_for
from allukan.training.planning.memory import ALLOCATOR, SAFETY, WORKING_MAPS


@pytest.mark.parametrize(("model", "dims"), [("allukan-tiny", 3), ("convtwin-tiny", 2), ("unet", 2)])
def test_bytes_and_flops_are_those_of_the_whole_batch(model, dims):
    """Found from another patch with the same stages: maps grow with the voxels."""
    first, then = ((32, 48, 32), (48, 48, 32)) if dims == 3 else ((64, 96), (128, 96))
    stages = stages_for(first)
    assert stages_for(then) == stages
    footprint = Footprint(model, 2, 3, dims)
    footprint.bytes(Candidate(first, stages), 1)
    network = build_model(model, in_channels=2, out_channels=3, spatial_dims=dims, **footprint.options_with(stages))
    found = inspect_model(network, (3, 2, *then))
    total, largest = found.total(), max(prod(shape) for shape in found.outputs.values())
    images_and_logits = 4 * torch.Size(then).numel() * 3 * (2 + 3 * 3)
    counted = total.saved_bytes + images_and_logits + 16 * total.parameters + 4 * WORKING_MAPS * largest
    assert footprint.bytes(Candidate(then, stages), 3) == pytest.approx(SAFETY * counted + ALLOCATOR, rel=0.01)
    flops = total.cost.forward.total + total.cost.backward.total
    assert footprint.flops(Candidate(then, stages), 3) == pytest.approx(flops, rel=0.02)


def test_options_of_the_user_come_before_those_of_the_plan():
    stages = stages_for((40, 56, 40))
    strides = [list(stride) for stride in stages.strides]
    plain = Footprint("allukan-tiny", 1, 1, 3)
    assert plain.options_with(stages)["topology"]["strides"] == strides
    deep = Footprint("allukan-tiny", 1, 1, 3, {"norm": "group", "topology": {"depth": 3}}).options_with(stages)
    assert (deep["norm"], deep["topology"]["depth"], deep["topology"]["strides"]) == ("group", 3, strides)
    for own in ({"strides": [2, 2]}, {"widths": [4, 4, 4, 4, 4]}, {"kernels": [3] * 6}):
        assert Footprint("allukan-tiny", 1, 1, 3, {"topology": own}).options_with(stages) == {"topology": own}
    assert Footprint("unet", 1, 1, 3).options_with(stages) == {}


MEMINFO = "MemTotal:       16000000 kB\nMemAvailable:    8000000 kB\n"


def machine(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


V2 = {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/a/b\n"}
V1 = {"proc/meminfo": MEMINFO, "proc/self/cgroup": "4:memory:/job\n3:cpu,cpuacct:/\n"}
GROUP2, GROUP1 = "sys/fs/cgroup/a/b/", "sys/fs/cgroup/memory/job/"


def v2(limit, used, cached=0, folder=GROUP2):
    stat = f"anon 5\ninactive_file {cached}\n"
    return {folder + "memory.max": limit, folder + "memory.current": used, folder + "memory.stat": stat}


def v1(limit, used):
    return {GROUP1 + "memory.limit_in_bytes": limit, GROUP1 + "memory.usage_in_bytes": used}


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"proc/meminfo": MEMINFO}, 8_000_000 * 1024),
        (V2 | v2("3000000000\n", "1000000000\n"), 2_000_000_000),
        (V2 | v2("3000000000\n", "1000000000\n", cached=500_000_000), 2_500_000_000),
        (V2 | v2("max\n", "1000000000\n"), 8_000_000 * 1024),
        (V2 | v2("max\n", "1\n") | v2("900000\n", "100000\n", folder="sys/fs/cgroup/a/"), 800_000),
        (V2 | {"proc/self/cgroup": "0::/\n"} | v2("700000\n", "0\n", folder="sys/fs/cgroup/"), 700_000),
        (V2 | v2("30000000000000\n", "0\n"), 8_000_000 * 1024),
        (V2 | v2("1000\n", "5000\n"), 0),
        (V1 | v1("5000\n", "2000\n"), 3000),
        (V1 | v1("9223372036854771712\n", "2\n"), 8_000_000 * 1024),
    ],
)
def test_memory_is_what_machine_and_control_groups_leave(tmp_path, files, left):
    assert available_memory(root=machine(tmp_path, files)) == left


def test_this_machine_has_memory():
    assert available_memory() > 2**20


def test_a_system_that_does_not_tell_asks(tmp_path):
    with pytest.raises(UserError, match="give --memory, as 8GiB"):
        available_memory(root=tmp_path)


def test_of_a_gpu_it_is_what_is_free_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7 * 2**30, 8 * 2**30))
    assert available_memory("cuda:0") == 7 * 2**30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "dims", "patch", "batch"), [("allukan-tiny", 3, (48, 48, 48), 4), ("convtwin-tiny", 2, (192, 192), 16)]
)
def test_a_step_stays_within_the_count(model, dims, patch, batch):
    """Measured in a process of its own, by the most it ever had resident (``ru_maxrss`` begins with that of the parent)."""
    code = f"""
import re, torch
from allukan.models import build_model
from allukan.training.planning import Candidate, Footprint, stages_for
torch.set_num_threads(1)
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
chosen = Candidate({patch}, stages_for({patch}))
footprint = Footprint("{model}", 1, 3, {dims})
network = build_model("{model}", in_channels=1, out_channels=3, spatial_dims={dims}, **footprint.options_with(chosen.stages))
optimizer = torch.optim.Adam(network.parameters())
def step(images):
    network(images).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
step(torch.zeros(2, 1, *[n // 3 for n in {patch}]))
before = peak()
step(torch.randn({batch}, 1, *{patch}))
print((peak() - before) / footprint.bytes(chosen, {batch}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True)
    assert 0.2 < float(done.stdout) < 1
