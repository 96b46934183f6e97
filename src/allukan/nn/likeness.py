"""How unlike the images that a network was validated on another image is, by what its activations meet.

Of every layer the inputs of φ have a distribution over one image and one over all images of a reference set. Their distance is
Kolmogorov's and Smirnov's, the largest difference of the two cumulative distributions, 0 to 1. How large it usually is the images
of the set say, each against the others. The *score* of an image is the largest over layers of

    (distance - mean) / standard deviation    over the images of the set

and a warning is due where it is above a quantile of the scores of the images of the set, each by mean and deviation of the
others: with its own distance among them they would be too low, and with 12 images four in ten like them be warned of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from allukan.nn.histogram import collect_inputs

SHARE = 0.05  # of images like those of the set, a warning is allowed to
_LEAST = 0.002  # spread of a distance, below which rounding would be a reason to warn


@dataclass(frozen=True)
class Likeness:
    """A reference set, as the layers of one network see it.

    Attributes:
        cumulative: by name of layer the cumulative shares of the bins of its histogram, float32 ``(R, N + 2)``, for R runs.
        distances: of n images of the set in L layers, each from the others, float32 ``(n, L)``.
    """

    cumulative: Mapping[str, Tensor]
    distances: Tensor

    def score(self, network: nn.Module, image: Tensor) -> float:
        """Of one image ``(1, C, *S)`` that the network takes, of the size of those of the set; costs an evaluation of it."""
        met = _met(network, image)
        distances = torch.stack([_distance(_cumulative(met[name]), here) for name, here in self.cumulative.items()])
        return float(_scores(distances.unsqueeze(0), self.distances))

    def scores(self) -> Tensor:
        """Of the images of the set, ``(n,)``, each by the others."""
        count = len(self.distances)
        others = [torch.arange(count) != i for i in range(count)]
        return torch.cat([_scores(self.distances[i : i + 1], self.distances[kept]) for i, kept in enumerate(others)])

    def threshold(self, share: float = SHARE) -> float:
        """Above which an image is unlike the set: at most ``share`` of further images like it are, in the mean over such sets.

        The ⌈(n + 1)(1 - share)⌉-th smallest score of n (split conformal prediction, arXiv 2107.07511); of less than 1/share - 1
        images the largest.
        """
        scores = self.scores().sort().values
        return float(scores[min(len(scores), math.ceil((len(scores) + 1) * (1 - share))) - 1])


def calibrate(network: nn.Module, images: Sequence[Tensor]) -> Likeness:
    """From images ``(1, C, *S)`` that the network takes, two or more: one evaluation of it each, and then arithmetic.

    Raises ``ValueError`` for fewer, and for a network without learned activations.

    >>> from allukan.nn import KAConv2d
    >>> network, images = KAConv2d(1, 4, 3), torch.randn(50, 1, 1, 16, 16)
    >>> found = calibrate(network, list(images[:40]))
    >>> found.score(network, 3 * images[40]) > found.threshold() > 0
    True
    """
    if len(images) < 2:
        raise ValueError(f"two images or more are needed, got {len(images)}")
    met = [_met(network, image) for image in images]
    if not met[0]:
        raise ValueError("the network has no learned activations")
    cumulative, distances = {}, []
    for name in met[0]:
        counts = torch.stack([found[name] for found in met])  # (n, R, N + 2)
        total = counts.sum(0, dtype=torch.int64)
        distances.append(torch.stack([_distance(_cumulative(own), _cumulative(total - own)) for own in counts]))
        cumulative[name] = _cumulative(total)
    return Likeness(cumulative, torch.stack(distances, dim=1))


def _scores(distances: Tensor, reference: Tensor) -> Tensor:
    """``(n, L)`` by ``(m, L)`` → ``(n,)``; a reference of one has no spread of its own."""
    spread = reference.std(0, correction=min(1, len(reference) - 1)).clamp(min=_LEAST)
    return ((distances - reference.mean(0)) / spread).amax(1)


def _met(network: nn.Module, image: Tensor) -> dict[str, Tensor]:
    found = collect_inputs(network, [image])
    return {name: histogram.coarser().counts.to("cpu", torch.int32) for name, histogram in found.items()}


def _cumulative(counts: Tensor) -> Tensor:
    shares = counts.double().cumsum(-1)
    return (shares / shares[..., -1:].clamp(min=1)).float()  # of nothing but NaN zeros, which are far from all else


def _distance(here: Tensor, there: Tensor) -> Tensor:
    """Mean over runs of channels that have activations of their own."""
    return (here - there).abs().amax(-1).mean()
