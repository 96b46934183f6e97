"""What the configurations of a MONAI bundle name: the steps of ``allukan predict`` and ``allukan evaluate``, one by one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.transforms import Transform
from torch import Tensor, nn

from allukan.data import Dataset, LabelRules, open_dataset, write_image
from allukan.data.volumes import Image
from allukan.errors import UserError
from allukan.files import as_path
from allukan.inference import find_images, fuse, match_classes
from allukan.inference.evaluation import read_truth
from allukan.inference.inputs import VolumeInput, match_files, network_input, read_input, read_volume_input
from allukan.inference.results import mask_files
from allukan.integrations.source import normalised
from allukan.models import ModelCard, probabilities, to_masks
from allukan.models.layers import resize

Item = Mapping[str, Any]


def images(dataset_dir: str, card: ModelCard) -> list[dict[str, Any]]:
    """The images of a folder, their files grouped as in the training; ``UserError`` for one that does not fit the model."""
    found = find_images([dataset_dir], card)
    for image in found:
        if image.fault:
            raise UserError(image.fault)
    return [{"image": [str(file) for file in image.files], "name": image.name.as_posix()} for image in found]


def dataset(dataset_dir: str, card: ModelCard, rules: LabelRules) -> Dataset:
    """A dataset whose labels are read by the rules of the training."""
    return match_files(open_dataset(dataset_dir, rules, learn=False), card)


class ReadImage(Transform):
    """Files under "image" → what the network expects; the name of the image is in ``meta``.

    Of a picture ``(C, *size)``, and ``meta`` has its shape; of a volume ``(C, D, H, W)`` with voxels as in the training, and
    ``meta`` has under "grid" the file in whose geometry its masks are wanted.
    """

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    def __call__(self, data: Item) -> dict[str, Any]:
        """One file, or a list of the files of an image."""
        files = data["image"] if isinstance(data["image"], list) else [data["image"]]
        name = data.get("name", Path(files[0]).stem)
        read = read_volume_input if self.card.spatial_dims == 3 else read_input
        return {**data, "image": _prepared(read(list(files), self.card), name, files[0], self.card)}


class ReadCase(Transform):
    """The id of a case under "image" → its image, as ``ReadImage`` gives it, its masks ``(K, *S)`` under "label", and under
    "counts" ``(1, *S)`` where no label is ignored."""

    def __init__(self, dataset: Dataset, card: ModelCard) -> None:
        self.card, self.dataset, self.match = card, dataset, match_classes(dataset, card)

    def __call__(self, data: Item) -> dict[str, Any]:
        """One case."""
        (case,) = self.dataset.select((data["image"],))
        truth = read_truth(case, self.dataset, self.match, self.card)
        label, counts = torch.from_numpy(truth.masks).float(), torch.from_numpy(truth.counts)
        return {**data, "image": _prepared(truth.image, case.id, case.images[0], self.card), "label": label, "counts": counts}


def _prepared(image: Any, name: str, file: str | Path, card: ModelCard) -> Tensor:
    if isinstance(image, Image):  # whose geometry is read again, as batches are collated of tensors and texts alone
        return MetaTensor(VolumeInput(image).of(card), meta={"name": name, "grid": str(file), "filename_or_obj": name})
    scaled = network_input([image], card, card.size)
    scaled = (normalised(scaled, card) if card.in_bytes else scaled)[0]
    return MetaTensor(scaled, meta={"name": name, "shape": image.shape[:2], "filename_or_obj": name})


class FusedInferer(Inferer):
    """The network with its batch norms folded, as prediction runs it; its weights may not change after the first call."""

    def __init__(self) -> None:
        self._given: nn.Module | None = None

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Tensor:
        """``(B, C, *S)`` → logits ``(B, K', *S)``."""
        return self.fused(network)(plain(inputs), *args, **kwargs)  # type: ignore[no-any-return]

    def fused(self, network: nn.Module) -> nn.Module:
        """Made once, of the network of the first call."""
        if network is not self._given:
            self._given, self._fused = network, fuse(network)
        return self._fused


def plain(tensor: Tensor) -> Tensor:
    """Without MONAI's metadata."""
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor


class ToMasks(Transform):
    """Logits under "pred" → masks ``(K, H, W)`` of 0 and 1 in the geometry of the image."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    def __call__(self, data: Item) -> dict[str, Any]:
        """Raises ``UserError`` for logits that are not finite."""
        meta = data["image"].meta
        found = finite_probabilities(torch.as_tensor(data["pred"]), meta["name"], self.card)
        masks = to_masks(resize(found, tuple(map(int, meta["shape"]))), self.card.target, self.card.threshold)[0]
        return {**data, "pred": MetaTensor(counted(masks, data).float(), meta=meta)}


def counted(masks: Tensor, data: Item) -> Tensor:
    """Of a case with masks, what is found where its labels count; on the device of these, for MONAI compares the two there."""
    if "counts" not in data:
        return masks
    device = data["label"].device
    return masks.to(device) & plain(data["counts"]).to(device)


def finite_probabilities(logits: Tensor, name: str, card: ModelCard) -> Tensor:
    """Logits ``(K', *S)`` of an image → probabilities ``(1, K', *S)``; ``UserError`` for numbers that are not finite."""
    found = probabilities(logits.unsqueeze(0), card.target)
    if not found.isfinite().all():
        raise UserError(f"the model answers {name} with numbers that are not finite: train it again.")
    return found


class SaveMasks(Transform):
    """Writes the masks under "pred" as ``allukan predict`` does: ``output_dir/masks/NAME.png``.

    Raises ``UserError`` at the first image where there are masks already: those of a dataset may be the work of weeks.
    """

    def __init__(self, output_dir: str, card: ModelCard) -> None:
        self.folder, self.card, self._free = Path(output_dir) / "masks", card, False

    def check(self) -> None:
        """Before anything is written."""
        if not self._free and self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise UserError(f"{self.folder} is not empty: choose another output_dir, nothing is overwritten.")
        self._free = True

    def __call__(self, data: Item) -> Item:
        """Returns what it is given."""
        self.check()
        masks = torch.as_tensor(data["pred"]).bool().cpu().numpy()
        for file, array in mask_files(masks, self.card, Path(data["image"].meta["name"])):
            write_image(self.folder / as_path(file), array)
        return data
