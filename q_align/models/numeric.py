"""Reading a model that was taught to say numbers ("The quality of the image is 3.4."), loss `numeric`.

Every number that can be said is put to the model as an answer, and its likelihood under the model weighs it: decoding
constrained to numbers, as an expectation instead of a guess (`Scorer` does so where the card says so). Works with any
Encoder and any model; costs as many answers per medium as there are numbers (41). Knows no tokenizer: a number may be
any number of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from q_align.levels import LevelScheme
from q_align.losses.base import Prediction
from q_align.models.encoder import Encoder
from q_align.types import Turn

# `ModelCard.about[ANSWERS]` of a model that was taught to say numbers.
ANSWERS, NUMBERS = "answers", "numbers"


class NumberEncoder:
    """An Encoder that turns each scoring turn into one answer per number, a medium's answers one after another.

    Attributes:
        encoder: the family's own.
        numbers: what can be said, lowest first.
    """

    def __init__(self, encoder: Encoder, scheme: LevelScheme) -> None:
        self.encoder = encoder
        self.numbers = tuple(scheme.number_texts())
        self.level_ids = encoder.level_ids
        self.tail = encoder.tail

    def __call__(self, turns: Sequence[Turn]) -> dict[str, Tensor]:
        return self.encoder([replace(turn, level=number) for turn in turns for number in self.numbers])

    def save(self, path: Path) -> None:
        self.encoder.save(path)


def read_numbers(prediction: Prediction, scheme: LevelScheme) -> Tensor:
    """What the model says about a batch of a `NumberEncoder`, as levels, so that it scores like any other model.

    Returns:
        (B, K) float32 log-probabilities: each number's share goes to the two levels beside it (`LevelScheme.linear`),
        so that the expected level is the expected number.
    """
    assert prediction.nll is not None, "a NumberEncoder's batches carry answers"
    numbers = torch.tensor([float(n) for n in scheme.number_texts()], dtype=torch.float64)
    shares = torch.as_tensor(scheme.linear(numbers.numpy())).float().to(prediction.nll)  # (N, K)
    weights = (-prediction.nll.view(-1, len(numbers))).softmax(-1)  # (B, N)
    # the smallest normal number instead of 0: a level without any share has a finite, negligible log-probability
    return (weights @ shares).clamp_min(torch.finfo(weights.dtype).tiny).log()
