"""Any torch network becomes a KA network that starts as the same function."""

from allukan.nn.conversion.conversion import convert
from allukan.nn.conversion.report import Conversion

__all__ = ["Conversion", "convert"]
