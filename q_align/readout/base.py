"""What a readout is: how an answer is written for training, read from the model, and made a score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from q_align.levels import LevelScheme
from q_align.losses.base import Offer, Prediction
from q_align.readout.encoder import Encoder
from q_align.registry import Registry
from q_align.types import Score, Turn


@dataclass(frozen=True, slots=True)
class ReadoutSpec:
    """The part of a checkpoint's card that says how its answers are read.

    Attributes:
        kind: "levels", "numbers", "head", or one that was registered.
        levels: the level scale, and its words; a head and numbers use it to name a score.
    """

    kind: str = "levels"
    levels: LevelScheme = field(default_factory=LevelScheme)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> ReadoutSpec:
        """Reads `{kind, words, values}`.

        Raises:
            TypeError, ValueError: for other keys and for levels that make no sense.
        """
        words = {key: value for key, value in record.items() if key != "kind"}
        return cls(str(record.get("kind", "levels")), LevelScheme(**words))

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "words": list(self.levels.words), "values": list(self.levels.values)}


class Readout(Protocol):
    """One kind of answer.

    Attributes:
        kind: its name in a card.
        levels: the level scale that values are on.
        offers: what its predictions hold for losses: "value", "level_logp", "answer".
        shares: whether several questions about the same frames are read together (`share`).
        module: name of the module that holds weights of its own inside the model; "" where it has none.
    """

    kind: str
    levels: LevelScheme
    offers: frozenset[Offer]
    shares: bool
    module: str

    def encode(
        self, turns: Sequence[Turn], mos: np.ndarray | None = None, *, validating: bool = False
    ) -> dict[str, Any]:
        """A batch of model inputs. Runs on the CPU, in worker processes.

        Args:
            turns: B questions about frames, without answers.
            mos: (B,) on the level scale: writes the answers to train on. None: a batch to score.
            validating: with `mos`: the batch must also be read as scoring reads it.
        """
        ...

    def share(self, turns: Sequence[Turn], questions: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """A batch of several questions (question, stem) about the same frames; only where `shares`."""
        ...

    def read(self, model: nn.Module, batch: Mapping[str, Any]) -> Prediction:
        """Runs the model on a batch on its device; the only code that touches its output."""
        ...

    def rows(self, prediction: Prediction) -> Tensor:
        """(B, R) float32 of B answers, or (B, n, R) of n shared questions: all that `values` and `to_score` need."""
        ...

    def values(self, rows: np.ndarray) -> np.ndarray:
        """(N, R) rows -> (N,) values on the level scale; higher is better."""
        ...

    def to_score(self, id: str, row: Tensor) -> Score:
        """One row (R,) -> a score; an error where the model gives no finite number."""
        ...

    def attach(self, model: nn.Module, folder: Path | None) -> None:
        """Puts `module` on a model, with the weights of a checkpoint folder, or new ones; does nothing without one."""
        ...

    def load(self, model: nn.Module, folder: Path) -> None:
        """Reads the weights of `module` from a checkpoint folder into a model that has it."""
        ...

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Writes the weights of `module` from a model's state into a checkpoint folder; returns the rest."""
        ...


class PlainReadout:
    """The parts of a readout that has no weights of its own and shares no prompts."""

    kind = ""
    offers: frozenset[Offer] = frozenset()
    shares = False
    module = ""

    def __init__(self, levels: LevelScheme, encoder: Encoder, stems: tuple[str, ...] = ()) -> None:
        self.levels, self.encoder, self.stems = levels, encoder, stems

    def share(self, turns: Sequence[Turn], questions: Sequence[tuple[str, str]]) -> dict[str, Any]:
        raise AssertionError(f"readout {self.kind!r} shares no questions")

    def attach(self, model: nn.Module, folder: Path | None) -> None:
        """Nothing to attach."""

    def load(self, model: nn.Module, folder: Path) -> None:
        """Nothing to load."""

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(state)


def score_levels(id: str, level_logp: Tensor, levels: LevelScheme) -> Score:
    """Level log-probabilities (K,), float32 -> a score: the expected level (Q-Align, section 3.4)."""
    logp = level_logp.double()
    probs = logp.softmax(-1).numpy()  # (K,)
    mass = float(logp.exp().sum())
    if not torch.isfinite(logp).all():
        return Score(id, error=NO_NUMBER)
    return Score(
        id,
        value=float(levels.expect(probs)),
        level=levels.words[int(probs.argmax())],
        probs=tuple(float(p) for p in probs),
        std=float(levels.std(probs)),
        mass=min(mass, 1.0),
    )


def expect_levels(level_logp: np.ndarray, levels: LevelScheme) -> np.ndarray:
    """(N, K) level log-probabilities -> (N,) expected levels."""
    logp = np.asarray(level_logp, dtype=np.float64)
    probs = np.exp(logp - np.logaddexp.reduce(logp, axis=-1, keepdims=True))
    return np.asarray(levels.expect(probs))


NO_NUMBER = "the model gives no finite number for it"
MakeReadout = Callable[[LevelScheme, Encoder, tuple[str, ...]], Readout]
READOUTS: Registry[MakeReadout] = Registry("readout", "q_align.readouts", key="readout.kind")
