"""Level words: the model completes the stem with a word; the score is the expectation over the five words (Q-Align)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from q_align.errors import LevelTokenError
from q_align.levels import LevelScheme
from q_align.losses.base import Offer, Prediction
from q_align.readout.base import READOUTS, PlainReadout, expect_levels, score_levels
from q_align.readout.encoder import IGNORE, Encoder
from q_align.readout.shared_prefix import is_shared, shared_logits
from q_align.types import Score, Turn

_takes_cache: dict[type, bool] = {}  # class of a model -> whether its forward knows `use_cache`


@READOUTS.register("levels")
class LevelWords(PlainReadout):
    """See `q_align.readout.base.Readout`.

    Attributes:
        level_ids: K token ids, best level first; the same behind every stem of the card.
        tail: tokens after the level word in a training sequence.
    """

    kind = "levels"
    offers: frozenset[Offer] = frozenset({"value", "level_logp", "answer"})

    def __init__(self, levels: LevelScheme, encoder: Encoder, stems: tuple[str, ...]) -> None:
        super().__init__(levels, encoder, stems)
        found = {stem: encoder.level_tokens(levels.words, stem) for stem in stems}
        self.level_ids, self.tail = next(iter(found.values()))
        for stem, tokens in found.items():
            if tokens != (self.level_ids, self.tail):
                raise LevelTokenError(
                    f"level words {', '.join(levels.words)} are other tokens after {stem!r} than after {stems[0]!r} "
                    f"({tokens[0]} and {self.level_ids}); give all tasks stems that end alike (stems in q_align.json)"
                )
        self.shares = bool(getattr(encoder, "shares", False))

    def encode(
        self, turns: Sequence[Turn], mos: np.ndarray | None = None, *, validating: bool = False
    ) -> dict[str, Any]:
        if mos is None:
            return self.encoder(turns)
        words = [self.levels.words[int(level)] for level in self.levels.hard(mos)]
        return self.encoder([replace(turn, answer=word) for turn, word in zip(turns, words, strict=True)])

    def share(self, turns: Sequence[Turn], questions: Sequence[tuple[str, str]]) -> dict[str, Any]:
        batch: dict[str, Any] = self.encoder.share(turns, questions)  # type: ignore[attr-defined]
        return batch

    def read(self, model: nn.Module, batch: Mapping[str, Any]) -> Prediction:
        if is_shared(batch):
            rows = [columns(logits.float().log_softmax(-1), self.level_ids) for logits in shared_logits(model, batch)]
            return self._prediction(torch.stack(rows, dim=1))  # (B, n, K)
        logp, answer = answer_logp(model, batch)
        if answer is None:
            return self._prediction(columns(logp[:, -1], self.level_ids))
        # position i predicts token i + 1: the level word is predicted one position earlier
        prediction = self._prediction(columns(logp[:, -(self.tail + 2)], self.level_ids))  # (B, K)
        prediction.nll, prediction.tokens = likelihood(logp, answer)
        return prediction

    def rows(self, prediction: Prediction) -> Tensor:
        assert prediction.level_logp is not None
        return prediction.level_logp

    def values(self, rows: np.ndarray) -> np.ndarray:
        return expect_levels(rows, self.levels)

    def to_score(self, id: str, row: Tensor) -> Score:
        return score_levels(id, row, self.levels)

    def _prediction(self, level_logp: Tensor) -> Prediction:
        return Prediction(value=expectation(level_logp.softmax(-1), self.levels.values), level_logp=level_logp)


def answer_logp(model: nn.Module, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
    """Runs the model's head on the last positions only, so that (B, T, V) logits never exist.

    Args:
        model: any causal multimodal model whose forward takes `logits_to_keep`.
        batch: of an Encoder; with `answer` (B, A) a training batch, without it a scoring batch.

    Returns:
        (B, A + 1, V) or (B, 1, V) float32 log-probabilities, and `answer`.
    """
    inputs = dict(batch)
    answer = inputs.pop("answer", None)
    keep = 1 if answer is None else answer.shape[1] + 1
    logits = answer_logits(model, inputs, keep)
    # float32: in half precision the score's third decimal depends on the batch size
    return logits.float().log_softmax(-1), answer


def answer_logits(model: nn.Module, inputs: Mapping[str, Any], keep: int) -> Tensor:
    """(B, keep, V) logits of the last positions; without a cache of keys and values, which nobody would read."""
    cache = {"use_cache": False} if _may_keep_cache(model) else {}
    logits: Tensor = model(**inputs, **cache, logits_to_keep=keep).logits
    return logits


def _may_keep_cache(model: Any) -> bool:
    """Whether the forward of a model, below its wrappers, knows `use_cache`."""
    inner = getattr(model, "module", model)  # of data-parallel wrappers
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner  # of adapters
    kind = type(inner)
    if kind not in _takes_cache:
        parameters = signature(kind.forward).parameters.values()
        _takes_cache[kind] = any(one.name == "use_cache" or one.kind == one.VAR_KEYWORD for one in parameters)
    return _takes_cache[kind]


def likelihood(logp: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood (B,) of each supervised answer, summed over its tokens, and their number (B,)."""
    supervised = answer != IGNORE  # (B, A)
    target = answer.masked_fill(~supervised, 0).unsqueeze(-1)
    token_logp = logp[:, :-1].gather(-1, target).squeeze(-1)  # (B, A)
    return -(token_logp * supervised).sum(-1), supervised.sum(-1)


def expectation(probs: Tensor, values: Sequence[float]) -> Tensor:
    """(..., K) probabilities -> (...) expected value, in float32 whatever the autocast."""
    with torch.autocast(probs.device.type, enabled=False):
        return probs.float() @ _values_on(tuple(values), probs.device)


@lru_cache(maxsize=16)
def _values_on(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Copied to a device once: each copy would wait for all that the device still has to do."""
    with torch.inference_mode(False):  # scoring may come first, and training use it later
        return torch.tensor(values, dtype=torch.float32, device=device)


def columns(logp: Tensor, ids: Sequence[int]) -> Tensor:
    """(B, V) -> (B, K); no tensor of ids, whose copy to a GPU would wait for all that the GPU still has to do."""
    return torch.stack([logp[:, number] for number in ids], dim=-1)
