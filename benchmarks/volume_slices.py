"""Networks on slices, for comparison with those on volumes: the same cases, split, intensities and budget, the same score.

Every axial slice is a picture of 16 bits, in the middle of a canvas that all fit into, so that nothing is resized; its values are
those of the volume with mean 0 and deviation 1, as a network on volumes is given them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from allukan.data import Case, Dataset, Splits, as_input, file_channels, open_dataset, plan_splits, read_volume_case, write_image
from allukan.data.volumes import CANONICAL
from allukan.files import write_json, write_table
from allukan.inference import Predictor
from allukan.models import to_masks
from allukan.scores import case_metrics
from allukan.training import TrainConfig, go_on
from allukan.training.planned import planned

MIDDLE, STEP = 32_768, 1_000  # the mean and one deviation, in 16 bits
SIDE = 32  # that a canvas is a multiple of
BATCH = 64  # slices that are predicted at once
INTENSITIES = ((0.0, 65_535.0, float(MIDDLE), float(STEP)),)


def finish_slices(data: Path, config: TrainConfig) -> None:
    """Train on the slices of the volumes in ``data`` and score the volumes of the test part, unless that is done."""
    run, volumes = Path(config.out), open_dataset(data)
    if (run / "evaluation" / "cases.csv").is_file():
        return
    of_volumes = plan_splits(volumes, "clean", config.seed).splits
    root = write_slices(volumes, Path(config.data))
    if not (run / "splits.json").is_file():
        _begin(config, open_dataset(root), of_volumes)
    go_on(config)
    predictor = Predictor(run / "model", config.accelerator)
    rows = [row for case in volumes.select(of_volumes.test) for row in score(predictor, case, volumes)]
    (run / "evaluation").mkdir(exist_ok=True)
    write_table(run / "evaluation" / "cases.csv", rows)


def _begin(config: TrainConfig, slices: Dataset, of_volumes: Splits) -> None:
    """Plan, with every slice in the part of its volume: near-duplicates are not looked for, as all slices of a volume are."""
    names = map(set, (of_volumes.train, of_volumes.val, of_volumes.test))
    train, val, test = (tuple(name for name in slices.ids if name.rpartition("_")[0] in of) for of in names)
    splits = replace(of_volumes, train=train, val=val, test=test, origin="that of the volumes")
    taken, _ = planned(replace(config, intensities=INTENSITIES), slices, splits, file_channels(slices), config.accelerator)
    run = Path(config.out)
    run.mkdir(parents=True)
    taken.save(run / "config.yaml")
    splits.save(run / "splits.json")


def write_slices(volumes: Dataset, root: Path) -> Path:
    """``images/CASE_012.png`` and the label maps ``masks/CASE_012.png``; what was written before stays."""
    if (root / "dataset.json").is_file():
        return root
    found = {case.id: canvas_of(case, volumes) for case in volumes.cases}
    sides = tuple(-(-max(values.shape[axis] for values, _ in found.values()) // SIDE) * SIDE for axis in (1, 2))
    for name, (values, labels) in found.items():
        for number, (plane, mask) in enumerate(zip(centred(values, sides), centred(labels, sides), strict=True)):
            write_image(root / f"images/{name}_{number:03d}.png", plane)
            write_image(root / f"masks/{name}_{number:03d}.png", mask)
    write_json(root / "dataset.json", {"labels": {"background": 0} | {name: n for n, name in enumerate(volumes.classes, 1)}})
    return root


def canvas_of(case: Case, volumes: Dataset) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Values and numbers of the classes ``(D, H, W)`` of a volume, its slices from the feet upwards."""
    image, masks = read_volume_case(case, volumes, file_channels(volumes))
    turned = image.geometry.axes_to(CANONICAL[3]).apply(masks == 1)
    labels = np.zeros(turned.shape[1:], np.uint8)
    for number, mask in enumerate(turned, 1):
        labels[mask] = number
    values = np.rint(as_input(image).array[0] * STEP + MIDDLE)
    return np.clip(values, 0, 65_535).astype(np.uint16), labels


def centred(planes: NDArray, sides: tuple[int, ...]) -> NDArray:
    """``(D, H, W)`` → ``(D, *sides)``, its lowest value around it."""
    before = [(side - size) // 2 for side, size in zip(sides, planes.shape[1:], strict=True)]
    after = [side - size - start for side, size, start in zip(sides, planes.shape[1:], before, strict=True)]
    return np.pad(planes, [(0, 0), *zip(before, after, strict=True)], constant_values=planes.min())


def score(predictor: Predictor, case: Case, volumes: Dataset) -> list[dict[str, object]]:
    """Dice of every class of one volume, whose slices are predicted by themselves."""
    values, labels = canvas_of(case, volumes)
    card, shape = predictor.card, values.shape[1:]
    planes = (centred(values, card.size).astype(np.float32) - MIDDLE) / STEP
    found = torch.cat([predictor.probabilities(part) for part in torch.from_numpy(planes)[:, None].split(BATCH)])
    top, left = ((side - size) // 2 for side, size in zip(card.size, shape, strict=True))
    masks = to_masks(found, card.target, card.threshold)[..., top : top + shape[0], left : left + shape[1]].cpu().numpy()
    truth = np.stack([labels == number for number in range(1, len(card.classes) + 1)])
    scores = case_metrics(masks.swapaxes(0, 1), truth, None)
    return [{"id": case.id, "class": name, "dice": one["dice"]} for name, one in zip(card.classes, scores, strict=True)]
