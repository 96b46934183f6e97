"""``allukan export --format monai-bundle``: a folder that ``python -m monai.bundle``, MONAI Label and MONAI Deploy know."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import monai
import numpy
import torch

from allukan._version import __version__
from allukan.data import LabelRules
from allukan.errors import UserError, shown
from allukan.files import write_json, write_text
from allukan.integrations.about import about
from allukan.integrations.bundle_schema import SCHEMA, SCHEMA_URL
from allukan.integrations.source import Source, batches_to_try, normalised, whole_folder
from allukan.models import ModelCard, is_foreign

_PARTS = "allukan.integrations.bundle_parts."
_VOLUMES = "allukan.integrations.bundle_volumes."
_STEPS: dict[int, dict[str, dict[str, Any]]] = {  # after the reading, by the dimensions of the images
    2: {
        "inferer": {"_target_": _PARTS + "FusedInferer"},
        "to_masks": {"_target_": _PARTS + "ToMasks", "card": "@card"},
        "save": {"_target_": _PARTS + "SaveMasks", "output_dir": "@output_dir", "card": "@card"},
    },
    3: {
        "inferer": {"_target_": _VOLUMES + "WindowInferer", "card": "@card"},
        "to_masks": {"_target_": _VOLUMES + "ToVolumeMasks", "card": "@card"},
        "save": {"_target_": _VOLUMES + "SaveVolumeMasks", "output_dir": "@output_dir", "card": "@card"},
    },
}
_PACKAGES = {"pytorch-ignite": "0.5.2", "fire": "0.7.1", "jsonschema": "4.26.0"}  # that monai.bundle needs, as tested
_OF_MONAI = re.compile(r"^[$@%]|^_\w+_$|#|[@%]::")  # expressions, references, keys as _target_, parts of an id
_METRIC = "val_mean_dice"
_LOADER = {
    "_target_": "CheckpointLoader",
    "load_path": "@ckpt_path",
    "load_dict": {"model": "@network"},
    "map_location": "@device",
}
_EVALUATOR = {
    "_target_": "SupervisedEvaluator",
    "device": "@device",
    "val_data_loader": "@dataloader",
    "network": "@network",
    "inferer": "@inferer",
    "postprocessing": "@postprocessing",
    "val_handlers": "@handlers",
}
_LICENSE = """The configurations in this folder and the code of allukan that they name: Apache License 2.0,
https://www.apache.org/licenses/LICENSE-2.0

The weights in models/: as whoever trained them, and whoever owns the images, allows. State it here before you share them.
"""


def export_bundle(source: Source, out: Path) -> Path:
    """Write the bundle into the folder ``out`` and return it.

    The state dictionary is loaded again and must compute the same, bit for bit, before the folder gets its name. Raises
    ``UserError`` for a folder in use, and for a card that a configuration of MONAI cannot hold.
    """
    card = source.card
    _check_texts(asdict(card))
    with whole_folder(out) as part:
        for name in ("configs", "models", "docs"):
            (part / name).mkdir()
        torch.save(source.trained.state_dict(), part / "models" / "model.pt")
        write_json(part / "configs" / "metadata.json", metadata(card), indent=4)
        write_json(part / "configs" / "metadata.schema.json", SCHEMA, indent=4)
        write_json(part / "configs" / "inference.json", inference(card), indent=4)
        write_json(part / "configs" / "evaluate.json", evaluation(source), indent=4)
        write_text(part / "LICENSE", _LICENSE)
        write_text(part / "docs" / "README.md", _readme(source))
        _check(part, source)
    return out


def _check_texts(value: Any) -> None:
    """``UserError`` for a text, as the name of a class, that MONAI would run as code, or read as the name of something else."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        for one in value:
            _check_texts(one)
    elif isinstance(value, str) and _OF_MONAI.search(value):
        raise UserError(
            f"{shown(value)} means something of its own in a configuration of MONAI, which has signs $, @, % and #: write it "
            "otherwise in the config.json of the model, or choose another format."
        )


def metadata(card: ModelCard) -> dict[str, Any]:
    """What the schema asks for, and what MONAI Label looks up: the classes by their channels."""
    background = ["background"] * (card.target != "multilabel")
    volumes = card.spatial_dims == 3  # of which the network sees a patch at a time
    kind = "volumes" if volumes else "images"
    tensor = {"type": "image", "spatial_shape": list(card.size), "dtype": "float32", "is_patch_data": volumes}
    channels = {str(number): file for number, file in enumerate(_channels(card))}
    classes = {str(number): name for number, name in enumerate([*background, *card.classes])}
    of_image = {"format": "magnitude", "num_channels": card.in_channels, "value_range": [], "channel_def": channels}
    of_pred = {"format": "segmentation", "num_channels": card.out_channels, "value_range": [], "channel_def": classes}
    return {
        "schema": SCHEMA_URL,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by allukan {__version__}"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": numpy.__version__,
        "required_packages_version": {"allukan": __version__, **_PACKAGES},
        "supported_apps": {"monai-label": ""},
        "name": card.model,
        "task": f"Segmentation of {', '.join(card.classes)}",
        "description": f"A {card.model} network (Kolmogorov-Arnold layers) for {card.target} masks of {kind}.",
        "authors": "not stated",
        "copyright": "not stated",
        "intended_use": "Research on images like those of the training. Not a medical device.",
        "references": ["https://arxiv.org/abs/2602.03156"],
        "network_data_format": {"inputs": {"image": tensor | of_image}, "outputs": {"pred": tensor | of_pred}},
    }


