"""``allukan export --format hub``: a model folder with a card that says what the run says."""

from __future__ import annotations

from pathlib import Path

import torch

from allukan.errors import UserError
from allukan.files import write_text
from allukan.integrations.about import about
from allukan.integrations.source import Source, batches_to_try, normalised, whole_folder
from allukan.models import load_model, readme, save_model


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


def _check(folder: Path, source: Source) -> None:
    x = normalised(batches_to_try(source)[0][0][:1], source.card)
    with torch.inference_mode():
        if not torch.equal(load_model(folder, trust=True)[0](x), source.trained(x)):
            raise UserError("the folder for the Hub computes something else than the model: it is not written.")
