"""``allukan export --format hub``: a model folder with a card that says what the run says."""

from __future__ import annotations

from pathlib import Path

import torch

from allukan.errors import UserError
from allukan.files import write_text
from allukan.integrations.about import about
from allukan.integrations.source import Source, batches_to_try, normalised, whole_folder
from allukan.models import load_histograms, load_likeness, load_model, readme, save_histograms, save_likeness, save_model
from allukan.models.inputs_met import FILE as HISTOGRAMS


def export_hub(source: Source, out: Path) -> Path:
    """Write ``config.json``, ``model.safetensors`` and ``README.md`` into the folder ``out`` and return it.

    Beside them go ``activations.safetensors`` and ``likeness.safetensors`` where the model folder has them, so that who downloads
    it can draw its atlas and is told of images unlike the training. What is written is loaded again and must compute the same,
    bit for bit, before the folder gets its name. Raises ``UserError`` for a folder in use.
    """
    with whole_folder(out) as part:
        save_model(part, source.trained, source.card)
        _keep_what_it_met(source, part)
        write_text(part / "README.md", readme(source.card, about(source.run)))
        _check(part, source)
    return out


def _keep_what_it_met(source: Source, folder: Path) -> None:
    """Histograms of the inputs of its activations, which older versions did not write, and their likeness, if it was measured."""
    if (source.folder / HISTOGRAMS).is_file():
        save_histograms(folder, load_histograms(source.folder, source.trained))
    if likeness := load_likeness(source.folder, source.trained):
        save_likeness(folder, likeness)


def _check(folder: Path, source: Source) -> None:
    x = normalised(batches_to_try(source)[0][0][:1], source.card)
    with torch.inference_mode():
        if not torch.equal(load_model(folder, trust=True)[0](x), source.trained(x)):
            raise UserError("the folder for the Hub computes something else than the model: it is not written.")
