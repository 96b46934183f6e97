"""Compiles the variants of the Triton kernels for an H100 (sm_90), without a GPU; run by ``test_triton.py`` as a program."""

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from allukan.ops.engines import triton_engine
from allukan.ops.engines import triton_kernels as kernels
from allukan.ops.phi import Phi

# type, batch, runs, activations a run, length, basis functions, order, base, exact, 64-bit offsets
VARIANTS = (
    (torch.bfloat16, 1, 1, 1, 4096, 8, 3, "silu", True, False),
    (torch.float16, 1, 1, 1, 4096, 7, 2, "gelu", False, True),
    (torch.float32, 3, 2, 4, 77, 6, 1, "leaky_relu:0.1", True, True),
    (torch.float32, 3, 2, 2, 300, 35, 3, "relu", True, False),
    (torch.float64, 2, 1, 2, 40, 8, 3, "tanh", True, False),
    (torch.bfloat16, 8, 1, 1, 33, 8, 3, "identity", False, False),
)


class Absent:
    """As much of a GPU as the compiler asks for."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


class Compiler:
    """Stands in for a kernel: what would be launched is compiled, by the path that a launch takes."""

    def __init__(self, kernel):
        self.kernel, self.count = kernel, 0

    def __getitem__(self, grid):
        return lambda *args, **options: self.compile(grid, args, options)

    def compile(self, grid, args, options):
        self.kernel.run(*args, grid=grid, warmup=True, **options)
        self.count += 1


def main():
    driver.set_active(Absent())
    compilers = {name: Compiler(getattr(kernels, name)) for name in ("forward_kernel", "backward_kernel", "sum_kernel")}
    for name, compiler in compilers.items():
        setattr(kernels, name, compiler)
    for dtype, batch, runs, each, length, count, order, base, exact, wide in VARIANTS:
        triton_engine.WIDE_FROM = 0 if wide else 1 << 31
        x, coef, weight = torch.zeros(batch, runs, length, dtype=dtype), torch.zeros(runs, each, count), torch.zeros(runs, each)
        phi = Phi(count - order, order, (-3.0, 3.0), "bspline", base, exact)
        y = triton_engine._forward(x, coef, weight, phi)
        triton_engine._backward(y, x, coef, weight, phi)
    assert [c.count for c in compilers.values()] == [6, 7, 6]
    print("compiled")


if __name__ == "__main__":
    main()
