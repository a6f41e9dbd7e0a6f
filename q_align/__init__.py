"""q_align: fine-tunes multimodal models to rate the quality and aesthetics of images and videos.

The names below load on first use, so that `import q_align` and `q-align --help` need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from q_align.models.auto_classes import register_with_transformers

__version__ = "0.1.0"

_LAZY = {
    "Evaluation": "q_align.evaluation.record",
    "Scorer": "q_align.score.scorer",
    "Score": "q_align.types",
    "LevelScheme": "q_align.levels",
    "compare": "q_align.evaluation.api",
    "evaluate": "q_align.evaluation.api",
    "fine_tune": "q_align.train.fine_tune",
    "load_video": "q_align.score.compat",
    "QAlignScorer": "q_align.score.compat",
    "QAlignAestheticScorer": "q_align.score.compat",
    "QAlignVideoScorer": "q_align.score.compat",
}
__all__ = [
    "Evaluation",
    "LevelScheme",
    "QAlignAestheticScorer",
    "QAlignScorer",
    "QAlignVideoScorer",
    "Score",
    "Scorer",
    "__version__",
    "compare",
    "evaluate",
    "fine_tune",
    "load_video",
]

if TYPE_CHECKING:
    from q_align.evaluation.api import compare, evaluate
    from q_align.evaluation.record import Evaluation
    from q_align.levels import LevelScheme
    from q_align.score.compat import QAlignAestheticScorer, QAlignScorer, QAlignVideoScorer, load_video
    from q_align.score.scorer import Scorer
    from q_align.train.fine_tune import fine_tune
    from q_align.types import Score

register_with_transformers()


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'q_align' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
