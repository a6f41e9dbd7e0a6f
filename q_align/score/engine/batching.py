"""What travels through the engine: an input with its turns and rows, and the parts that batches are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from torch import Tensor

from q_align.types import Turn

T = TypeVar("T")
Batch = dict[str, Any]
Rows = Callable[[], Tensor]  # waits for the (B, R) float32 rows of a batch, on the CPU
Forward = Callable[[Batch], Rows]  # starts the model on a batch of B turns


class EncodingError(Exception):
    """The encoder failed on an item of a batch; `__cause__` is the reason."""


@dataclass(slots=True, eq=False)
class Loaded(Generic[T]):
    """One input on its way through.

    Attributes:
        item: what was asked for, handed back as it came.
        turns: what is encoded; emptied once the model has run on them.
        lengths: tokens of each turn, where the encoder counts them.
        rows: (R,) output of the readout for each turn, in the order of the turns.
        error: why it could not be loaded, encoded or scored.
        warning: a remark on an item that was read in part.
        note: whatever `load` hands on.
    """

    item: T
    turns: list[Turn | None] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    rows: list[Tensor | None] = field(default_factory=list)
    error: BaseException | None = None
    warning: str | None = None
    note: Any = None

    @property
    def done(self) -> bool:
        return self.error is not None or (len(self.rows) > 0 and all(row is not None for row in self.rows))

    @property
    def pixels(self) -> int:
        return sum(f.width * f.height for turn in self.turns if turn is not None for f in turn.frames)


@dataclass(slots=True)
class Part:
    """One turn of an input, or several that ask about the same frames: what batches are made of."""

    owner: Loaded[Any]
    numbers: tuple[int, ...]

    @property
    def turn(self) -> Turn:
        turn = self.owner.turns[self.numbers[0]]
        assert turn is not None, "a turn is scored once"
        return turn

    @property
    def questions(self) -> tuple[tuple[str, str], ...]:
        """Question and stem of each turn, where there are several; a batch asks the same of all its items."""
        turns = [self.owner.turns[number] for number in self.numbers]
        return tuple((turn.question, turn.stem) for turn in turns if turn is not None) if len(turns) > 1 else ()

    @property
    def tokens(self) -> int:
        """Length of its sequence; 0 where the encoder does not count."""
        return self.owner.lengths[self.numbers[0]] if self.owner.lengths else 0

    @property
    def size(self) -> tuple[int, int, int, int]:
        """Tokens, frames, pixels, letters: turns of like size make sequences of like length."""
        frames = self.turn.frames
        return self.tokens, len(frames), sum(f.width * f.height for f in frames), len(self.turn.question)


def parts_of(loaded: Loaded[Any], *, joint: bool) -> list[Part]:
    """The parts of an input: one per turn, or jointly all turns in a row that ask about the same frames."""
    groups: list[list[int]] = []
    for number, turn in enumerate(loaded.turns):
        assert turn is not None, "an input that was just loaded"
        before = loaded.turns[groups[-1][0]] if groups else None
        if joint and before is not None and before.frames is turn.frames:
            groups[-1].append(number)
        else:
            groups.append([number])
    return [Part(loaded, tuple(group)) for group in groups]


def store_rows(parts: list[Part], rows: Rows) -> None:
    for part, row in zip(parts, rows()):
        for number, one in zip(part.numbers, row if len(part.numbers) > 1 else (row,)):
            part.owner.rows[number] = one
