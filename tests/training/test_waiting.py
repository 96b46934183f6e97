"""No training step waits for the device: nothing of a tensor is read on the host, and nothing is moved, between two steps."""

from collections import Counter

import pytest
import pytorch_lightning as pl
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from allukan.data import write_phantoms
from allukan.training import TrainConfig, train
from allukan.training.augmentation import AUGMENTATIONS
from allukan.training.module import SegmentationModule

READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::unique", "aten::bincount")
METHODS = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__")


class Reads(TorchDispatchMode):
    """Counts the operators for which a host would wait: those that read values, those whose shape depends on values,.

    With the methods of ``Tensor`` that read without an operator. Not seen are waits inside a kernel of our own, and copies
    between devices, as there is only one here: ``test_cuda_never_waits`` sees these.
    """

    def __init__(self, monkeypatch):
        super().__init__()
        self.seen, self.active = Counter(), False
        for name in METHODS:
            monkeypatch.setattr(torch.Tensor, name, self._counting(name, getattr(torch.Tensor, name)))

    def _counting(self, name, method):
        def counted(*args, **kwargs):
            self.seen[name] += self.active
            return method(*args, **kwargs)

        return counted

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        masked = name.startswith("aten::index") and any(
            isinstance(i, torch.Tensor) and i.dtype in (torch.bool, torch.uint8) for a in args if isinstance(a, list) for i in a
        )
        self.seen[name] += name in READS or masked
        return func(*args, **(kwargs or {}))

    def __enter__(self):
        self.active = True
        return super().__enter__()

    def __exit__(self, *exc):
        self.active = False
        return super().__exit__(*exc)

    def found(self):
        return {name: count for name, count in self.seen.items() if count}


class Between(pl.Callback):
    """Runs ``enter`` after the first step of an epoch and ``leave`` after its last, with all that loads and logs in between."""

    def __init__(self, enter, leave):
        self.enter, self.leave, self.steps = enter, leave, 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps += batch_idx > 0
        if trainer.is_last_batch:
            self.leave()
        elif batch_idx == 0:
            self.enter()


def fit(folder, between, model="allukan-tiny", **options):
    write_phantoms(folder / "data", count=20, size=32, seed=0)
    config = {"model": model, "size": (32, 32), "batch_size": 2, "epochs": 1, "devices": "1", **options}
    train(TrainConfig(str(folder / "data"), str(folder / "run"), **config), callbacks=[between])
    assert between.steps >= 5


EVERYTHING = {"ema": 0.9, "augment": AUGMENTATIONS, "options": {"topology": {"drop_path": 0.2}}, "spline_smoothness": 0.1}
EVERYTHING |= {"warmup": 0.5, "dice": "present"}


@pytest.mark.parametrize("given", [{}, EVERYTHING])
def test_nothing_is_read_between_steps_not_even_for_the_progress_bar(tmp_path, monkeypatch, given):
    reads = Reads(monkeypatch)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    between = Between(reads.__enter__, lambda: reads.__exit__(None, None, None))
    fit(tmp_path, between, accelerator="cpu", **given)
    assert reads.found() == {
        "tolist": between.steps
    }  # MONAI's DiceLoss lists numbers of dimensions, of a tensor of the CPU's own


def test_a_step_that_reads_is_found(tmp_path, monkeypatch):
    step = SegmentationModule.training_step
    monkeypatch.setattr(SegmentationModule, "training_step", lambda *args: step(*args) * (1 if step(*args) > 0 else 2))
    reads = Reads(monkeypatch)
    fit(tmp_path, Between(reads.__enter__, lambda: reads.__exit__(None, None, None)), "convtwin-tiny", accelerator="cpu")
    assert reads.found()["aten::_local_scalar_dense"] >= 5


@pytest.mark.parametrize(
    "read", [lambda t: t.item(), bool, float, lambda t: t.nonzero(), lambda t: t[t > 0], lambda t: t.tolist(), lambda t: t.cpu()]
)
def test_every_way_to_read_is_counted(monkeypatch, read):
    with Reads(monkeypatch) as reads:
        read(torch.ones(1))
    assert reads.found()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("given", [{}, EVERYTHING])
@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_cuda_never_waits(tmp_path, precision, given):
    between = Between(lambda: torch.cuda.set_sync_debug_mode("error"), lambda: torch.cuda.set_sync_debug_mode("default"))
    try:
        fit(tmp_path, between, accelerator="cuda", precision=precision, **given)
    finally:
        torch.cuda.set_sync_debug_mode("default")
