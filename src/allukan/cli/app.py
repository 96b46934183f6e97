"""``allukan app``."""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from allukan.cli.console import TRUST, complain, say, show_log
from allukan.errors import UserError

Option = typer.Option
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def app(
    models: Annotated[list[Path], typer.Argument(help="Folders of trained models, RUN or RUN/model.", show_default=False)],
    host: Annotated[str, Option(help="Address to listen at; any other than the default lets other machines in.")] = LOOPBACK[0],
    port: Annotated[int | None, Option(min=1, max=65535, help="Port  [7860, or the next that is free]")] = None,
    max_upload: Annotated[float, Option(metavar="MB", min=0.001, max=100_000, help="The most that a visitor may send.")] = 512,
    examples: Annotated[
        Path | None, Option(metavar="DIR", help="Folder of images that visitors may try; copied at the start.")
    ] = None,
    mode: Annotated[str | None, Option(help="resize, or sliding (window over the image as it is)  [volumes: sliding]")] = None,
    tta: Annotated[bool, Option("--tta", help="Average probabilities over all flips (four passes; volumes: eight).")] = False,
    device: Annotated[str, Option(help="auto, cpu, cuda …")] = "auto",
    trust: Annotated[bool, Option("--trust", help=TRUST)] = False,
) -> None:
    """Open a page in the browser that applies trained models to an image, a volume or a zip of DICOM slices.

    It shows contours, sizes and probabilities, and gives the masks that allukan predict writes. No request goes to another host.
    """
    if find_spec("gradio") is None:
        raise UserError("the app needs the package gradio: pip install 'allukan[app]'.")
    from allukan import inference
    from allukan.app import MEGABYTE, open_checks, open_examples, open_models

    show_log()
    opened = open_models(models, lambda folder: inference.Predictor(folder, device, mode, tta, trust))
    if host not in LOOPBACK:
        complain(f"allukan: {host} lets other machines in, without password or encryption: whoever reaches it can send images.")
    with tempfile.TemporaryDirectory(prefix="allukan-app-", ignore_cleanup_errors=True) as folder:
        card, limit = next(iter(opened.values())).card, round(max_upload * MEGABYTE)
        offered = open_examples(examples, card, Path(folder, "examples"), limit) if examples else []
        os.environ |= {"GRADIO_TEMP_DIR": f"{folder}/gradio", "GRADIO_ANALYTICS_ENABLED": "False"}  # before it is imported
        from allukan.app.page import serve

        visits = Path(folder, "visits")
        visits.mkdir()
        page, address = serve(opened, visits, limit, host, port, open_checks(models, opened), offered)
        say(f"{', '.join(opened)} at {address} (Ctrl-C ends it)")
        page.block_thread()
