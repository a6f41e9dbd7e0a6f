"""The Encoder seam: turns -> a left-padded batch of model inputs. Runs on the CPU, in worker processes.

Positions are counted from the end. A scoring sequence ends with the stem ("... quality of the image is"); a training
sequence ends with `stem | answer . eos`. Whatever number of visual tokens a family inserts, the answer is predicted at
a fixed index from the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from q_align.types import MediaSpec, Turn

IGNORE = -100
Batch = dict[str, Tensor]


class Encoder(Protocol):
    """Turns into model inputs; picklable, stateless between calls.

    An encoder that can cut its prompts behind the frames also has `shares` (true) and `share`
    (see `q_align.readout.shared_prefix`); one that counts tokens beforehand has `length(turn) -> int`.
    """

    @property
    def opens(self) -> MediaSpec:
        """How images and videos are opened for it, in training and in scoring alike.

        An encoder that scales frames itself needs them at full size: its `max_pixels` is None.
        """
        ...

    @property
    def stores(self) -> MediaSpec | None:
        """The same for frames that are stored ahead of it (a cache, reduced-scale decoding).

        Never more pixels than it uses; None where it needs the whole image.
        """
        ...

    @property
    def prompt(self) -> str:
        """The layout that it fills in, with {image}, {question} and {stem}; it travels in the card."""
        ...

    def __call__(self, turns: Sequence[Turn]) -> Batch:
        """Encodes B turns, all for training (`answer` given) or all for scoring (`answer` None).

        Returns:
            The keyword arguments of the model's forward, left-padded, with `attention_mask` (B, T). Training turns add
            `answer` (B, A) long: the last A tokens with `IGNORE` before the supervised answer, which is
            `stem answer . eos`. It is for the readout, never for the model.
        """
        ...

    def level_tokens(self, words: Sequence[str], stem: str) -> tuple[tuple[int, ...], int]:
        """Ids of level words behind a stem, and the number of tokens that follow a word in training (". eos": 2).

        Raises:
            LevelTokenError: when a word is not a single token there, or two words share one.
        """
        ...

    def save(self, path: Path) -> None:
        """Writes tokenizer and image processor files into a checkpoint folder."""
        ...


def left_pad(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Ragged rows -> (B, max length) long, right-aligned, `fill` in front."""
    width = max(len(row) for row in rows)
    return torch.tensor([[fill] * (width - len(row)) + list(row) for row in rows], dtype=torch.long)
