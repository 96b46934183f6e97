"""The trainer for nnU-Net: rates of splines and the file that ``nnUNet_extTrainer`` finds; without nnU-Net."""

import ast

import pytest
import torch

from allukan.integrations.nnunet_networks import PlannedAllUKAN
from allukan.integrations.nnunet_trainer import SplineRates, write_trainer


class Poly:
    """What nnU-Net's schedule does: one rate for every group."""

    def __init__(self, optimizer, lr, epochs):
        self.optimizer, self.lr, self.epochs = optimizer, lr, epochs

    def step(self, epoch=None):
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * (1 - epoch / self.epochs) ** 0.9


class Theirs:
    """As much of nnU-Net's trainer as makes an optimiser."""

    def __init__(self):
        self.network = PlannedAllUKAN(1, 2, [[1, 1], [2, 2]], [[3, 3]] * 2, [4, 6])

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.network.parameters(), 0.01, weight_decay=3e-5, momentum=0.99, nesterov=True)
        return optimizer, Poly(optimizer, 0.01, 10)


class Ours(SplineRates, Theirs):
    spline_lr_share = 0.5


def test_splines_have_a_rate_of_their_own_in_every_epoch():
    trainer = Ours()
    optimizer, schedule = trainer.configure_optimizers()
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in trainer.network.parameters())
    names = {id(p): name.rpartition(".")[2] for name, p in trainer.network.named_parameters()}
    others, splines = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    assert splines == {"base_weight", "coef"}
    assert not splines & others
    for epoch in (0, 3, 3, 9):
        schedule.step(epoch)
        rate = 0.01 * (1 - epoch / 10) ** 0.9
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate, 0.5 * rate])
    assert {group["momentum"] for group in optimizer.param_groups} == {0.99}


def test_a_training_that_goes_on_keeps_the_rates():
    first, second = (Ours().configure_optimizers() for _ in range(2))
    second[0].load_state_dict(first[0].state_dict())
    second[1].step(5)
    assert second[0].param_groups[1]["lr"] == pytest.approx(0.5 * second[0].param_groups[0]["lr"])


def test_a_folder_of_windows_leaves_the_file_readable(tmp_path):
    folder = tmp_path / "C:\\Users\\new"
    text = write_trainer(folder, 3.0).read_text(encoding="utf-8")
    ast.parse(text)
    assert f"# export nnUNet_extTrainer={folder}\n" in text


def test_the_file_holds_the_numbers_and_is_not_overwritten(tmp_path, shell):
    words = ["nnunet", "trainer", tmp_path / "t", "--spline-lr-share", "0.3", "--epochs", "7", "--iterations", "30"]
    done = shell(*words)
    assert "-tr nnUNetTrainerAllUKAN" in done.out
    text = (tmp_path / "t/allukan_trainer.py").read_text(encoding="utf-8")
    (found,) = (node for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
    assert [base.id for base in found.bases] == ["SplineRates", "nnUNetTrainer"]
    for line in ("spline_lr_share = 0.3", "num_epochs = 7", "num_iterations_per_epoch = 30", "num_val_iterations_per_epoch = 6"):
        assert line in text
    assert "nothing is overwritten" in shell(*words).sentence
    for option, value in (("--epochs", "0"), ("--spline-lr-share", "inf"), ("--spline-lr-share", "nan")):
        assert "must be above 0, and finite" in shell("nnunet", "trainer", tmp_path / "u", option, value).sentence
    assert not (tmp_path / "u").exists()
