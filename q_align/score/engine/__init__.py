"""The engine of scoring. Knows no files, no tasks and no levels; see `q_align.score.engine.engine`."""

from q_align.score.engine.batching import Batch, Loaded
from q_align.score.engine.engine import Engine

__all__ = ["Batch", "Engine", "Loaded"]
