"""What a training is to be like, from what its images are like, the memory and the time."""

from allukan.training.planning.explanation import channels_text, explain
from allukan.training.planning.memory import Footprint, available_memory
from allukan.training.planning.planner import Given, Limits, normalisations, plan, usual_intensities
from allukan.training.planning.result import Normalisation, Plan
from allukan.training.planning.spacing import size_at, target_spacing
from allukan.training.planning.stages import Candidate, Stages, stages_for
from allukan.training.planning.timing import epochs_for, measure_speed, now

__all__ = [
    "Candidate",
    "Footprint",
    "Given",
    "Limits",
    "Normalisation",
    "Plan",
    "Stages",
    "available_memory",
    "channels_text",
    "epochs_for",
    "explain",
    "measure_speed",
    "normalisations",
    "now",
    "plan",
    "size_at",
    "stages_for",
    "target_spacing",
    "usual_intensities",
]
