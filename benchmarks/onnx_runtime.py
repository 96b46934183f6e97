"""A network exported to ONNX against its convolutional twin, in onnxruntime on a CPU, interleaved in one run.

python -m benchmarks.onnx_runtime --help
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Annotated, Any

import onnxruntime
import torch
from typer import Option

from allukan.inference import fuse
from allukan.integrations.onnx import to_onnx
from allukan.models import build_model, ka_layers
from benchmarks.program import Program, listed
from benchmarks.report import Result, Row
from benchmarks.timing import interleaved

Models = Annotated[Iterable[str], listed("Models of allukan train, the reference first.")]
Size = Annotated[int, Option(help="Height and width of the images.")]
Batch = Annotated[int, Option(help="Images a call.")]
Threads = Annotated[int, Option(help="Threads of onnxruntime.")]
Repeats = Annotated[int, Option(help="Rounds.")]


def onnx_runtime(
    models: Models = ("convtwin-base", "allukan-base"),
    size: Size = 256,
    batch: Batch = 1,
    threads: Threads = 1,
    repeats: Repeats = 15,
) -> Result:
    """Inference in onnxruntime: time a call, and what the files hold."""
    reference, *_ = models
    x = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).numpy()
    files = {name: _exported(name) for name in models}
    steps = {name: partial(_session(proto, threads).run, None, {"image": x}) for name, (proto, _) in files.items()}
    times = interleaved(steps, torch.device("cpu"), reference=reference, repeats=repeats, seconds=60.0)
    rows: list[Row] = [
        {"name": name, "ka_layers": layers, **_content(proto), "call_seconds": times[name].seconds, "ratio": times[name].ratio}
        for name, (proto, layers) in files.items()
    ]
    threading = f"{threads} thread{'s' * (threads > 1)} of onnxruntime {onnxruntime.__version__}"
    return Result(rows, [f"{batch} × 3 × {size} × {size}, {threading}, {repeats} rounds, each against {reference} in it."])


def _exported(name: str) -> tuple[Any, int]:
    """With splines that differ, as those of a trained network do: else all layers would share one table."""
    network = build_model(name, in_channels=3, out_channels=1)
    for layer in ka_layers(network).values():
        torch.nn.init.normal_(layer.coef, std=0.3)
    program, layers, _ = to_onnx(fuse(network), 3)
    return program.model_proto, layers


def _session(proto: Any, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _content(proto: Any) -> Row:
    counts = Counter(node.op_type for node in proto.graph.node)
    return {"nodes": len(proto.graph.node), "operators": dict(counts.most_common()), "file_bytes": proto.ByteSize()}


program = Program("onnx_runtime", onnx_runtime)

if __name__ == "__main__":
    program()
