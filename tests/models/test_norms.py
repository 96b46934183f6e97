"""What torch would refuse in the first step is refused before it, and nothing else."""

import pytest
import torch

from allukan.errors import UserError
from allukan.models import build_model, check_norms


@pytest.mark.parametrize(
    ("model", "dims", "options", "size", "batch"),
    [
        ("convtwin-tiny", 2, {}, 32, 1),
        ("convtwin-tiny", 2, {}, 33, 1),
        ("convtwin-tiny", 2, {}, 32, 2),
        ("convtwin-tiny", 3, {}, 32, 1),
        ("allukan-tiny", 3, {}, 32, 1),
        ("convtwin-tiny", 2, {"norm": "instance"}, 32, 4),
        ("convtwin-tiny", 2, {"norm": "instance"}, 40, 1),
        ("convtwin-tiny", 2, {"norm": "group"}, 32, 1),
        ("convtwin-tiny", 2, {"norm": "group", "topology": {"widths": [8, 8, 8, 8, 8]}}, 32, 1),
        ("ukan-sprecher", 2, {}, 32, 1),
        ("unet", 2, {"channels": [4, 4, 8, 8, 8]}, 32, 1),
    ],
)
def test_it_is_refused_where_torch_refuses_it(model, dims, options, size, batch):
    network = build_model(model, in_channels=1, out_channels=1, spatial_dims=dims, **options)
    sizes = (size,) * dims
    try:
        network(torch.rand(batch, 1, *sizes))
        fine = True
    except ValueError as error:
        assert "Expected more than 1" in str(error)  # noqa: PT017
        fine = False
    state = {name: value.clone() for name, value in network.state_dict().items()}
    if fine:
        check_norms(network, 1, sizes, batch)
    else:
        at = "x".join(map(str, sizes))
        with pytest.raises(UserError, match=f"norm has a single value a .* at size {at}.*: give a larger size"):
            check_norms(network, 1, sizes, batch)
    assert network.training
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
