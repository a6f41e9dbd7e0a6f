"""The engine of scoring. Knows no files, no tasks and no levels; see `q_align.score.engine.pump`."""

from q_align.score.engine.parts import Batch, Loaded
from q_align.score.engine.pump import Engine

__all__ = ["Batch", "Engine", "Loaded"]
