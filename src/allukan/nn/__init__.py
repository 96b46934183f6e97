"""KA layers that drop in for torch's own."""

from allukan.nn.activation import SplineActivation
from allukan.nn.conv import KAConv, KAConv1d, KAConv2d, KAConv3d
from allukan.nn.conversion import Conversion, convert
from allukan.nn.fork import KAFork, KAFork1d, KAFork2d, KAFork3d
from allukan.nn.layer import KALayer
from allukan.nn.linear import KALinear
from allukan.nn.spline import Spline
from allukan.nn.sprecher import SPRECHER, SprecherLinear
from allukan.nn.stacked import StackedKANConv, StackedKANConv1d, StackedKANConv2d, StackedKANConv3d, StackedKANLinear

__all__ = [
    "SPRECHER",
    "Conversion",
    "KAConv",
    "KAConv1d",
    "KAConv2d",
    "KAConv3d",
    "KAFork",
    "KAFork1d",
    "KAFork2d",
    "KAFork3d",
    "KALayer",
    "KALinear",
    "Spline",
    "SplineActivation",
    "SprecherLinear",
    "StackedKANConv",
    "StackedKANConv1d",
    "StackedKANConv2d",
    "StackedKANConv3d",
    "StackedKANLinear",
    "convert",
]
