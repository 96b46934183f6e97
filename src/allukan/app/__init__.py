"""The page of ``allukan app``: what was sent is checked, segmented and shown. Only ``page`` needs gradio (``allukan[app]``)."""

from allukan.app.examples import Example, open_examples
from allukan.app.opening import open_checks, open_models
from allukan.app.pictures import Scene
from allukan.app.session import Finding, Visit, segment
from allukan.app.uploads import MEGABYTE

__all__ = ["MEGABYTE", "Example", "Finding", "Scene", "Visit", "open_checks", "open_examples", "open_models", "segment"]
