"""The proxy's images: every second labelled coronal slice of the hippocampus set, padded to 48², split by subject."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

HIPPOCAMPUS = Path("../shared/data/hippocampus/hippocampus_u8.npz")
CLASSES = ("anterior", "posterior")
_SIDE = 48
_SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


@dataclass(frozen=True)
class Slices:
    """Images ``(N, C, H, W)`` and masks ``(N, K, H, W)``, uint8, and the number of the subject of each ``(N,)``.

    Of the proxy C is 1, K is 2 and the sides are 48. Classes exclude each other.
    """

    images: Tensor
    masks: Tensor
    subjects: Tensor

    @property
    def target(self) -> str:
        """The kind of ``SegmentationLoss``."""
        return "binary" if self.masks.shape[1] == 1 else "multiclass"

    @property
    def out_channels(self) -> int:
        """Of a network: one a class, one more for the background unless there is a single class."""
        return self.masks.shape[1] + (self.target == "multiclass")

    def decided(self, logits: Tensor) -> Tensor:
        """Logits of a network → masks, bool ``(B, K, H, W)``."""
        if self.target == "binary":
            return logits > 0
        return torch.stack([logits.argmax(1) == k for k in range(1, logits.shape[1])], 1)

    def to(self, device: str) -> Slices:
        """Itself there."""
        return Slices(*(t.to(device) for t in (self.images, self.masks, self.subjects)))

    def of(self, subjects: Tensor) -> Slices:
        """Those of some subjects."""
        kept = torch.isin(self.subjects, subjects)
        return Slices(self.images[kept], self.masks[kept], self.subjects[kept])


def load_slices(path: Path = HIPPOCAMPUS) -> Slices:
    """All of them, in the order of subjects and slices."""
    stored = np.load(path)
    volumes = [np.split(stored[name], np.cumsum(stored["shapes"].prod(1))[:-1]) for name in ("images", "labels")]
    images, masks, subjects = [], [], []
    for subject, (image, label, shape) in enumerate(zip(*volumes, stored["shapes"], strict=True)):
        image, label = (flat.reshape(shape).transpose(1, 2, 0) for flat in (image, label))  # slices along the second axis
        for place in np.flatnonzero(label.any((1, 2)))[::2]:
            images.append(_padded(image[place])[None])
            masks.append(np.stack([_padded(label[place] == k) for k in (1, 2)]))
            subjects.append(subject)
    return Slices(torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks)).byte(), torch.tensor(subjects))


def _padded(plane: NDArray) -> NDArray:
    """Zeros around it, as evenly as may be."""
    before = [(_SIDE - n) // 2 for n in plane.shape]
    return np.pad(plane, [(b, _SIDE - n - b) for b, n in zip(before, plane.shape, strict=True)])


def parts(data: Slices, seed: int = 0) -> dict[str, Slices]:
    """Train, validation and test: 60, 20 and 20 % of the subjects, drawn once for all trainings."""
    subjects = torch.unique(data.subjects)
    order = subjects[torch.randperm(len(subjects), generator=torch.Generator().manual_seed(seed))]
    sizes = [round(share * len(order)) for share in _SHARES.values()]
    sizes[-1] = len(order) - sum(sizes[:-1])
    return {name: data.of(chosen) for name, chosen in zip(_SHARES, order.split(sizes), strict=True)}


def subject_dice(prediction: Tensor, masks: Tensor, subjects: Tensor) -> Tensor:
    """Dice a subject and class ``(subjects, K)``, the slices of a subject pooled, from bool ``(N, K, H, W)``.

    Subjects are in the order of their numbers. A mean over slices would count mostly false alarms on slices without the class,
    1 or 0 each.
    """
    prediction, truth = prediction.cpu(), masks.cpu().bool()
    index = torch.unique(subjects.cpu(), return_inverse=True)[1]
    sums = [torch.zeros(int(index.max()) + 1, masks.shape[1], dtype=torch.float64) for _ in range(2)]
    both, either = ((prediction & truth).sum((2, 3)), prediction.sum((2, 3)) + truth.sum((2, 3)))
    for total, counted in zip(sums, (2 * both, either), strict=True):
        total.index_add_(0, index, counted.double())
    return torch.where(sums[1] > 0, sums[0] / sums[1].clamp(min=1), 1.0)
