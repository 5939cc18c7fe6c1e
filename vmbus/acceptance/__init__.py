"""What other implementations would make of a ring: a small model of each, and where they part."""

from .comparison import COMPARE_SCHEMA, MODELS, Comparison, compare, models_with
from .differences import Difference, Kind
from .model import Answer, Model, RingView, Signal, Step, Write, WriteAnswer
from .reading import Reading, read_through

__all__ = [
    "COMPARE_SCHEMA",
    "MODELS",
    "Answer",
    "Comparison",
    "Difference",
    "Kind",
    "Model",
    "Reading",
    "RingView",
    "Signal",
    "Step",
    "Write",
    "WriteAnswer",
    "compare",
    "models_with",
    "read_through",
]
