"""Compiles every variant of the Triton kernels for an H100 (sm_90), without a GPU; run by ``test_triton.py`` as a program."""

import torch
import triton
from triton.backends.compiler import GPUTarget

from allukan.ops.shared_spline import triton_engine
from allukan.ops.shared_spline import triton_kernels as kernels

NAMES = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32", torch.float64: "*fp64"}
GRID = (-3.0, 3.0)


class Compiler:
    """Stands in for a kernel: what would be launched is compiled."""

    def __init__(self, kernel):
        self.kernel, self.count = kernel, 0

    def __getitem__(self, grid):
        return self.compile

    def compile(self, *args, **options):
        bound = dict(zip(self.kernel.arg_names, args, strict=False)) | options
        fixed = {p.name for p in self.kernel.params if p.is_constexpr}
        types = {
            n: "constexpr" if n in fixed else NAMES.get(getattr(bound[n], "dtype", None), "i32") for n in self.kernel.arg_names
        }
        source = triton.compiler.ASTSource(self.kernel, types, {n: bound[n] for n in fixed})
        rest = {n: v for n, v in options.items() if n not in types}
        triton.compile(source, target=GPUTarget("cuda", 90, 32), options=rest)
        self.count += 1


def main():
    compilers = [Compiler(getattr(kernels, name)) for name in ("forward_kernel", "backward_kernel", "sum_kernel")]
    for compiler in compilers:
        setattr(kernels, compiler.kernel.__name__, compiler)
    # type, batch, runs, activations a run, length, basis functions, order, base, exact, 64-bit offsets
    for dtype, batch, runs, each, length, count, order, base, exact, wide in (
        (torch.bfloat16, 1, 1, 1, 4096, 8, 3, "silu", True, False),
        (torch.float16, 1, 1, 1, 4096, 7, 2, "gelu", False, True),
        (torch.float32, 3, 2, 4, 77, 6, 1, "leaky_relu:0.1", True, True),
        (torch.float32, 3, 2, 2, 300, 35, 3, "relu", True, False),
        (torch.float64, 2, 1, 2, 40, 8, 3, "tanh", True, False),
        (torch.bfloat16, 8, 1, 1, 33, 8, 3, "identity", False, False),
    ):
        triton_engine.WIDE_FROM = 0 if wide else 1 << 31
        x, coef, weight = torch.zeros(batch, runs, length, dtype=dtype), torch.zeros(runs, each, count), torch.zeros(runs, each)
        y = triton_engine.forward(x, coef, weight, GRID, order, base)
        triton_engine.backward(y, x, coef, weight, GRID, order, base, exact)
    assert [c.count for c in compilers] == [6, 7, 6]
    print("compiled")


if __name__ == "__main__":
    main()
