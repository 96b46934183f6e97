import numpy as np
import pytest
import torch
from monai.losses import DiceLoss
from sklearn.metrics import f1_score, jaccard_score

from allukan.data import IGNORED
from allukan.models import probabilities, to_masks
from allukan.options import DICE_LOSSES
from allukan.training.losses import SegmentationLoss, class_index, overlap, usual_dice


def test_binary_loss_is_ukans():
    """0.5 BCE + 1 - mean over images of (2 |p m| + s)/(|p| + |m| + s), written out."""
    logits, masks = torch.randn(3, 1, 8, 6, dtype=torch.float64), torch.rand(3, 1, 8, 6, dtype=torch.float64).round()
    p = logits.sigmoid()
    bce = -(masks * p.log() + (1 - masks) * (1 - p).log()).mean()
    dice = (2 * (p * masks).sum((1, 2, 3)) + 1e-5) / (p.sum((1, 2, 3)) + masks.sum((1, 2, 3)) + 1e-5)
    torch.testing.assert_close(SegmentationLoss("binary")(logits, masks), 0.5 * bce + 1 - dice.mean())


@pytest.mark.parametrize(("target", "channels"), [("binary", 1), ("multilabel", 3), ("multiclass", 4)])
def test_a_perfect_prediction_costs_nothing_and_a_wrong_one_much(target, channels):
    classes = channels - (target == "multiclass")
    labels = torch.randint(0, classes + 1, (2, 16, 16))
    masks = torch.stack([labels == k + 1 for k in range(classes)], 1)
    logits = torch.cat([~masks.any(1, keepdim=True), masks], 1)[:, -channels:] * 40.0 - 20
    loss = SegmentationLoss(target)
    assert loss(logits, masks) < 1e-3
    assert loss(-logits, masks) > 1
    assert torch.equal(to_masks(probabilities(logits, target), target), masks)


def test_half_precision_logits_are_computed_in_float32():
    logits = torch.randn(2, 1, 64, 64, dtype=torch.bfloat16)
    assert SegmentationLoss("binary")(logits, logits > 0).dtype is torch.float32


def test_class_index_puts_the_background_first():
    masks = torch.zeros(1, 2, 1, 3, dtype=torch.uint8)
    masks[0, 0, 0, 1] = masks[0, 1, 0, 2] = 1
    assert class_index(masks).tolist() == [[[0, 1, 2]]]


def test_overlap_agrees_with_scikit_learn():
    a, b = torch.rand(1, 1, 9, 7) > 0.5, torch.rand(1, 1, 9, 7) > 0.5
    both, either = overlap(a, b)
    iou = float(both / either)
    assert iou == pytest.approx(jaccard_score(b.flatten(), a.flatten()))
    assert 2 * iou / (1 + iou) == pytest.approx(f1_score(b.flatten(), a.flatten()))


def with_ignored(target):
    channels = {"binary": 1, "multilabel": 2, "multiclass": 3}[target]
    labels = torch.randint(0, 3 if target == "multiclass" else 2, (2, 8, 6))
    masks = torch.stack([labels == k for k in (1, 2)][: 1 if target == "binary" else 2], 1).to(torch.uint8)
    ignored = torch.rand(2, 1, 8, 6) < 0.4
    logits = torch.randn(2, channels, 8, 6, dtype=torch.float64, requires_grad=True)
    return logits, torch.where(ignored, torch.tensor(IGNORED, dtype=torch.uint8), masks), masks, ignored


@pytest.mark.parametrize("target", ["binary", "multilabel", "multiclass"])
def test_ignored_pixels_have_no_part_in_the_loss(target):
    """Written out over the other pixels alone, and without any gradient where nothing counts."""
    logits, masks, truth, ignored = with_ignored(target)
    p = logits.softmax(1)[:, 1:] if target == "multiclass" else logits.sigmoid()
    counts = ~ignored[:, 0]
    if target == "multiclass":
        chosen = torch.cat([1 - truth.sum(1, keepdim=True), truth], 1).double()
        entropy = -(chosen * logits.log_softmax(1)).sum(1)[counts].mean()
    else:
        entropy = -(truth * p.log() + (1.0 - truth) * (1 - p).log()).mean(1)[counts].mean()
    dice = []
    for image in range(2):
        for k in range(truth.shape[1]):
            a, b = p[image, k][counts[image]], truth[image, k][counts[image]].double()
            dice.append(1 - (2 * (a * b).sum() + 1e-5) / (a.sum() + b.sum() + 1e-5))
    loss = SegmentationLoss(target)(logits, masks)
    torch.testing.assert_close(loss, 0.5 * entropy + torch.stack(dice).mean())
    (slope,) = torch.autograd.grad(loss, logits)
    assert not slope[ignored.expand_as(slope)].any()
    assert slope[~ignored.expand_as(slope)].all()


@pytest.mark.parametrize("dice", DICE_LOSSES)
@pytest.mark.parametrize("target", ["binary", "multiclass"])
def test_a_batch_of_ignored_pixels_is_no_nan(target, dice):
    logits, masks, _, _ = with_ignored(target)
    loss = SegmentationLoss(target, dice)(logits, torch.full_like(masks, IGNORED))
    loss.backward()
    assert loss.isfinite()
    assert not logits.grad.any()


