"""Fixtures that every test may use."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything imports triton: its kernels then run in numpy, on the CPU


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
