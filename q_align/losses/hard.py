"""Losses of the hard level: the whole answer (Q-Align), the level word alone, and a share for neighbouring levels."""

from __future__ import annotations

import torch
from torch import Tensor

from q_align.errors import ConfigError
from q_align.losses.base import Prediction, Targets, level_logp_of, loss


@loss("hard", needs=("answer",))
def hard_loss(prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
    """Next-token loss over the whole answer: mean over the supervised tokens of the update (Q-Align).

    With `targets.batch_tokens`, the mean over accumulated batches and processes is that of one large batch, whatever
    the lengths of their answers.
    """
    assert prediction.nll is not None and prediction.tokens is not None, "training batches carry an answer"
    tokens = prediction.tokens.sum() if targets.batch_tokens is None else targets.batch_tokens
    return {"hard": prediction.nll.sum() / tokens}


@loss("level_only", needs=("level_logp",))
def level_only_loss(prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
    """Cross-entropy of the level word alone, over the full vocabulary, so that it also trains the mass on levels."""
    return {"level_only": -level_logp_of(prediction).gather(1, targets.level[:, None]).mean()}


@loss("ordinal", needs=("level_logp",))
def ordinal_loss(prediction: Prediction, targets: Targets, *, smooth: float = 0.1) -> dict[str, Tensor]:
    """Cross-entropy with `smooth` of the hard level's share moved to its neighbours, half to each.

    At the ends of the scale the missing neighbour's half stays with the level itself.
    """
    if not 0 <= smooth <= 1:
        raise ConfigError(f"option smooth of loss 'ordinal' must lie in 0..1, got {smooth} (loss.options)")
    level_logp = level_logp_of(prediction)  # (B, K)
    label = smooth_labels(targets.level, level_logp.shape[1], smooth, level_logp.dtype)
    return {"ordinal": -(label * level_logp).sum(1).mean()}


def smooth_labels(level: Tensor, levels: int, smooth: float, dtype: torch.dtype) -> Tensor:
    """(B,) hard levels -> (B, K) labels; rows sum to 1."""
    distance = (torch.arange(levels, device=level.device) - level[:, None]).abs()  # (B, K)
    label = (distance == 1).to(dtype) * (smooth / 2)
    return label + (distance == 0) * (1 - label.sum(1, keepdim=True))
