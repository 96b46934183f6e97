"""What one training step computes."""

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from allukan.data import write_phantoms
from allukan.models import ModelCard
from allukan.options import DICE_LOSSES
from allukan.training import SegmentationModule, TrainConfig, train
from allukan.training.losses import SegmentationLoss

SUPERVISED = {"topology": {"deep_supervision": True, "depth": 1, "token_depth": 1}}


def module(model, dice, **options):
    options = {**SUPERVISED, **options}
    card = ModelCard(model, 1, ("a", "b"), "multiclass", (64, 64), (0.5,), (0.2,), options=options)
    torch.manual_seed(0)
    return SegmentationModule(card.build(), card, TrainConfig("d", "o", model=model, dice=dice, lr=1e-2, options=options))


def batch():
    """Squares of either class on noise; the second image has no second class."""
    torch.manual_seed(1)
    masks = torch.zeros(3, 2, 64, 64, dtype=torch.uint8)
    for i in range(3):
        masks[i, 0, 8 * i : 8 * i + 20, 10:30] = 1
        masks[i, 1, 40:60, 8 * i : 8 * i + 20] = i != 1
    images = 60 * masks[:, :1] + 120 * masks[:, 1:] + torch.randint(0, 60, (3, 1, 64, 64))
    return images.to(torch.uint8), masks


@pytest.mark.parametrize("dice", DICE_LOSSES)
@pytest.mark.parametrize(("model", "options"), [("allukan-tiny", {}), ("convtwin-tiny", {"activation": "prelu-channel"})])
def test_deep_supervision_of_units_is_the_weighted_mean_over_the_levels(model, options, dice):
    found, (images, masks) = module(model, dice, **options), batch()
    loss = found._supervised(images, masks)
    loss.backward()
    assert not [name for name, p in found.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert all(any(p.grad.any() for p in head.parameters()) for head in (found.network.head, *found.network.heads))
    levels = found.network.levels((images / 255 - 0.5) / 0.2)
    of = SegmentationLoss("multiclass", dice)
    losses = [of(F.interpolate(y, size=(64, 64), mode="bilinear", align_corners=False), masks) for y in levels]
    assert len(losses) == 5
    weights = [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16]
    wanted = sum(w * x for w, x in zip(weights, losses, strict=True)) / sum(weights)
    torch.testing.assert_close(loss.detach(), wanted.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dice", DICE_LOSSES)
def test_units_with_deep_supervision_learn_one_batch_by_every_dice(dice):
    found, (images, masks) = module("allukan-tiny", dice), batch()
    found.trainer = pl.Trainer(accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_checkpointing=False)
    optimizer, losses = found.configure_optimizers()["optimizer"], []
    for _ in range(15):
        loss = found._supervised(images, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("given", ["evaluation mode", "converted", "--init"])
def test_norms_train_in_whatever_mode_the_network_came(tmp_path, given):
    """Lightning keeps each module's mode: one in evaluation mode would train with frozen statistics."""
    write_phantoms(tmp_path / "data", count=10, size=32, seed=1)
    (tmp_path / "mode_nets.py").write_text(
        "from torch import nn\n\n\ndef small(in_channels, out_channels, spatial_dims):\n"
        "    layers = nn.Conv2d(in_channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, out_channels, 1)\n"
        "    return nn.Sequential(*layers).eval()\n"
    )
    options = {"convert": True} if given == "converted" else {}
    how = {"model": "mode_nets:small", "size": 32, "epochs": 1, "accelerator": "cpu", "devices": "1", "options": options}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        run = train(TrainConfig(str(tmp_path / "data"), str(tmp_path / "run"), **how))
        before = 0
        if given == "--init":
            before = load_file(run / "model" / "model.safetensors")["1.num_batches_tracked"]
            run = train(TrainConfig(str(tmp_path / "data"), str(tmp_path / "next"), init=str(run / "model"), **how))
    state = torch.load(run / "last.ckpt", weights_only=True)["state_dict"]
    (steps,) = [value for name, value in state.items() if name.endswith("num_batches_tracked")]
    assert steps > before
    (mean,) = [value for name, value in state.items() if name.endswith("running_mean")]
    assert mean.abs().max() > 0
