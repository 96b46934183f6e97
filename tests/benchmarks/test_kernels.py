import json

import pytest
import torch

from allukan.errors import UserError
from benchmarks.kernels import bench_kernels
from benchmarks.settings import Settings


def test_rows_say_what_was_measured_and_count_bytes():
    options = {"activations": [1, 2], "formats": ["channels_last"]}
    rows = bench_kernels(Settings("cpu", repeats=2), (1, 4, 8, 8), ["bfloat16"], **options)
    json.dumps(rows)
    assert len(rows) == 2 * (2 * 1 + 2 * 2)  # two engines: for 1 and 2 activations a forward and two kinds of backward
    once = 1 * 4 * 8 * 8 * 2
    wanted = {(1, "forward"): 2, (1, "backward"): 3, (2, "forward"): 3, (2, "backward"): 4}
    for row in rows:
        assert row["bytes"] == once * wanted[row["activations"], row["pass"]]
        assert row["gb_per_s"] == pytest.approx(row["bytes"] / row["seconds"] / 1e9)
        assert row["copy_ratio"] == pytest.approx(row["gb_per_s"] / row["copy_gb_per_s"])
    assert {row["impl"] for row in rows} == {"eager", "native"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_triton_is_measured_on_a_gpu():
    rows = bench_kernels(Settings("cuda", repeats=2), (2, 16, 32, 32), ["bfloat16"])
    assert {row["impl"] for row in rows} == {"eager", "triton"}


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"dtypes": ["int8"]}, "dtype 'int8'"),
        ({"formats": ["rows"]}, "format 'rows'"),
        ({"input_grads": ["no"]}, "input_grad 'no'"),
    ],
)
def test_unknown_names_are_refused(options, word):
    with pytest.raises(UserError, match=word):
        bench_kernels(Settings("cpu"), (1, 1, 2, 2), **({"dtypes": ["float32"]} | options))
