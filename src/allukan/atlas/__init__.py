"""The activation atlas: every learned activation over the inputs that it meets, where it stands in the network; one HTML page."""

from allukan.atlas.page import Course, Shares, write_atlas
from allukan.atlas.portraits import Portrait, portrait

__all__ = ["Course", "Portrait", "Shares", "portrait", "write_atlas"]
