"""Sets of volumes as NIfTI in the layout of the Decathlon, written with nibabel: made up, or of the hippocampus."""

import json
from pathlib import Path

import nibabel
import numpy as np

HIPPOCAMPUS = Path(__file__).parents[2] / "shared/data/hippocampus/hippocampus_u8.npz"  # beside the checkout, where it is there


def blob(random, shape=(24, 28, 20)):
    """A noisy volume (float32) with a bright body (1) and a dark one (2) in its two halves, and their label map."""
    places = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    labels = np.zeros(shape, np.uint8)
    for label, middle in ((1, 0.3), (2, 0.7)):
        centre = np.array([middle, 0.5, 0.5]) * shape + random.uniform(-1.5, 1.5, 3)
        labels[np.linalg.norm((places - centre) / random.uniform(3.5, 5, 3), axis=-1) < 1] = label
    values = np.array([0.0, 2.0, -2.0], np.float32)[labels] + random.normal(0, 0.3, shape)
    return (100 + 20 * values).astype(np.float32), labels


def save(path, array, affine=None):
    """As NIfTI; axes of the array are those of nibabel, x, y, z."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def decathlon(root, cases, names=("one", "two"), affine=None):
    """``cases`` by name: image and labels; a ``dataset.json`` with relative paths as the Decathlon has them."""
    entries = []
    for name, (image, labels) in cases.items():
        save(root / f"imagesTr/{name}.nii.gz", image, affine)
        save(root / f"labelsTr/{name}.nii.gz", labels, affine)
        entries.append({"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"})
    description = {"modality": {"0": "MRI"}, "labels": {"0": "background"}, "training": entries, "test": []}
    description["labels"] |= {str(value): name for value, name in enumerate(names, 1)}
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def blobs(root, count=6, shape=(24, 28, 20), affine=None, seed=0):
    """A set of ``blob``."""
    random = np.random.default_rng(seed)
    return decathlon(root, {f"b{i:02d}": blob(random, shape) for i in range(count)}, affine=affine)


def hippocampus(root, count):
    """The first volumes of the hippocampus set."""
    held = np.load(HIPPOCAMPUS)
    ends = np.cumsum(held["shapes"].prod(1))
    cases = {}
    for name, shape, end in list(zip(held["ids"], held["shapes"], ends, strict=True))[:count]:
        place = slice(end - shape.prod(), end)
        cases[str(name)] = held["images"][place].reshape(shape), held["labels"][place].reshape(shape)
    return decathlon(root, cases, ("Anterior", "Posterior"))
