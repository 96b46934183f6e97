"""The Hub's way to save, load and share a network; a folder of the Hub is a model folder with a README.md, and the reverse."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from allukan.errors import UserError
from allukan.models.foreign import is_foreign
from allukan.nn import KALayer

if TYPE_CHECKING:
    from allukan.models.storage import ModelCard

FILES = ("config.json", "model.safetensors")  # of a model folder


class Pretrained:
    """Gives a network ``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` (extra ``hub``).

    Attributes:
        card: what the network was trained on; of one that ``from_pretrained`` loaded.
    """

    card: ModelCard | None = None

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Self:
        """The network of a folder, or of a repository ``"user/name"`` of the Hub, in evaluation mode, with its ``card``.

        ``options`` are those of ``huggingface_hub`` (``revision``, ``token``, ``cache_dir``, ``local_files_only`` …). Raises
        ``UserError`` for what is no model, for weights that are missing or do not fit, and for another kind of network.
        """
        try:
            network, card = _hub().from_pretrained(name, **options).parts
        except UserError:
            raise
        except (OSError, ValueError) as error:  # what huggingface_hub raises without network, rights or such a repository
            reason = str(error).splitlines()[0]
            raise UserError(f"{name} is no folder, and the Hub gives no model of that name ({reason}).") from None
        if not isinstance(network, cls):
            raise UserError(f"{name} holds a {card.model!r}, which is no {cls.__name__}: use allukan.load_model.")
        network.card = card
        return network

    def save_pretrained(self, folder: str | Path, card: ModelCard | None = None, **options: Any) -> None:
        """Write ``config.json``, ``model.safetensors`` and, unless there is one, ``README.md``.

        ``card`` says what the network was trained on, unless it was loaded by ``from_pretrained``. Raises as ``save_model`` does.
        """
        _hub()(self, self._known(card)).save_pretrained(folder, **options)

    def push_to_hub(self, repo_id: str, card: ModelCard | None = None, **options: Any) -> Any:
        """Upload what ``save_pretrained`` writes to a repository of the Hub, made where it does not exist; returns the commit."""
        return _hub()(self, self._known(card)).push_to_hub(repo_id, **options)

    def _known(self, card: ModelCard | None) -> ModelCard:
        found = card or self.card
        if found is None:
            raise UserError("the network does not know what it was trained on: give card=ModelCard(…) along with it.")
        _check(self, found)  # type: ignore[arg-type]
        return found


def _check(network: nn.Module, card: ModelCard) -> None:
    """``UserError`` where whoever loads the folder would get another network: other shapes, splines or numbers."""
    from allukan.models.storage import misfit

    if is_foreign(card.model):
        return
    outline = card.outline()
    wrong = misfit(network.state_dict(), outline.state_dict()) or _other_spline(network, outline)
    if wrong := wrong or _other_numbers(network, card):
        raise UserError(f"the network is not the {card.model!r} of its card: {wrong}. Give a card with its options.")


def _other_spline(network: nn.Module, outline: nn.Module) -> str | None:
    said, is_ = (
        {name: replace(m.spline, impl="auto", recompute=True) for name, m in one.named_modules() if isinstance(m, KALayer)}
        for one in (outline, network)
    )
    return next(
        (f"{name} has {is_.get(name)} and by the card {said[name]}" for name in said if is_.get(name) != said[name]), None
    )


def _other_numbers(network: nn.Module, card: ModelCard) -> str | None:
    """What has no weights, as strides and fixed activations, shows in the logits alone."""
    device = next(network.parameters()).device
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        again = card.build()
        again.load_state_dict(network.state_dict())
        x = torch.randn(1, card.in_channels, *card.size).to(device)
        found, wanted = (one.to(device, torch.float32).eval()(x) for one in (again, deepcopy(network)))
    far = float((found - wanted).abs().max())
    return f"built by the card its logits differ by {far:.1e}" if far > 1e-3 * float(wanted.abs().max()) else None


def readme(card: ModelCard, about: str = "") -> str:
    """A model card in the Hub's form: what it is for programs, for people, ``about`` the model, and how to load it."""
    call, close = 'Predictor("FOLDER")', "The weights are safetensors, the description is JSON: nothing in here is executed."
    if is_foreign(card.model):
        call = 'Predictor("FOLDER", trust=True)'
        close = f"The network is the code `{card.model}`, which is not in here: install it. `trust=True` has it imported."
    channels, size = {1: "grey", 3: "RGB"}.get(card.in_channels, f"{card.in_channels} channels"), " × ".join(map(str, card.size))
    bits = "8 bits" if card.in_bytes else "more than 8 bits, with their values"
    kind, image = f"images of {bits} ({channels}), scaled to {size} pixels", '"image.png").masks  # bool (classes, height, width)'
    if card.spatial_dims == 3:
        spacing, files = " × ".join(f"{mm:g}" for mm in card.spacing_mm), "one file" if len(card.image_files) == 1 else "files"
        kind = f"volumes ({files} each), brought to voxels of {spacing} mm, in parts of {size} voxels"
        image = '"image.nii.gz").masks  # bool (classes, depth, height, width)'
    return f"""---
library_name: allukan
pipeline_tag: image-segmentation
tags: [allukan, kolmogorov-arnold, medical-imaging, image-segmentation]
---

# {card.model}: {", ".join(card.classes)}

A `{card.model}` network of allukan {card.version} (Kolmogorov–Arnold layers, [arXiv 2602.03156](https://arxiv.org/abs/2602.03156)).
Input: {kind}. Output: {card.target} masks of
{", ".join(card.classes)}.

{about}## How to load it

```python
from allukan import Predictor

masks = {call}({image}; FOLDER is a copy of this repository
```

{close} Not a medical device.
"""


@cache
def _hub() -> Any:
    """huggingface_hub's mix-in around a model folder; made when it is asked for, as its import takes half a second."""
    try:
        from huggingface_hub import ModelCard as Readme
        from huggingface_hub import ModelHubMixin, snapshot_download
    except ImportError:
        raise UserError("the Hub needs the package huggingface_hub: pip install 'allukan[hub]'.") from None
    from allukan.models.storage import load_model, save_model

    class HubModel(ModelHubMixin):
        def __init__(self, network: nn.Module, card: ModelCard) -> None:
            self.parts = network, card

        def _save_pretrained(self, save_directory: Path) -> None:
            save_model(save_directory, *self.parts)

        def generate_model_card(self, *args: Any, **kwargs: Any) -> Readme:
            return Readme(readme(self.parts[1]))

        @classmethod
        def _from_pretrained(cls, *, model_id: str, **download: Any) -> HubModel:
            folder = model_id if Path(model_id).is_dir() else snapshot_download(model_id, allow_patterns=FILES, **download)
            return cls(*load_model(folder))

    return HubModel
