"""The Encoder seam: turns -> a left-padded batch of model inputs. Runs on the CPU, in worker processes.

Positions are counted from the end. A scoring sequence ends with the stem ("... quality of the image is"); a training
sequence ends with `stem | level . eos`. Whatever number of visual tokens a family inserts, the level word is predicted
at a fixed index from the end. Knows no model weights, no loss, no data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from q_align.types import Turn

IGNORE = -100


class Encoder(Protocol):
    """Turns into model inputs; picklable, stateless between calls.

    Attributes:
        level_ids: K distinct token ids, one per level word (best first), checked at the real answer position.
        tail: number of tokens that follow the level word in a training sequence (". eos": 2).
    """

    level_ids: tuple[int, ...]
    tail: int

    def __call__(self, turns: Sequence[Turn]) -> dict[str, Tensor]:
        """Encodes B turns, all for training (level given) or all for scoring (level None).

        Returns:
            The keyword arguments of the model's forward, left-padded, with `attention_mask` (B, T). Training turns add
            `answer` (B, A) long: the last A tokens with `IGNORE` before the supervised answer, which is
            `stem level . eos`. It is for `predict`, never for the model.
        """
        ...

    def save(self, path: Path) -> None:
        """Writes tokenizer and image processor files into a checkpoint folder."""
        ...


def left_pad(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Ragged rows -> (B, max length) long, right-aligned, `fill` in front."""
    width = max(len(row) for row in rows)
    return torch.tensor([[fill] * (width - len(row)) + list(row) for row in rows], dtype=torch.long)