def _channels(card: ModelCard) -> list[str]:
    return [file.name or file.pattern or "image" for file in card.image_files for _ in range(file.channels)]


def inference(card: ModelCard) -> dict[str, Any]:
    """``configs/inference.json``: what ``allukan predict`` does to a folder of images."""
    steps = _STEPS[card.spatial_dims]
    return {
        **_common(card),
        "output_dir": "$@bundle_root + '/predictions'",
        "data": {"_target_": _PARTS + "images", "dataset_dir": "@dataset_dir", "card": "@card"},
        "preprocessing": _compose({"_target_": _PARTS + "ReadImage", "card": "@card"}),
        "postprocessing": _compose(steps["to_masks"], steps["save"]),
        "handlers": [_LOADER],
        "evaluator": _EVALUATOR,
    }


def evaluation(source: Source) -> dict[str, Any]:
    """``configs/evaluate.json``: the mean Dice on a dataset with masks, in any layout that ``allukan train`` takes."""
    rules = source.run.label_rules if source.run else LabelRules()
    saver = {"_target_": "MetricsSaver", "save_dir": "@output_dir", "metrics": [_METRIC], "metric_details": [_METRIC]}
    return {
        **_common(source.card),
        "output_dir": "$@bundle_root + '/evaluation'",
        "rules": {"_target_": "allukan.data.LabelRules", **asdict(rules)},
        "labelled": {"_target_": _PARTS + "dataset", "dataset_dir": "@dataset_dir", "card": "@card", "rules": "@rules"},
        "data": "$[{'image': case.id} for case in @labelled.cases]",
        "preprocessing": _compose({"_target_": _PARTS + "ReadCase", "dataset": "@labelled", "card": "@card"}),
        "postprocessing": _compose(_STEPS[source.card.spatial_dims]["to_masks"]),
        "key_metric": {_METRIC: {"_target_": "MeanDice", "output_transform": "$monai.handlers.from_engine(['pred', 'label'])"}},
        "handlers": [_LOADER, saver],
        "evaluator": {**_EVALUATOR, "key_val_metric": "@key_metric"},
    }


def _common(card: ModelCard) -> dict[str, Any]:
    """What both configurations begin with; the names are those that MONAI Label expects."""
    return {
        "imports": ["$import torch", "$import monai"],
        "bundle_root": ".",
        "image_key": "image",
        "dataset_dir": "$@bundle_root + '/images'",
        "ckpt_path": "$@bundle_root + '/models/model.pt'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "card": {"_target_": "allukan.models.ModelCard", **asdict(card)},
        "network_def": "$@card.build()",
        "network": "$@network_def.to(@device)",
        "dataset": {"_target_": "Dataset", "data": "@data", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "shuffle": False, "num_workers": 0},
        "inferer": _STEPS[card.spatial_dims]["inferer"],
        "run": ["$@evaluator.run()"],
    }


def _compose(*transforms: dict[str, Any]) -> dict[str, Any]:
    return {"_target_": "Compose", "transforms": list(transforms)}


def _readme(source: Source) -> str:
    return f"""# {source.card.model}: {", ".join(source.card.classes)}

{about(source.run)}## How to run it

In this folder, with `pip install 'allukan[bundle]'`{_code(source.card)}:

```sh
python -m monai.bundle run --config_file configs/inference.json --dataset_dir IMAGES --output_dir PREDICTIONS
python -m monai.bundle run --config_file configs/evaluate.json --dataset_dir DATASET --output_dir SCORES
python -m monai.bundle verify_metadata --meta_file configs/metadata.json --filepath configs/metadata.schema.json
```

The first writes the masks of `allukan predict`, bit for bit on the same machine; the last needs no network.
"""


def _code(card: ModelCard) -> str:
    return f" and the code `{card.model}`, which is imported and is not in here" if is_foreign(card.model) else ""


def _check(folder: Path, source: Source) -> None:
    """As the bundle will: the state dictionary into a network that the card builds."""
    network = source.card.build().eval()
    network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    x = normalised(batches_to_try(source)[0][0][:1], source.card)
    with torch.inference_mode():
        if not torch.equal(network(x), source.trained(x)):
            raise UserError("the bundle computes something else than the model: it is not written.")
