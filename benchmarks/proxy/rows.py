"""The rows of the proxy: what is tried, each against the convolutional twin with the same slices, steps and recipe."""

from __future__ import annotations

from benchmarks.proxy.trial import Row

ROWS = {
    "twin": Row("convtwin-tiny"),
    "ka": Row(),
}
