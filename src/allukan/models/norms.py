"""Norms need more than one value: what torch would say in the middle of the first step, said before it."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from allukan.errors import UserError


def check_norms(network: nn.Module, in_channels: int, size: tuple[int, ...], batch: int, device: str = "meta") -> None:
    """``UserError`` when a norm of ``network`` would be left with a single value by batches of images ``(in_channels, *size)``.

    Found on shapes alone, unless the network looks at values: then on a ``device`` that has them.

    >>> from allukan.models import build_model
    >>> network = build_model("convtwin-tiny", in_channels=1, out_channels=1)
    >>> check_norms(network, 1, (32, 32), batch=2), check_norms(network, 1, (32, 33), batch=1)
    (None, None)
    """
    kinds = (_InstanceNorm, nn.GroupNorm, *([_BatchNorm] if batch == 1 else []))
    if not any(isinstance(module, kinds) for module in network.modules()):
        return
    paper = copy.deepcopy(network).to(device).eval()  # nothing of the network changes
    for module in paper.modules():
        if isinstance(module, kinds):
            module.register_forward_pre_hook(partial(_check, size=size, batch=batch))
    with torch.no_grad():
        paper(torch.zeros(1, in_channels, *size, device=device))


def _check(norm: nn.Module, inputs: tuple[Any, ...], size: tuple[int, ...], batch: int) -> None:
    x = inputs[0]  # of one image
    at = "x".join(map(str, size))
    if isinstance(norm, _BatchNorm):
        if x.numel() // norm.num_features * batch == 1:
            raise UserError(
                f"batch norm has a single value a channel at size {at} with one image a step and device: give a larger size, "
                "two images a step or more, or another norm (--set options.norm=group) where the model has one."
            )
    elif isinstance(norm, _InstanceNorm):
        if math.prod(x.shape[2:]) == 1:
            raise UserError(f"instance norm has a single value a channel at size {at}: give a larger size, or another norm.")
    elif isinstance(norm, nn.GroupNorm) and x.numel() == norm.num_groups:
        raise UserError(f"group norm has a single value a group at size {at}: give a larger size, or another norm.")
