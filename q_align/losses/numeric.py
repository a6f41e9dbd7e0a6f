"""The paper's baseline: the model is taught to say the score as text ("3.4") instead of a level word.

Knows tensors only; the text of an answer is `LevelScheme.say`. Such a model is read by `q_align.models.numeric`.
"""

from __future__ import annotations

from torch import Tensor

from q_align.losses.base import Prediction, Targets


def numeric(prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
    """Next-token loss over the whole answer; the answer's text holds the number, see `LevelScheme.say`."""
    assert prediction.nll is not None and prediction.tokens is not None, "training batches carry an answer"
    return {"numeric": prediction.nll.sum() / prediction.tokens.sum()}
