import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score

from allukan.data import IGNORED
from allukan.models import probabilities, to_masks
from allukan.training.losses import SegmentationLoss, class_index, overlap


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


@pytest.mark.parametrize("target", ["binary", "multiclass"])
def test_a_batch_of_ignored_pixels_is_no_nan(target):
    logits, masks, _, _ = with_ignored(target)
    loss = SegmentationLoss(target)(logits, torch.full_like(masks, IGNORED))
    loss.backward()
    assert loss.isfinite()
    assert not logits.grad.any()
