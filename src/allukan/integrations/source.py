"""What is exported: a trained model with the run that made it, and images to try the result on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from allukan.data import Case, Dataset, phantom, read_case, read_volume, resize_image
from allukan.data.intensities import standardise
from allukan.errors import UserError, shown
from allukan.inference import Run, fuse, open_run
from allukan.inference.inputs import VolumeInput, channels_of, match_files
from allukan.models import ModelCard, is_foreign, load_model

TRIED = 4  # images
Input = TypeVar("Input")


@dataclass(frozen=True)
class Source:
    """A trained model, its card and folder, and the run around it if there is one."""

    folder: Path
    trained: nn.Module
    card: ModelCard
    run: Run | None

    @property
    def network(self) -> nn.Module:
        """The same function in evaluation mode with batch norms folded: what ``allukan predict`` runs."""
        return fuse(self.trained)


def open_source(folder: str | Path, trust: bool = False) -> Source:
    """From ``RUN`` or ``RUN/model``; raises ``UserError`` as ``load_model`` does."""
    folder = Path(folder)
    model = folder / "model" if (folder / "model" / "config.json").is_file() else folder
    trained, card = load_model(model, trust=trust)
    return Source(model, trained, card, _run_around(model))


def _run_around(model: Path) -> Run | None:
    """The run whose model it is: not any folder with a ``config.yaml``, which others write as well, that it was copied to."""
    run = model.absolute().parent
    files = (run / "config.yaml", run / "splits.json", run / "model" / "config.json")
    return open_run(run) if all(file.is_file() for file in files) and model.samefile(run / "model") else None


def check_out(out: Path, folder: bool = False) -> None:
    """``UserError`` where something of that name exists: nothing is overwritten. An empty ``folder`` is as good as none."""
    if out.exists() and not (folder and out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists: choose another --out, nothing is overwritten.")


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to write into, which takes its place at the end, or goes when that fails."""
    check_out(out, folder=True)
    out = out.resolve()  # "." has no name beside which to write
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    part.mkdir()
    try:
        yield part
        _take_place(part, out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _take_place(part: Path, out: Path) -> None:
    """An empty folder that is there is filled: in its place another one would not be the working directory of anybody's shell."""
    if not out.exists():
        os.replace(part, out)
        return
    for path in part.iterdir():
        os.replace(path, out / path.name)
    part.rmdir()


@contextmanager
def followed(card: ModelCard, how: str) -> Iterator[None]:
    """What an exporter or its runtime says, of one of its many kinds of errors, as a ``UserError``; ``how``, as "to ONNX"."""
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        reason = f"{type(error).__name__}: {shown(lines[0])}"
        raise UserError(
            f"{card.model!r} cannot be exported {how} for images of any size ({reason}): use another format."
        ) from error


def needs(packages: Iterable[str], what: str, extra: str) -> None:
    """``UserError`` with what to install unless all of the packages are."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise UserError(f"{what} needs the package {missing[0]}: pip install 'allukan[{extra}]'.")


def batches_to_try(source: Source) -> tuple[list[Tensor], str]:
    """Two batches for ``normalised``, of the size of the training and of another one; and what they are of.

    They are of the run's dataset, of its test part first, or else phantoms; of volumes, one each, or else noise.
    """
    card, another = source.card, another_size(source.card)
    if card.spatial_dims == 3:
        volumes, told = _volumes_to_try(source)
        return [_patch(volumes[0], card.size), _patch(volumes[-1], another)], told
    images, told = images_to_try(source)
    return [at_size(images, card.size), at_size(images[:1], another)], told


def images_to_try(source: Source) -> tuple[list[NDArray[Any]], str]:
    """A few images ``(H, W, C)``, and which they are."""
    keep = not source.card.in_bytes
    cases = _cases(source, TRIED, lambda case, dataset, channels: read_case(case, dataset, channels, keep)[0])
    if cases:
        return cases, f"{len(cases)} images of {_dataset_name(source)}"
    planes = [phantom(max(source.card.size), np.random.default_rng(seed))[0] for seed in range(TRIED)]
    return [np.repeat(plane[..., None], source.card.in_channels, 2) for plane in planes], f"{TRIED} phantoms"


def _volumes_to_try(source: Source) -> tuple[list[Tensor], str]:
    """Two volumes ``(C, D, H, W)`` as the network takes them, or one of noise."""
    card = source.card
    found = _cases(source, 2, lambda case, _, channels: VolumeInput(read_volume(case.images, channels)).of(card))
    if found:
        return found, f"{len(found)} volumes of {_dataset_name(source)}"
    random = torch.Generator().manual_seed(0)
    return [torch.randn(card.in_channels, *another_size(card), generator=random)], "a volume of noise"


def _cases(source: Source, count: int, read: Callable[[Case, Dataset, tuple[int, ...]], Input]) -> list[Input]:
    """Nothing where the dataset is not there any more, or has changed."""
    if source.run is None:
        return []
    try:
        dataset = match_files(source.run.open_data(), source.card)
        splits = source.run.splits
        ids = [*splits.test, *splits.val, *splits.train][:count]
        channels = channels_of(source.card, dataset)
        return [read(case, dataset, channels) for case in dataset.select(tuple(ids))]
    except (UserError, OSError, KeyError):
        return []


def _dataset_name(source: Source) -> str:
    assert source.run is not None
    return Path(source.run.config["data"]).name


def another_size(card: ModelCard) -> tuple[int, ...]:
    """Than that of the training, larger and of another shape; of foreign code one that halves as often, which it may need."""
    if is_foreign(card.model):
        return *card.size[:-1], 2 * card.size[-1]
    if card.spatial_dims == 3:
        depth, height, width = card.size
        return depth + depth // 4 + 1, height, width + width // 8 + 1
    height, width = card.size
    return height + height // 2 + 1, width + width // 3 + 1


def at_size(images: Iterable[NDArray[np.uint8]], size: tuple[int, ...]) -> Tensor:
    """Images ``(H, W, C)`` → ``(B, C, H, W)``, all brought to that size: bytes stay so, other values become float32."""
    kept = (image if image.dtype == np.uint8 else image.astype(np.float32) for image in images)
    return torch.from_numpy(np.stack([resize_image(image, size) for image in kept])).permute(0, 3, 1, 2).contiguous()


def _patch(volume: Tensor, size: tuple[int, ...]) -> Tensor:
    """``(1, C, *size)`` from the middle of a volume, with zeros around one that is smaller."""
    lacking = [wanted - given for wanted, given in zip(size, volume.shape[1:], strict=True)]
    return F.pad(volume, [width for more in reversed(lacking) for width in (more // 2, more - more // 2)])[None]


def normalised(images: Tensor, card: ModelCard) -> Tensor:
    """Bytes ``(B, C, H, W)``, or values of more than 8 bits → what the network expects; patches of volumes are so already."""
    if card.spatial_dims == 3:
        return images
    if not card.in_bytes:
        values = images.double().numpy().copy()
        for image in values:
            standardise(image, card.intensities)
        return torch.from_numpy(values).float()
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (card.mean, card.std))
    return (images.float() / 255 - mean) / std
