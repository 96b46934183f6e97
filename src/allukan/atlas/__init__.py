"""The activation atlas: every learned activation over the inputs that it meets, in the layout of the network, as one HTML page."""

from allukan.atlas.page import Course, Shares, write_atlas
from allukan.atlas.portrait import Portrait, portrait

__all__ = ["Course", "Portrait", "Shares", "portrait", "write_atlas"]
