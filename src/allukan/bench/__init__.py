"""Benchmarks that a user can repeat: layers, networks, trainings and ways to differentiate, each in one call."""

from allukan.bench.contenders import VARIANTS
from allukan.bench.efficiency import bench_efficiency
from allukan.bench.environment import environment
from allukan.bench.gradients import WAYS, bench_gradients
from allukan.bench.kernels import bench_kernels
from allukan.bench.layers import bench_layers
from allukan.bench.networks import Task, bench_models, factory_networks
from allukan.bench.pages import check_figure, check_page, draw_efficiency, fill_block, provenance
from allukan.bench.peers import find_peers, find_ukan
from allukan.bench.report import check_out, markdown, write_json
from allukan.bench.settings import Settings
from allukan.bench.training import bench_train

__all__ = [
    "VARIANTS",
    "WAYS",
    "Settings",
    "Task",
    "bench_efficiency",
    "bench_gradients",
    "bench_kernels",
    "bench_layers",
    "bench_models",
    "bench_train",
    "check_figure",
    "check_out",
    "check_page",
    "draw_efficiency",
    "environment",
    "factory_networks",
    "fill_block",
    "find_peers",
    "find_ukan",
    "markdown",
    "provenance",
    "write_json",
]
