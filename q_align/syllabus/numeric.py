"""The paper's baseline: the model is taught to say the score as text ("3.4") instead of a level word.

Knows the text of an answer; no tokenizer, no model. Such a model is read by `q_align.model.numeric`.
"""

from __future__ import annotations

from torch import Tensor

from q_align.levels import LevelScheme
from q_align.syllabus.base import Prediction, Targets

# Numbers that can be said: this many steps from the lowest to the highest value (1.0, 1.1, ... 5.0).
STEPS = 40


def numeric(prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
    """Next-token loss over the whole answer; the answer's text holds the number, see `say`."""
    assert prediction.nll is not None and prediction.tokens is not None, "training batches carry an answer"
    return {"numeric": prediction.nll.sum() / prediction.tokens.sum()}


def say(mos: float, scheme: LevelScheme) -> str:
    """The number that is said for a MOS on the level scale: the nearest one of `sayable`."""
    step = (scheme.high - scheme.low) / STEPS
    index = round((min(max(mos, scheme.low), scheme.high) - scheme.low) / step)
    return sayable(scheme)[index]


def sayable(scheme: LevelScheme) -> list[str]:
    """All numbers that can be said, lowest first, in one fixed format."""
    step = (scheme.high - scheme.low) / STEPS
    return [f"{scheme.low + i * step:.{_decimals(step)}f}" for i in range(STEPS + 1)]


def _decimals(step: float) -> int:
    """Digits after the point that tell two neighbours apart."""
    return next((d for d in range(8) if round(step, d) == round(step, 8)), 8)
