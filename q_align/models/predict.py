"""One forward pass -> level log-probabilities, and the likelihood of the answer when one is given.

The one place that reads logits. Knows positions from the end; no family, no loss, no data set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from q_align.losses.base import Prediction
from q_align.models.encoder import IGNORE


def predict(model: nn.Module, inputs: Mapping[str, Tensor], level_ids: Sequence[int], tail: int) -> Prediction:
    """Runs the model's head on the last positions only, so that (B, T, V) logits never exist.

    Args:
        model: any causal multimodal model whose forward takes `logits_to_keep`.
        inputs: an Encoder's batch; with `answer` (B, A) it is a training batch, which ends `level . eos`; without, a
            scoring batch, which ends with the stem.
        level_ids: K token ids, best level first.
        tail: tokens after the level word in a training batch (`Encoder.tail`).
    """
    inputs = dict(inputs)
    answer = inputs.pop("answer", None)
    keep = 1 if answer is None else answer.shape[1] + 1
    logits = model(**inputs, logits_to_keep=keep).logits  # (B, keep, V)
    # float32: in half precision the score's third decimal depends on the batch size
    logp = logits.float().log_softmax(-1)
    if answer is None:
        return Prediction(level_logp=columns(logp[:, -1], level_ids))
    # position i predicts token i + 1: the level word is predicted one before it stands
    level_logp = columns(logp[:, -(tail + 2)], level_ids)  # (B, K)
    supervised = answer != IGNORE  # (B, A)
    target = answer.masked_fill(~supervised, 0).unsqueeze(-1)
    token_logp = logp[:, :-1].gather(-1, target).squeeze(-1)  # (B, A)
    nll = -(token_logp * supervised).sum(-1)
    return Prediction(level_logp=level_logp, nll=nll, tokens=supervised.sum(-1))


def columns(logp: Tensor, ids: Sequence[int]) -> Tensor:
    """(B, V) -> (B, K); no tensor of ids, whose copy to a GPU would wait for all that the GPU still has to do."""
    return torch.stack([logp[:, number] for number in ids], dim=-1)
