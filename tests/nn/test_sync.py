"""Two processes with part of a batch each are one process with the whole (SyncBatchNorm), on CPUs too."""

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from torch import nn

from allukan.nn import KAConv2d, KALinear

CODE = "import sys; from {module} import work; work(int(sys.argv[1]), sys.argv[2])"


def network():
    torch.manual_seed(0)
    units = KAConv2d(3, 8, 3, padding=1), KAConv2d(8, 6, 3, padding=1, norm="batch"), KAConv2d(6, 4, 3, stride=2, norm="batch")
    made = nn.Sequential(*units, nn.Flatten(), KALinear(4 * 3 * 3, 5, norm="batch"))
    for parameter in made.parameters():
        nn.init.normal_(parameter, 0.3, 0.4)
    return nn.SyncBatchNorm.convert_sync_batchnorm(made)


def batch():
    torch.manual_seed(1)
    return 2 * torch.randn(6, 3, 8, 7) + 1


def work(rank, folder):
    """What one of the two processes does; unequal parts of the batch."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    x = (batch()[:4] if rank == 0 else batch()[4:]).requires_grad_()
    model = network()
    y = model(x)
    y.sin().sum().backward()
    for parameter in model.parameters():  # what DDP does, which refuses SyncBatchNorm on CPUs
        dist.all_reduce(parameter.grad)
    found = {"y": y.detach(), "x": x.grad, **{n: p.grad for n, p in model.named_parameters()}, **dict(model.named_buffers())}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_are_one_with_the_doubled_batch(tmp_path):
    code = CODE.format(module="test_sync")
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(__file__).rpartition('/')[0]!r}); {code}"]
    both = [subprocess.Popen([*command, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True) for rank in (0, 1)]
    for process in both:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    model, x = network().double(), batch().double().requires_grad_()
    y = model(x)
    y.sin().sum().backward()
    wanted = {"y": y.detach(), "x": x.grad}
    found = {name: torch.cat([first[name], second[name]]) for name in wanted}
    for name, value in (*((n, p.grad) for n, p in model.named_parameters()), *model.named_buffers()):
        torch.testing.assert_close(first[name], second[name])
        found[name], wanted[name] = first[name], value
    for name, value in wanted.items():
        assert (found[name].double() - value).norm() <= 5e-3 * value.double().norm() + 1e-4, name  # float32
