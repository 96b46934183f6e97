"""Steps that CUDA graphs repeat are the steps; what a graph would not repeat is not recorded."""

import copy
import logging
import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from allukan.data import write_phantoms
from allukan.errors import UserError
from allukan.files import read_json
from allukan.models import build_model
from allukan.training import TrainConfig, pace, recording, train
from allukan.training.callbacks import History
from allukan.training.recording import Call, Recorded, recordable

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
needs_gpu = pytest.mark.skipif(not GPU, reason="CUDA graphs need a GPU")
MODELS = {
    "allukan-tiny": {},
    "convtwin-tiny": {},
    "allukan-paper-tiny": {},
    "edgekan-tiny": {},
    "ukan": {"size": "tiny"},
    "unet": {"channels": (8, 16, 24, 32, 48)},
}
TINY = {"epochs": 3, "size": (32, 32), "batch_size": 4, "model": "allukan-tiny"}


def config(folder, out: str, **options) -> TrainConfig:
    return TrainConfig(data=str(folder / "data"), out=str(folder / out), **{**TINY, **options})


@pytest.fixture
def phantoms(tmp_path):
    write_phantoms(tmp_path / "data", 20, size=32)
    return tmp_path


def gradients(call: Call, network: nn.Module, images: torch.Tensor, seed: int, bf16: bool) -> tuple[float, torch.Tensor]:
    """The loss of a step and the slopes of all parameters, as one vector."""
    torch.manual_seed(seed)
    network.zero_grad()
    with torch.autocast(DEVICE, torch.bfloat16, cache_enabled=False) if bf16 else nullcontext():
        loss = call(images)[0].float().square().mean()
    loss.backward()
    return float(loss.detach()), torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


@needs_gpu
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("model", MODELS)
def test_every_recorded_step_is_the_step(model: str, bf16: bool, monkeypatch) -> None:
    """Against the same network without a recording, with the weights and statistics of before the step."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    plain = build_model(model, in_channels=3, out_channels=1, **MODELS[model])
    network = nn.Sequential(plain, nn.Dropout(0.2)).cuda().train()
    twin, optimizer = copy.deepcopy(network), torch.optim.Adam(network.parameters(), 3e-3, fused=True)
    call = Recorded(network, lambda x: [network(x)])
    data = torch.randn(6, 4, 3, 64, 64, generator=torch.Generator().manual_seed(1)).cuda()
    for step, images in enumerate(data):
        batch = images[: 2 if step == 3 else 4]  # one of another size
        twin.load_state_dict(network.state_dict())
        loss, slopes = gradients(call, network, batch, step, bf16)
        expected, others = gradients(lambda x: [twin(x)], twin, batch, step, bf16)
        assert loss == pytest.approx(expected, rel=1e-2 if bf16 else 1e-4)
        assert torch.cosine_similarity(slopes, others, 0) > (0.97 if bf16 else 0.999)
        for mine, theirs in zip(network.buffers(), twin.buffers(), strict=True):
            assert torch.allclose(mine.float(), theirs.float(), rtol=1e-2, atol=1e-2 if bf16 else 1e-4)
        optimizer.step()


@needs_gpu
def test_recording_leaves_statistics_and_random_numbers_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).cuda().train()
    twin = copy.deepcopy(network)
    images = torch.randn(2, 3, 8, 8, device="cuda")
    torch.manual_seed(3)
    expected = twin(images)
    torch.manual_seed(3)
    found = Recorded(network, lambda x: [network(x)])(images)[0]
    assert torch.allclose(found, expected, atol=1e-6)
    for mine, theirs in zip(network.buffers(), twin.buffers(), strict=True):
        assert torch.allclose(mine, theirs)


@needs_gpu
def test_every_batch_is_written_to_the_same_place() -> None:
    network = nn.Linear(3, 2).cuda().train()
    call = Recorded(network, lambda x: [network(x)])
    places = [call(torch.randn(5, 3, device="cuda"))[0].data_ptr() for _ in range(3)]
    assert len(set(places)) == 1
    assert len(copy.deepcopy(call)(torch.randn(4, 3, device="cuda"))[0]) == 4


@needs_gpu
def test_released_passes_give_their_memory_back() -> None:
    network = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(8))).cuda().train()
    call = Recorded(network, lambda x: [network(x)])
    images, before = torch.randn(4, 8, 256, 256, device="cuda"), torch.cuda.memory_reserved()
    call(images)[0].sum().backward()
    network.zero_grad()
    held = torch.cuda.memory_reserved()
    call.release()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() < before + (held - before) / 4


@pytest.mark.slow
def test_a_training_that_has_ended_holds_no_recording(phantoms, monkeypatch) -> None:
    released: list[Recorded] = []
    monkeypatch.setattr(Recorded, "release", lambda self: released.append(self))
    monkeypatch.setattr(Recorded, "__call__", lambda self, images: self.call(images))
    monkeypatch.setattr("allukan.training.run.recordable", lambda *_: True)
    monkeypatch.setattr(pace.Pace, "epochs", lambda self, seconds: 1)
    monkeypatch.setattr(pace.Deadline, "on_train_epoch_end", lambda *_: None)
    train(config(phantoms, "run", epochs=None, budget="1h", accelerator="cpu"))
    assert len({id(recorded) for recorded in released}) == 2  # of the trial that was timed, and of the training


class Reading(nn.Linear):
    """Looks at a value on the host."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if float(x.sum()) > -1e9 else x


