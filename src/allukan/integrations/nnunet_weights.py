"""A trained checkpoint of nnU-Net v2 as starting weights of the same network with KA layers."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from pydoc import locate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from allukan.errors import UserError
from allukan.files import whole
from allukan.integrations.nnunet import resolved
from allukan.integrations.nnunet_networks import ConvertedUNet

_HEAD = "decoder.seg_layers.0.weight"
_MAKE_SCALAR = np.float64(0).__reduce__()[0]
_NUMPY: list[Any] = [_MAKE_SCALAR, np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType]  # numbers in nnU-Net's logs


def convert_checkpoint(checkpoint: Path, out: Path) -> ConvertedUNet:
    """Write ``out``, the function of the checkpoint, for ``nnUNetv2_train -p nnUNetConvertedPlans -pretrained_weights``.

    Returns the network. The checkpoint is read as weights and plain values, nothing in it is executed. Raises ``UserError`` where
    it is not nnU-Net's, or of a network that is none of its U-Nets, and where ``out`` exists.
    """
    if out.exists():
        raise UserError(f"{out} exists: choose another name, nothing is overwritten.")
    content = _read(checkpoint)
    try:
        plans, name = content["init_args"]["plans"], content["init_args"]["configuration"]
        weights, architecture = content["network_weights"], resolved(plans, name)["architecture"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{checkpoint} is no checkpoint of nnU-Net v2: it has no {error}.") from None
    network = _network(checkpoint, architecture, weights)
    with whole(out) as part:
        torch.save({"network_weights": network.state_dict()}, part)
    return network


def _read(checkpoint: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_NUMPY):
            return torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{checkpoint} cannot be read as a checkpoint of nnU-Net ({reason}).") from None


def _network(checkpoint: Path, architecture: Mapping[str, Any], weights: Mapping[str, Tensor]) -> ConvertedUNet:
    kind, given = architecture["network_class_name"], dict(architecture["arch_kwargs"])
    if _HEAD not in weights:
        raise UserError(f"{checkpoint} holds weights of {kind}, and only U-Nets as nnU-Net plans them are converted.")
    for name in architecture["_kw_requires_import"]:
        given[name] = given[name] and locate(given[name])
    unet: Any = locate(kind)
    if unet is None:
        raise UserError(f"{checkpoint} holds weights of {kind}, which cannot be imported: install nnU-Net, see docs/nnunet.md.")
    channels = next(tensor.shape[1] for name, tensor in weights.items() if name.endswith("conv.weight"))
    return ConvertedUNet(channels, weights[_HEAD].shape[0], unet, weights=weights, **given)
