"""``allukan export --format torch-export`` and ``aotinductor``: programs of torch that run where allukan is not installed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from allukan.errors import UserError
from allukan.files import whole
from allukan.integrations.metadata import metadata, texts
from allukan.integrations.source import Source, batches_to_try, check_out, followed, normalised

SMALLEST = 33  # pixels
_ODD = 65  # in every pooling: where the example does not need its ceil mode, AOTInductor leaves that away for all sizes
METADATA = "allukan.json"  # of the extra files of a program
AGREES = 1e-4  # by which logits may differ, of the largest
Network = Callable[[Tensor], Tensor]


def export_program(source: Source, out: Path) -> float:
    """Write ``out`` (.pt2) for ``torch.export.load(out).module()``; returns the largest difference of its logits.

    It takes normalised float32 ``(B, C, *S)`` of any batch and of any sizes from ``SMALLEST`` on; its extra file ``allukan.json``
    says how. Loaded again it must compute what the model does before the file gets its name. Raises ``UserError`` for a file
    that exists.
    """
    program = _program(source, out)
    with whole(out) as part, part.open("wb") as file, _quietly():
        torch.export.save(program, file, extra_files={METADATA: json.dumps(metadata(source.card), indent=1)})
        file.flush()
        with part.open("rb") as again:
            return _difference(torch.export.load(again).module(), source)


def export_aotinductor(source: Source, out: Path) -> float:
    """Write ``out`` (.pt2), compiled for this kind of CPU, for ``torch._inductor.aoti_load_package(out)``; otherwise likewise.

    Its ``get_metadata()`` has the same entries, beside torch's own.

    Raises ``UserError`` where there is no compiler for C++.
    """
    program = _program(source, out)
    with whole(out) as part, _quietly():
        package = part.with_name(part.name + ".pt2")  # torch wants this ending
        try:
            _compile(program, package, texts(metadata(source.card)))
            package.replace(part)
        finally:
            package.unlink(missing_ok=True)
        with part.open("rb") as again:
            return _difference(torch._inductor.aoti_load_package(again), source)


def _program(source: Source, out: Path) -> ExportedProgram:
    """For every size from ``SMALLEST`` on: a map of the network that is a single place is a constant to torch.export."""
    check_out(out)
    if min(source.card.size) < SMALLEST:
        size = "×".join(map(str, source.card.size))
        raise UserError(f"torch.export holds sizes from {SMALLEST} on, and the model was trained at {size}: use --format onnx.")
    out.parent.mkdir(parents=True, exist_ok=True)
    free = {0: Dim.DYNAMIC, **{d + 2: Dim.DYNAMIC for d in range(source.card.spatial_dims)}}
    example = torch.zeros(2, source.card.in_channels, *[_ODD] * source.card.spatial_dims)
    with _quietly(), followed(source.card, "by torch.export"):
        program = torch.export.export(source.network, (example,), dynamic_shapes=(free,))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # the paths of this machine are nobody's business
    return program


def _compile(program: ExportedProgram, package: Path, told: dict[str, str]) -> None:
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        configs = {"aot_inductor.metadata": told}
        torch._inductor.aoti_compile_and_package(program, package_path=str(package), inductor_configs=configs)
    except (InvalidCxxCompiler, torch._inductor.exc.CppCompileError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"AOTInductor needs a compiler for C++ that works ({reason}): install g++, or set CXX.") from None


def _difference(program: Network, source: Source) -> float:
    """The largest of the logits; ``UserError`` where it is more than rounding."""
    differences = list[float]()
    for batch in batches_to_try(source)[0]:
        x = normalised(batch, source.card)
        with torch.inference_mode(), followed(source.card, "by torch.export"):
            found, wanted = program(x), source.network(x)
        differences.append(float((found - wanted).abs().max()))
        if not differences[-1] <= AGREES * max(1.0, float(wanted.abs().max())):
            raise UserError(
                f"the exported program would differ from the model by {differences[-1]:.1e} in its logits: not written."
            )
    return max(differences)


@contextmanager
def _quietly() -> Iterator[Any]:
    """Without what torch says about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
