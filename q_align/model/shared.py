"""Several questions about the same frames for little more than the price of one: what they share is computed once.

The prompt up to the end of the frames (nearly all tokens, and the whole vision encoder) runs once and leaves its keys
and values behind; each question then runs alone on top of them. Knows no family: an encoder that can split its prompts
offers `share`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from q_align.syllabus.base import Prediction


@torch.no_grad()
def predict_shared(
    model: nn.Module, prefix: Mapping[str, Tensor], asks: Sequence[Tensor], level_ids: Sequence[int]
) -> list[Prediction]:
    """Level log-probabilities of B media for each of several questions.

    Args:
        model: causal, with the cache of transformers.
        prefix: model inputs up to the end of the frames, left-padded, with `attention_mask` (B, P).
        asks: per question, the ids (S,) of what follows the frames, up to the end of the stem; the same for all media.
        level_ids: K token ids, best level first.

    Returns:
        One prediction per question; equal to `predict` on whole prompts up to rounding.
    """
    mask = prefix["attention_mask"]
    start = model(**prefix, use_cache=True, logits_to_keep=1).past_key_values
    results = []
    for number, ask in enumerate(asks):
        # the cache grows with what runs on it: every question but the last gets its own
        cache = start if number == len(asks) - 1 else copy.deepcopy(start)
        ids = ask.to(mask.device).expand(mask.shape[0], -1)  # (B, S)
        logits = model(
            input_ids=ids,
            attention_mask=torch.cat([mask, torch.ones_like(ids)], dim=1),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **_positions(model, mask, ids.shape[1]),
        ).logits
        logp = logits[:, -1].float().log_softmax(-1)  # (B, V)
        results.append(Prediction(level_logp=logp[:, torch.as_tensor(level_ids, device=logp.device)]))
    return results


def _positions(model: nn.Module, mask: Tensor, length: int) -> dict[str, Tensor]:
    """Positions behind the frames, for models that count a picture's height and width rather than its tokens.

    They remember by how much (`rope_deltas`), but reckon with one new token at a time.
    """
    deltas = [getattr(module, "rope_deltas", None) for module in model.modules()]
    delta = next((d for d in deltas if d is not None), None)
    if delta is None:
        return {}
    steps = torch.arange(length, device=mask.device)
    places = mask.sum(1, keepdim=True) + steps + delta.to(mask.device)  # (B, S)
    return {"position_ids": places.expand(3, *places.shape)}
