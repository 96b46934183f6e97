"""Compiles the variants of the Triton kernels for an H100 (sm_90), without a GPU; run by ``test_triton.py`` as a program."""

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from allukan.ops.engines import triton_channels, triton_engine, triton_kernels, triton_norm, triton_statistics, triton_tiles
from allukan.ops.normalise import ChannelNorm
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


# type, shape, activations, blocks, basis functions, order, base, exact, 64-bit offsets, channels-last, groups, samples, γ and β
NORMALISED = (
    (torch.bfloat16, (8, 64, 64, 64), 1, 1, 8, 3, "silu", True, False, False, 0, False, True),
    (torch.bfloat16, (8, 64, 64, 64), 1, 1, 8, 3, "silu", True, False, True, 0, False, True),
    (torch.float16, (2, 6, 5, 3), 4, 2, 7, 2, "gelu", False, True, False, 2, True, False),
    (torch.float32, (2, 20, 7, 3), 2, 1, 35, 3, "relu", True, True, True, 0, True, True),
    (torch.float64, (3, 4, 1), 2, 2, 6, 1, "tanh", True, False, False, 0, False, True),
)
MODULES = (triton_kernels, triton_channels, triton_statistics)
KERNELS = {name: module for module in MODULES for name in vars(module) if name.endswith("_kernel")}
# two passes where sums do not fit into registers: a kernel more
WANTED = dict.fromkeys(KERNELS, len(NORMALISED)) | {
    "forward_kernel": len(VARIANTS),
    "backward_kernel": len(VARIANTS) + 1,
    "channel_backward_kernel": len(NORMALISED) + 1,
    "sum_kernel": len(VARIANTS) + len(NORMALISED),
}


def main():
    driver.set_active(Absent())
    compilers = {name: Compiler(getattr(module, name)) for name, module in KERNELS.items()}
    for name, module in KERNELS.items():
        setattr(module, name, compilers[name])
    for variant in VARIANTS:
        compile_plain(*variant)
    for variant in NORMALISED:
        compile_normalised(*variant)
    assert {name: compiler.count for name, compiler in compilers.items()} == WANTED
    print("compiled")


def compile_plain(dtype, batch, runs, each, length, count, order, base, exact, wide):
    triton_tiles.WIDE_FROM = 0 if wide else 1 << 31
    triton_tiles._lines.cache_clear()
    x, coef, weight = torch.zeros(batch, runs, length, dtype=dtype), torch.zeros(runs, each, count), torch.zeros(runs, each)
    phi = Phi(count - order, order, (-3.0, 3.0), "bspline", base, exact)
    y = triton_engine._forward(x, coef, weight, phi)
    triton_engine._backward(y, x, coef, weight, phi)


def compile_normalised(dtype, shape, activations, blocks, count, order, base, exact, wide, last, groups, samples, weights):
    triton_tiles.WIDE_FROM = 0 if wide else 1 << 31
    triton_tiles._lines.cache_clear()
    x, channels = torch.zeros(shape, dtype=dtype), shape[1]
    x = x.to(memory_format=torch.channels_last) if last else x
    how, gamma = ChannelNorm(groups, samples, 1e-5), torch.ones(channels) if weights else None
    phi = Phi(count - order, order, (-3.0, 3.0), "bspline", base, exact, blocks)
    coef, weight = torch.zeros(activations, count), torch.zeros(activations)
    found = triton_norm.statistics(x, how)
    to = triton_norm.affine(found, gamma, gamma, how, channels)
    y = triton_engine.forward(x, coef, weight, phi, to)
    inner, _, _, sums = triton_engine.backward(y, x, coef, weight, phi, to)
    triton_norm.apply_gradient(inner, x, triton_norm.input_gradient(sums, found, gamma, how, channels))


if __name__ == "__main__":
    main()