class Drawing(nn.Linear):
    """Scales as the host draws."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        drawn = (random.random(), np.random.rand(), float(torch.rand(())))
        return super().forward(x) * (2.0 if min(drawn) > 0.1 else 1.0)


class Replacing(nn.Linear):
    """Keeps the last mean, as a tensor of its own each time."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.register_buffer("last", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.last = x.mean().detach()
        return super().forward(x)


class FakeStream:
    """What a recording asks of streams, where there is no GPU."""

    def wait_stream(self, other: object) -> None:
        """Nothing runs beside anything."""


@pytest.fixture
def cuda_or_not(monkeypatch):
    if GPU:
        return
    for name, fake in {
        "Stream": FakeStream,
        "current_stream": FakeStream,
        "stream": lambda stream: nullcontext(),
        "set_sync_debug_mode": lambda mode: None,
        "get_rng_state": torch.get_rng_state,
        "set_rng_state": torch.set_rng_state,
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        pytest.param(Reading, "reads values", marks=needs_gpu),
        (Drawing, "draws random numbers on the host"),
        (Replacing, "replaces its buffers"),
    ],
)
def test_what_a_graph_would_not_repeat_goes_on_without(kind, reason, caplog, cuda_or_not) -> None:
    network = kind(3, 3).to(DEVICE).train()
    call = Recorded(network, lambda x: [network(x)])
    with caplog.at_level(logging.WARNING, "allukan"):
        for _ in range(3):
            call(torch.randn(5, 3, device=DEVICE))[0].sum().backward()
    assert [line for line in caplog.messages if reason in line and "not recorded as CUDA graphs" in line] == caplog.messages
    assert len(caplog.messages) == 1
    assert network.weight.grad is not None


def test_a_failed_recording_is_one_sentence(monkeypatch, cuda_or_not) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(recording, "record", failing)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    network = nn.Linear(3, 2).to(DEVICE)
    with pytest.raises(UserError, match=r"operation not permitted when stream is capturing\): give --no-cuda-graphs"):
        Recorded(network, lambda x: [network(x)])(torch.randn(5, 3, device=DEVICE))


@pytest.mark.parametrize(
    ("options", "device", "processes", "expected"),
    [
        ({}, "cuda", 1, True),
        ({}, "cuda:1", 1, True),
        ({}, "cuda", 2, False),
        ({}, "cpu", 1, False),
        ({"compile": True}, "cuda", 1, False),
        ({"cuda_graphs": False}, "cuda", 1, False),
    ],
)
def test_steps_are_recorded_on_one_gpu(options, device, processes, expected) -> None:
    assert recordable(TrainConfig(data="d", out="o", **options), torch.device(device), processes) is expected


@needs_gpu
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"options": {"topology": {"deep_supervision": True}}, "ema": 0.9},
        {"precision": "16-mixed"},
        {"spline_smoothness": 1e-3},
    ],
    ids=str,
)
def test_a_training_by_graphs_is_the_training(phantoms, options, monkeypatch) -> None:
    replays, apply, rows = [], recording._Replay.apply, {}
    monkeypatch.setattr(recording._Replay, "apply", lambda *args: replays.append(1) or apply(*args))
    for graphs in (True, False):
        seen: list = []
        monkeypatch.setattr(History, "_write", lambda self, seen=seen: seen.append(dict(self.rows[-1])))
        train(config(phantoms, f"run-{graphs}", cuda_graphs=graphs, **options))
        rows[graphs] = [row["train_loss"] for row in seen]
    assert len(replays) == 3 * 3  # batches of 4 of 14 images, in three epochs
    assert rows[True] == pytest.approx(rows[False], rel=0.1)


@needs_gpu
def test_a_resumed_training_records_anew(phantoms) -> None:
    train(config(phantoms, "run"))
    train(config(phantoms, "run", epochs=5), resume=True)
    assert read_json(phantoms / "run" / "model" / "config.json")
