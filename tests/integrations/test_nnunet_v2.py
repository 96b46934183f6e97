"""The commands of README's section on nnU-Net, run by nnU-Net v2 itself on a few small volumes of the hippocampus."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from allukan.integrations.nnunet_trainer import TRAINER
from tests.integrations import nnunet_driver
from tests.volume_sets import HIPPOCAMPUS, hippocampus

ROOT = Path(__file__).parents[2]
NNUNET = Path(os.environ.get("NNUNET_PACKAGES", Path(sys.prefix) / "nnunet"))  # where make installs it, apart from all else
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (NNUNET / "nnunetv2").is_dir(), reason=f"needs nnunetv2 in {NNUNET}: see the Makefile"),
    pytest.mark.skipif(not HIPPOCAMPUS.is_file(), reason="needs ../shared/data/hippocampus"),
]
SIDES = (16, 20, 16)  # of the crops: three stages in nnU-Net's plans


def commands():
    """The lines of the README's block, without remarks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"## In nnU-Net\n.*?```sh\n(.*?)```", text, flags=re.DOTALL)
    return [line.partition("#")[0].strip() for line in block.splitlines() if line.partition("#")[0].strip()]


def on_a_cpu(line, place):
    """A line for every configuration that it may name, with what makes it quick."""
    line = line.replace("IMAGES", f"{place}/images").replace("MASKS", f"{place}/masks")
    plans = place / "preprocessed/Dataset004_Hippocampus/nnUNetPlans.json"
    if line.startswith("nnUNetv2_plan"):
        return [f"{line} -np 1 1 -npfp 1 --no_pbar", f"narrow {plans}"]
    if line.startswith("nnUNetv2_train"):
        return [f"{line.replace('3d_fullres', c)} -device cpu" for c in ("2d", "3d_fullres")]
    if line.startswith("nnUNetv2_predict"):
        quick = "-device cpu --disable_tta -npp 0 -nps 0 --disable_progress_bar"
        return [f"{line.replace('3d_fullres', c)}/{c} {quick}" for c in ("2d", "3d_fullres")]  # the output is last
    return [line]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders as nnU-Net has them, with five crops of volumes."""
    root = tmp_path_factory.mktemp("nnunet")
    data = hippocampus(root / "raw/Dataset004_Hippocampus", 5)
    for path in [*data.glob("imagesTr/*.nii.gz"), *data.glob("labelsTr/*.nii.gz")]:
        array = np.asarray(nibabel.load(path).dataobj)
        corner = [(n - side) // 2 for n, side in zip(array.shape, SIDES, strict=True)]
        crop = array[tuple(slice(c, c + side) for c, side in zip(corner, SIDES, strict=True))]
        name = path.name if path.parent.name == "labelsTr" else path.name.replace(".nii", "_0000.nii")
        path.unlink()
        nibabel.save(nibabel.Nifti1Image(crop, np.eye(4)), path.with_name(name))
    labels = {"background": 0, "Anterior": 1, "Posterior": 2}
    described = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": 5, "file_ending": ".nii.gz"}
    (data / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    (root / "images").mkdir()
    first = min(data.glob("imagesTr/*"))
    (root / "images" / first.name).write_bytes(first.read_bytes())
    for name in ("preprocessed", "results"):
        (root / name).mkdir()
    return root


def of_the_docs(place):
    """What docs/nnunet.md adds: a trained U-Net of nnU-Net goes on as KA layers, with our trainer."""
    trained = place / "results/Dataset004_Hippocampus/nnUNetTrainer__nnUNetPlans__2d/fold_0/checkpoint_final.pth"
    return [
        "nnUNetv2_train 4 2d 0 -device cpu",
        f"allukan nnunet weights {trained} {place}/start.pth",
        f"allukan nnunet trainer {place}/trainer --epochs 1 --iterations 2",
        f"find_trainer {place}/trainer {TRAINER}",
        f"nnUNetv2_train 4 2d 0 -p nnUNetConvertedPlans -tr {TRAINER} -pretrained_weights {place}/start.pth -device cpu",
    ]


def nnunet(place, lines):
    """Run the lines in one process of nnU-Net."""
    folders = {f"nnUNet_{name}": str(place / name) for name in ("raw", "preprocessed", "results")}
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), *filter(None, sys.path), str(NNUNET)])
    quick = {"nnUNet_def_n_proc": "1", "nnUNet_compile": "f", "OMP_NUM_THREADS": "1"}
    environment = os.environ | folders | quick | {"PYTHONPATH": path}
    driver = [sys.executable, nnunet_driver.__file__]
    done = subprocess.run(driver, input="\n".join(lines), env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def test_the_readmes_commands_plan_train_and_predict(place):
    lines = [line for command in commands() for line in on_a_cpu(command, place)]
    told = nnunet(place, [*lines, *of_the_docs(place)])
    counts = {"nnUNetv2_plan_and_preprocess": 1, "allukan": 4, "nnUNetv2_train": 6, "nnUNetv2_predict": 4}
    assert {command: told.count(f"$ {command} ") for command in counts} == counts
    data = {path.parent.name for path in (place / "preprocessed").rglob("*.b2nd")}
    assert data == {"nnUNetPlans_2d", "nnUNetPlans_3d_fullres"}  # one set of data for all plans
    assert list((place / "results").glob(f"*/{TRAINER}__nnUNetConvertedPlans__2d/fold_0/checkpoint_final.pth"))
    for configuration in ("2d", "3d_fullres"):
        for plans in ("nnUNetAllUKANPlans", "nnUNetConvertedPlans"):
            (trained,) = (place / "results").glob(f"*/nnUNetTrainer__{plans}__{configuration}/fold_0/checkpoint_final.pth")
            assert (trained.parent / "validation/summary.json").is_file()
        for network in ("allukan", "converted"):
            (mask,) = (place / "masks" / network / configuration).glob("*.nii.gz")
            values = np.asarray(nibabel.load(mask).dataobj)
            assert values.shape == SIDES
            assert {*np.unique(values)} <= {0, 1, 2}