def in_numpy(dice, target, logits, masks):
    """Cross-entropy and Dice of the pixels that count, in plain loops: what has which weight is written out."""
    x = logits.detach().numpy()
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True) if target == "multiclass" else 1 / (1 + np.exp(-x))
    truth, counts = (masks == 1).numpy(), ~(masks == IGNORED).any(1).numpy()
    classes = truth.shape[1]
    if target == "multiclass":
        entropy = -np.log(np.take_along_axis(p, np.where(truth.any(1), truth.argmax(1) + 1, 0)[:, None], 1))[:, 0]
        p = p[:, 1:]
    else:
        entropy = -np.log(np.where(truth, p, 1 - p)).mean(1)

    def loss(images, k):
        pairs = [(p[i, k][counts[i]], truth[i, k][counts[i]]) for i in images]
        both, all_ = sum((a * b).sum() for a, b in pairs), sum(a.sum() + b.sum() for a, b in pairs)
        return 1 - (2 * both + 1e-5) / (all_ + 1e-5)

    images = range(len(truth))
    there = [(i, k) for i in images for k in range(classes) if truth[i, k][counts[i]].any()]
    dices = {
        "image": [loss([i], k) for i in images for k in range(classes)],
        "present": [loss([i], k) for i, k in there],
        "batch": [loss(images, k) for k in range(classes)],
    }
    dices["nnunet"] = dices["batch"]
    return (1.0 if dice == "nnunet" else 0.5) * entropy[counts].mean() + np.mean(dices[dice])


@pytest.mark.parametrize("target", ["binary", "multilabel", "multiclass"])
@pytest.mark.parametrize("dice", DICE_LOSSES)
def test_every_dice_is_that_of_plain_numpy(dice, target):
    """With ignored pixels, and with a class that one image lacks, and of several another one has only where it is ignored."""
    logits, masks, truth, _ = with_ignored(target)
    masks[0, 0][masks[0, 0] == 1] = 0
    if masks.shape[1] > 1:
        masks[1, 1] = torch.where(truth[1, 1] == 1, IGNORED, masks[1, 1])
    loss = SegmentationLoss(target, dice)(logits, masks)
    assert float(loss.detach()) == pytest.approx(in_numpy(dice, target, logits, masks), rel=1e-12)
    (slope,) = torch.autograd.grad(loss, logits)
    assert not slope[(masks == IGNORED).any(1, keepdim=True).expand_as(slope)].any()


@pytest.mark.parametrize("target", ["binary", "multilabel"])
def test_batch_dice_is_monais(target):
    logits, _, truth, _ = with_ignored(target)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth.double())
    monai = DiceLoss(batch=True, sigmoid=True)(logits, truth)
    for dice, weight in [("batch", 0.5), ("nnunet", 1.0)]:
        torch.testing.assert_close(SegmentationLoss(target, dice)(logits, truth), weight * entropy + monai)


def slope_of_false_alarms(dice, of_nothing):
    """By how much a loss would fall, to first order, if the false alarms on an image without the class became weaker."""
    logits = torch.full((2, 1, 16, 16), -4.0, dtype=torch.float64)
    logits[:, :, 4:9, 4:9] = 2.0
    masks = torch.zeros(2, 1, 16, 16)
    masks[0, :, 4:9, 4:9] = 0 if of_nothing else 1
    logits.requires_grad_()
    loss = SegmentationLoss("binary", dice)
    (slope,) = torch.autograd.grad(loss(logits, masks) - loss.entropy_weight * entropy_of(logits, masks), logits)
    return float(slope[1].sum())


def entropy_of(logits, masks):
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, masks.double())


def test_only_dice_over_the_batch_sees_false_alarms_where_the_class_is_absent():
    """Dice of an image without the class is constant until the alarms have vanished: the reason for the other forms."""
    image, batch, present = (slope_of_false_alarms(dice, of_nothing=False) for dice in ("image", "batch", "present"))
    assert batch > 0.03
    assert 0 <= image < 1e-5 * batch
    assert present == 0
    assert slope_of_false_alarms("batch", of_nothing=True) < 1e-5 * batch  # in a batch without the class it is constant, too


def test_dice_of_an_absent_class_falls_only_once_its_probabilities_have_vanished():
    masks, places = torch.zeros(1, 1, 16, 16), 16 * 16
    for p, wanted in [(0.5, 1.0), (1e-3, 1.0), (1e-6, 1 - 1e-5 / (places * 1e-6 + 1e-5)), (1e-9, 0.0)]:
        logits = torch.full((1, 1, 16, 16), p, dtype=torch.float64).logit()
        dice = SegmentationLoss("binary")(logits, masks) - 0.5 * entropy_of(logits, masks)
        assert float(dice) == pytest.approx(wanted, abs=3e-2)


def test_an_unknown_dice_is_named():
    with pytest.raises(ValueError, match="unknown dice 'bach'; choose one of image, batch"):
        SegmentationLoss("binary", "bach")


@pytest.mark.parametrize(
    ("present", "dice"),
    [
        ([[1, 1, 1, 1]], "image"),
        ([[1, 1, 1, 0]], "image"),
        ([[1, 1, 0, 0]], "batch"),
        ([[1, 1, 1, 1], [1, 1, 0, 0]], "image"),  # three quarters
        ([[1, 1, 1, 1], [1, 0, 0, 0]], "batch"),
    ],
)
def test_the_usual_dice_depends_on_how_many_images_have_the_classes(present, dice):
    masks = [torch.tensor(of_image, dtype=torch.uint8).view(-1, 1, 1).repeat(1, 3, 5) for of_image in zip(*present, strict=True)]
    masks[0][0, 1, 2] = IGNORED
    found, why = usual_dice(masks)
    assert (found, bool(why)) == (dice, dice == "batch")
    assert usual_dice([torch.full_like(mask, IGNORED) for mask in masks])[0] == "batch"  # ignored pixels are of no class
