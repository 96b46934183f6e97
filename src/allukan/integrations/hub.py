"""``allukan export --format hub``: a model folder with a card that says what the run says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from allukan.errors import UserError
from allukan.files import read_json, write_text
from allukan.inference import Run
from allukan.integrations.source import Source, at_size, images_to_try, normalised_bytes, whole_folder
from allukan.models import load_model, readme, save_model
from allukan.report import DISTANCES, HEADINGS

_USE = """## Intended use and limits

Research on images like those it was trained on: of the same kind, machine and part of the body. Nothing is known about others.
Look at its masks before anything depends on them. Not a medical device, and not for diagnosis.

"""


def export_hub(source: Source, out: Path) -> Path:
    """Write ``config.json``, ``model.safetensors`` and ``README.md`` into the folder ``out`` and return it.

    What is written is loaded again and must compute the same, bit for bit, before the folder gets its name. Raises ``UserError``
    for a folder in use.
    """
    with whole_folder(out) as part:
        save_model(part, source.trained, source.card)
        write_text(part / "README.md", readme(source.card, about(source.run)))
        _check(part, source)
    return out


def about(run: Run | None) -> str:
    """Data, training, results with 95 % intervals, use and limits, in Markdown."""
    if run is None:
        return "Data, training and results are not known: the model was exported without its run.\n\n" + _USE
    return "".join([_data(run), _results(run.folder / "evaluation" / "summary.json"), _USE])


def _data(run: Run) -> str:
    counts = ", ".join(f"{len(getattr(run.splits, part))} for {name}" for part, name in _PARTS.items())
    told = {name: run.config[name] for name in ("epochs", "batch_size", "lr", "seed") if name in run.config}
    options = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in told.items())
    return f"""## Data and training

Dataset `{Path(run.config["data"]).name}`, protocol `{run.splits.protocol}`: {counts}. Training: {options}; all options are in the
`config.yaml` of the run.

"""


_PARTS = {"train": "training", "val": "validation", "test": "test"}


def _results(path: Path) -> str:
    if not path.is_file():
        return "## Results\n\nNot evaluated yet: `allukan evaluate RUN`, then export again.\n\n"
    summary = read_json(path)
    unit = summary["distance_unit"]
    head = [f"{text} ({unit})" if key in DISTANCES else text for key, text in HEADINGS.items()]
    lines = [["", "masks", *head], ["---"] * (len(head) + 2), *_rows(summary)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "".join(f"- {note}\n" for note in summary["notes"])
    return f"## Results\n\nOf the {summary['subset']} images, mean (95 % interval):\n\n{table}\n\n{notes}\n"


def _rows(summary: Mapping[str, Any]) -> Iterator[list[str]]:
    several = summary["classes"].items() if len(summary["classes"]) > 1 else ()
    for name, figures in [("all", summary["overall"]), *several]:
        yield [name, str(figures["cases"]), *(_score(figures[key], 1 if key in DISTANCES else 3) for key in HEADINGS)]


def _score(figure: Mapping[str, float], digits: int) -> str:
    return f"{figure['mean']:.{digits}f} ({figure['low']:.{digits}f} … {figure['high']:.{digits}f})"


def _check(folder: Path, source: Source) -> None:
    x = normalised_bytes(at_size(images_to_try(source)[0][:1], source.card.size), source.card)
    with torch.inference_mode():
        if not torch.equal(load_model(folder)[0](x), source.trained(x)):
            raise UserError("the folder for the Hub computes something else than the model: it is not written.")
