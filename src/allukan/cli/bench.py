"""``allukan bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allukan.cli.console import say

if TYPE_CHECKING:
    from allukan.bench import Settings

Option = typer.Option
app = typer.Typer(no_args_is_help=True)
Device = Annotated[str, Option(help="auto, cpu, cuda or cuda:1 …")]
Precision = Annotated[str, Option(help="32-true, bf16-mixed or 16-mixed")]
Compile = Annotated[bool, Option("--compile", help="torch.compile everything that is compared.")]
Threads = Annotated[int | None, Option(help="CPU threads  [as torch chooses]")]
Repeats = Annotated[int, Option(help="Rounds of measurement at most.")]
Seconds = Annotated[float, Option(help="That each may take for each of its times; slow ones get fewer rounds, three at least.")]
Out = Annotated[Path | None, Option(help="JSON file for the figures  [print only]")]
Peers = Annotated[Path | None, Option(help="Folder of clones of efficient-kan, fast-kan, torch-conv-kan, pykan, inkan, U-KAN")]
Variants = Annotated[str | None, Option(help="Of ours, as ka,ka-free,ka-recompute,ka-input,ka-4,ka-output,edge,stacked  [all]")]


@app.command()
def layers(
    variants: Variants = None,
    peers: Peers = None,
    channels: Annotated[int, Option(help="In and out of the convolution.")] = 64,
    px: Annotated[int, Option(help="Sides of its input.")] = 64,
    batch: Annotated[int, Option(help="Samples of its input.")] = 2,
    kernel_size: Annotated[int, Option(help="Of the convolution.")] = 3,
    spatial_dims: Annotated[int, Option(help="1, 2 or 3")] = 2,
    features: Annotated[int, Option(help="In and out of the linear layer.")] = 256,
    samples: Annotated[int, Option(help="Rows of its input.")] = 4096,
    device: Device = "auto",
    precision: Precision = "32-true",
    compile: Compile = False,
    threads: Threads = None,
    repeats: Repeats = 15,
    seconds: Seconds = 2.0,
    out: Out = None,
) -> None:
    """One convolution and one linear layer of every kind: parameters, memory kept for backward, times."""
    from allukan import bench

    bench.check_out(out)
    settings = bench.Settings(device, precision, compile, threads, repeats, seconds)
    kits, notes = bench.find_peers(peers)
    sizes = {"channels": channels, "px": px, "batch": batch, "kernel_size": kernel_size, "spatial_dims": spatial_dims}
    rows = bench.bench_layers(settings, variants=_split(variants), kits=kits, features=features, samples=samples, **sizes)
    _show("layers", rows, notes, settings, out)


@app.command()
def models(
    variants: Variants = None,
    peers: Peers = None,
    others: Annotated[str, Option(help="Further models of allukan train, separated by commas.")] = "ukan",
    size: Annotated[str, Option(help="tiny, small or base")] = "small",
    px: Annotated[int, Option(help="Sides of the images.")] = 128,
    batch: Annotated[int, Option(help="Images a step.")] = 2,
    in_channels: Annotated[int, Option(help="Of the images.")] = 3,
    spatial_dims: Annotated[int, Option(help="2 or 3")] = 2,
    device: Device = "auto",
    precision: Precision = "32-true",
    compile: Compile = False,
    threads: Threads = None,
    repeats: Repeats = 15,
    seconds: Seconds = 5.0,
    out: Out = None,
) -> None:
    """ALL U-KAN, its convolutional twin and KANs in the same topology: memory, training step, inference."""
    from allukan import bench

    bench.check_out(out)
    settings = bench.Settings(device, precision, compile, threads, repeats, seconds)
    task = bench.Task(size, batch, in_channels, px, spatial_dims)
    kits, notes = bench.find_peers(peers)
    further = bench.factory_networks(task, _split(others) or [])
    if (in_channels, spatial_dims) == (3, 2):
        network, why = bench.find_ukan(peers)
        notes += why
        further |= {"U-KAN (its own code)": network} if network else {}
    notes += [f"{kit.name}: left out, it has no convolution; see allukan bench layers" for kit in kits if kit.conv is None]
    rows = bench.bench_models(settings, task, variants=_split(variants), kits=kits, others=further)
    _show("models", rows, notes, settings, out)


@app.command()
def gradients(
    size: Annotated[str, Option(help="tiny, small or base")] = "small",
    px: Annotated[int, Option(help="Sides of the images.")] = 64,
    batch: Annotated[int, Option(help="Images a step.")] = 2,
    in_channels: Annotated[int, Option(help="Of the images.")] = 3,
    spatial_dims: Annotated[int, Option(help="2 or 3")] = 2,
    device: Device = "auto",
    precision: Precision = "32-true",
    threads: Threads = None,
    repeats: Repeats = 5,
    seconds: Seconds = 5.0,
    out: Out = None,
) -> None:
    """Exact, Grad-Free and checkpointed gradients side by side: memory, time, and error against float64."""
    from allukan import bench

    bench.check_out(out)
    settings = bench.Settings(device, precision, False, threads, repeats, seconds)
    _show("gradients", bench.bench_gradients(settings, bench.Task(size, batch, in_channels, px, spatial_dims)), [], settings, out)


@app.command()
def efficiency(
    models: Annotated[str | None, Option(help="Of allukan train, separated by commas  [all]")] = None,
    px: Annotated[int, Option(help="Sides of the images.")] = 256,
    batch: Annotated[int, Option(help="Images a step.")] = 1,
    limit_gib: Annotated[float, Option(help="Models that keep more for the backward pass are counted, not run.")] = 2.0,
    device: Device = "auto",
    precision: Precision = "32-true",
    compile: Compile = False,
    threads: Threads = None,
    repeats: Repeats = 2,
    seconds: Seconds = 3.0,
    out: Out = None,
    figure: Annotated[Path | None, Option(help="PNG or SVG: memory and parameters against time  [none]")] = None,
    page: Annotated[Path | None, Option(help="Markdown page whose <!-- efficiency --> block gets the table  [none]")] = None,
) -> None:
    """Every model there is: parameters, FLOPs, memory kept for backward, times, and ratios to its convolutional twin."""
    from allukan import bench

    bench.check_out(out)
    bench.check_page(page, "efficiency")
    bench.check_figure(figure)
    settings = bench.Settings(device, precision, compile, threads, repeats, seconds)
    rows, notes = bench.bench_efficiency(settings, _split(models), px=px, batch=batch, limit_gib=limit_gib)
    where = _show("efficiency", rows, notes, settings, out)
    if figure is not None:
        bench.draw_efficiency(figure, rows, f"{batch} × 3 × {px}² on {where['device']}, {where['threads']} threads, {precision}")
    if page is not None:
        text = [bench.markdown(rows), *(f"- {note}" for note in notes), bench.provenance(where)]
        bench.fill_block(page, "efficiency", "\n\n".join([text[0], "\n".join(text[1:-1]), text[-1]]))


@app.command()
def train(
    models: Annotated[str, Option(help="Names of models, separated by commas; the first is the reference.")] = (
        "convtwin-small,allukan-small"
    ),
    px: Annotated[int, Option(help="Sides of the images.")] = 128,
    batch: Annotated[int, Option(help="Images a step.")] = 8,
    count: Annotated[int, Option(help="Synthetic images.")] = 64,
    epochs: Annotated[int, Option(help="That count; one more goes before.")] = 3,
    device: Device = "auto",
    precision: Precision = "32-true",
    compile: Compile = False,
    threads: Threads = None,
    out: Out = None,
) -> None:
    """The real training loop on synthetic ultrasound: images a second, and the time lost outside the steps."""
    from allukan import bench

    bench.check_out(out)
    settings = bench.Settings(device, precision, compile, threads)
    rows = bench.bench_train(settings, _split(models) or [], px=px, batch=batch, count=count, epochs=epochs)
    _show("train", rows, [], settings, out)


@app.command()
def kernels(
    channels: Annotated[int, Option(help="Of the feature map.")] = 64,
    px: Annotated[int, Option(help="Its sides.")] = 64,
    batch: Annotated[int, Option(help="Samples of it.")] = 8,
    dtypes: Annotated[str, Option(help="Of float32, bfloat16 and float16, separated by commas.")] = "float32,bfloat16",
    device: Device = "auto",
    threads: Threads = None,
    repeats: Repeats = 20,
    out: Out = None,
) -> None:
    """The shared spline by itself, every engine that runs here, against the bandwidth of a copy."""
    from allukan import bench
    from allukan.errors import UserError

    bench.check_out(out)
    settings = bench.Settings(device, threads=threads, repeats=repeats)
    if min(channels, px, batch) < 1:
        raise UserError(f"options channels, px and batch must be at least 1, got {channels}, {px} and {batch}.")
    try:
        with settings.running():
            rows = bench.bench_kernels(settings.place, [(batch, channels, px, px)], _split(dtypes) or [], repeats=repeats)
    except ValueError as error:
        raise UserError(f"{error}.") from None
    shown = [{**row, "shape": "×".join(map(str, row["shape"]))} for row in rows]
    _show("kernels", shown, [], settings, out)


def _split(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _show(benchmark: str, rows: list[dict[str, Any]], notes: list[str], settings: Settings, out: Path | None) -> dict[str, Any]:
    """The table, what is missing from it, and where it was measured; the JSON when it is wanted. Returns the where."""
    from allukan import bench

    with settings.running():
        where = bench.environment(settings.place)
    print(bench.markdown(rows))
    for note in notes:
        print(note)
    how = f"{settings.precision}, compiled" if settings.compile else settings.precision
    print(f"{where['device']}, {where['threads']} threads, {how}, torch {where['versions']['torch']}")
    if out is not None:
        bench.write_json(out, benchmark, rows, where, notes)
        say(f"Written: {out}")
    return where
