"""Level log-probabilities -> a score (Q-Align, section 3.4). Knows numbers; no model, no media."""

from __future__ import annotations

import torch
from torch import Tensor

from q_align.levels import LevelScheme
from q_align.types import Score


def to_score(id: str, level_logp: Tensor, levels: LevelScheme) -> Score:
    """Level log-probabilities (K,), float32 -> a score; an error where the model gives no number."""
    logp = level_logp.double()
    probs = logp.softmax(-1).numpy()  # (K,)
    mass = float(logp.exp().sum())
    if not torch.isfinite(logp).all():
        return Score(id, error="the model gives no finite number for it")
    return Score(
        id,
        value=float(levels.expect(probs)),
        level=levels.words[int(probs.argmax())],
        probs=tuple(float(p) for p in probs),
        std=float(levels.std(probs)),
        mass=min(mass, 1.0),
    )
