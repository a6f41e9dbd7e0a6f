"""The sizes of a nano network. Plain data, so that scoring needs no transformers; `NanoConfig` wraps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class NanoShape:
    """Attributes:
    vocab_size: rows of the embedding and of the output head.
    channels: width of each vision stage; the first one runs at full resolution, each next one halves it.
    blocks: residual blocks after each stage.
    tones: width of the branch on single pixels for tones and colours; 0: none.
    hidden, layers, heads, mlp: the decoder.
    tile: largest side of a tile in pixels.
    pool: each tile becomes pool x pool visual tokens.
    image_id: token id that marks one visual token.
    """

    vocab_size: int
    channels: tuple[int, ...] = (16, 32, 48, 96, 160)
    blocks: tuple[int, ...] = (0, 0, 0, 1, 2)
    tones: int = 0
    hidden: int = 128
    layers: int = 2
    heads: int = 4
    mlp: int = 320
    tile: int = 224
    pool: int = 2
    image_id: int = 3

    @property
    def statistics(self) -> int:
        """Numbers that describe a region of a tile: mean and spread of each feature."""
        return 2 * (sum(self.channels[1:]) + self.tones)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> NanoShape:
        """Takes the fields it knows out of a config.json."""
        known = {f.name: record[f.name] for f in fields(cls) if f.name in record}
        sizes: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in known.items()}
        return cls(**sizes)
