"""The models of the page, by the names that visitors choose them by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from allukan.errors import UserError
from allukan.inference import LikenessCheck, Predictor, Segmenter, open_segmenter


def open_checks(folders: Sequence[Path], models: Mapping[str, Segmenter]) -> dict[str, LikenessCheck]:
    """How like those of the training an image is, by the models of ``open_models`` whose folders keep that."""
    found = {name: LikenessCheck.of(model, folder) for (name, model), folder in zip(models.items(), folders, strict=True)}
    return {name: check for name, check in found.items() if check is not None}


def open_models(folders: Sequence[Path], predictor: Callable[[Path], Predictor]) -> dict[str, Segmenter]:
    """Every ``RUN``, ``RUN/model`` or training in folds by the name of its run; by its path where two have the same name.

    Raises ``UserError`` as ``open_segmenter``, for a folder that comes twice, and for models of pictures beside some of volumes.
    """
    runs = [folder.parent if folder.resolve().name == "model" else folder for folder in folders]
    names = [run.resolve().name for run in runs]
    unique = names if len(set(names)) == len(names) else [str(run) for run in runs]
    if len(set(unique)) < len(unique):
        raise UserError(f"{max(unique, key=unique.count)} is named twice: name every model once.")
    models = {name: open_segmenter(folder, predictor) for name, folder in zip(unique, folders, strict=True)}
    if len({model.card.spatial_dims for model in models.values()}) > 1:
        raise UserError("some of the models are of pictures and some of volumes: open a page for each kind.")
    return models
