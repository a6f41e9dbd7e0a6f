"""Several questions about the same frames for little more than the cost of one: their common prefix is computed once.

The prompt up to the end of the frames (nearly all tokens, and the whole vision encoder) runs once and leaves its keys
and values behind; each question then runs alone on top of them. An encoder that can cut its prompts offers `share`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

QUESTION = "question_"


def is_shared(batch: Mapping[str, Any]) -> bool:
    """Whether a batch holds several questions about the same frames."""
    return f"{QUESTION}0" in batch


@torch.no_grad()
def shared_logits(model: nn.Module, batch: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """(B, V) logits at the end of each question; equal to those of whole prompts up to rounding.

    Args:
        model: causal, with the cache of transformers.
        batch: model inputs up to the end of the frames, left-padded, with `attention_mask` (B, P); and `question_0`,
            `question_1`, ... (S,): per question, the ids of what follows the frames up to the end of the stem.
    """
    prefix = {name: value for name, value in batch.items() if not name.startswith(QUESTION)}
    questions = [batch[f"{QUESTION}{number}"] for number in range(len(batch) - len(prefix))]
    mask = prefix["attention_mask"]
    places, behind = _positions(model, prefix)
    start = model(**prefix, **places, use_cache=True, logits_to_keep=1).past_key_values
    for number, question in enumerate(questions):
        # the cache grows with what runs on it: every question but the last gets its own
        cache = start if number == len(questions) - 1 else copy.deepcopy(start)
        ids = question.to(mask.device).expand(mask.shape[0], -1)  # (B, S)
        logits = model(
            input_ids=ids,
            attention_mask=torch.cat([mask, torch.ones_like(ids)], dim=1),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **behind(ids.shape[1]),
        ).logits
        yield logits[:, -1]


def _positions(
    model: nn.Module, prefix: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Callable[[int], dict[str, Tensor]]]:
    """Positions of the prefix and of S tokens behind it, for models that count an image's rows and columns.

    They would remember the difference in an attribute, which threads that share the model must not rely on.
    Other models count positions themselves and get none.
    """
    inner: Any = next((module for module in model.modules() if hasattr(module, "get_rope_index")), None)
    if inner is None:
        return {}, lambda length: {}
    known = ("input_ids", "attention_mask", "mm_token_type_ids", "image_grid_thw")
    places, delta = inner.get_rope_index(**{name: prefix[name] for name in known if name in prefix})
    first = prefix["attention_mask"].sum(1, keepdim=True) + delta.to(places.device)  # (B, 1)

    def behind(length: int) -> dict[str, Tensor]:
        steps = first + torch.arange(length, device=first.device)  # (B, S)
        return {"position_ids": steps.expand(3, *steps.shape)}

    return {"position_ids": places}, behind
