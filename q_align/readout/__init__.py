"""How a model's answer is written and read, by the kind that its card names: levels, numbers or head.

A readout is the only code that touches a model's output. Training, scoring, evaluation and the cluster call its three
methods and know nothing of words, numbers or heads. Another kind registers itself:
`@READOUTS.register("my_kind")` (see docs/extending.md).
"""

from __future__ import annotations

from collections.abc import Iterable

from q_align.readout.base import READOUTS, Readout, ReadoutSpec
from q_align.readout.encoder import Encoder
from q_align.readout.head import Head
from q_align.readout.level_words import LevelWords
from q_align.readout.numbers import Numbers

__all__ = ["READOUTS", "Head", "LevelWords", "Numbers", "Readout", "ReadoutSpec", "make_readout"]


def make_readout(spec: ReadoutSpec, encoder: Encoder, stems: Iterable[str]) -> Readout:
    """The readout that a card describes.

    Args:
        spec: its kind and levels.
        encoder: of the model.
        stems: openings of the answers of all tasks of the card; what is written is checked behind each of them.

    Raises:
        ConfigError: for an unknown kind.
        LevelTokenError: when the level words are not single, distinct tokens behind every stem.
    """
    readout: Readout = READOUTS[spec.kind](spec.levels, encoder, tuple(dict.fromkeys(stems)))
    return readout
