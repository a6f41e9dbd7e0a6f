"""Numbers: the model completes the stem with the score as text ("3.4"), the baseline of the Q-Align paper.

Every number that can be answered is given to the model as an answer, weighted by its likelihood: decoding
constrained to numbers, as an expectation instead of a guess. A number may be any number of tokens, so this works with
any encoder; it costs as many sequences per item as there are numbers (41).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from q_align.losses.base import Offer, Prediction
from q_align.readout.base import READOUTS, PlainReadout, expect_levels, score_levels
from q_align.readout.level_words import answer_logp, expectation, likelihood
from q_align.types import Score, Turn

AT_ONCE = 8  # sequences per forward pass


@READOUTS.register("numbers")
class Numbers(PlainReadout):
    """See `q_align.readout.base.Readout`. Trained with the loss `hard`, the next-token loss over the answer."""

    kind = "numbers"
    offers: frozenset[Offer] = frozenset({"answer"})

    def encode(
        self, turns: Sequence[Turn], mos: np.ndarray | None = None, *, validating: bool = False
    ) -> dict[str, Any]:
        texts = self.levels.number_texts()
        said = [] if mos is None else [texts.index(self.levels.format_number(value)) for value in mos]
        if mos is not None and not validating:
            return self.encoder([replace(turn, answer=texts[index]) for turn, index in zip(turns, said, strict=True)])
        asked = [replace(turn, answer=text) for turn in turns for text in texts]
        parts = [asked[start : start + AT_ONCE] for start in range(0, len(asked), AT_ONCE)]
        batch: dict[str, Any] = {"parts": [self.encoder(part) for part in parts]}
        return batch | ({"said": torch.tensor(said)} if mos is not None else {})

    def read(self, model: nn.Module, batch: Mapping[str, Any]) -> Prediction:
        if "parts" not in batch:
            logp, answer = answer_logp(model, batch)
            assert answer is not None, "a training batch carries answers"
            nll, tokens = likelihood(logp, answer)
            return Prediction(nll=nll, tokens=tokens)
        texts = self.levels.number_texts()
        found = [self._read_part(model, part) for part in batch["parts"]]
        nll = torch.cat([nll for nll, _ in found]).view(-1, len(texts))  # (B, N)
        weights = (-nll).softmax(-1)
        # each number's probability goes to the two levels beside it, so that the expected level is the expected number
        shares = (
            torch.as_tensor(self.levels.linear(np.array([float(text) for text in texts]))).float().to(nll)
        )  # (N, K)
        # the smallest normal number instead of 0: a level without any share has a finite, negligible log-probability
        level_logp = (weights @ shares).clamp_min(torch.finfo(weights.dtype).tiny).log()
        prediction = Prediction(value=expectation(level_logp.softmax(-1), self.levels.values), level_logp=level_logp)
        if "said" in batch:
            said = batch["said"].unsqueeze(-1)
            tokens = torch.cat([tokens for _, tokens in found]).view(-1, len(texts))
            prediction.nll, prediction.tokens = nll.gather(-1, said)[:, 0], tokens.gather(-1, said)[:, 0]
        return prediction

    def rows(self, prediction: Prediction) -> Tensor:
        assert prediction.level_logp is not None
        return prediction.level_logp

    def values(self, rows: np.ndarray) -> np.ndarray:
        return expect_levels(rows, self.levels)

    def to_score(self, id: str, row: Tensor) -> Score:
        return score_levels(id, row, self.levels)

    def _read_part(self, model: nn.Module, part: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        logp, answer = answer_logp(model, part)
        assert answer is not None, "every number is an answer"
        return likelihood(logp, answer)
