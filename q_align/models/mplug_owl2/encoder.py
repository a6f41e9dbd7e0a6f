"""Images and questions -> mPLUG-Owl2's inputs, as the published program makes them. Runs in worker processes.

A frame is padded to a square with the mean colour, resized bicubically and normalised. The prompt is cut at its
{image}; each chunk is tokenised on its own, and only the first one opens with BOS. The one placeholder of an item is
written out as Q + 1 visual tokens per frame, so that lengths and positions are fixed here. Knows no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from q_align.errors import CheckpointError, LevelTokenError, require
from q_align.models.mplug_owl2.configuration import IMAGE_TOKEN
from q_align.readout.encoder import IGNORE, left_pad
from q_align.types import MediaSpec

if TYPE_CHECKING:
    from q_align.types import Turn

# The published scorer's layout; training uses it too, so that the scoring prompt is a prefix of the training text.
PROMPT = "USER: {question}\n{image}\nASSISTANT: {stem}"
BOS, EOS = 1, 2


@dataclass(frozen=True, slots=True)
class Pixels:
    """How a frame becomes numbers: side in pixels, mean and standard deviation per channel (of values in 0..1)."""

    size: int = 448
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)

    def table(self) -> np.ndarray:
        """(3, 256) float32: the normalised value of each byte, channel by channel."""
        bytes_ = (np.arange(256) * (1 / 255)).astype(np.float32)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return (bytes_[None] - mean[:, None]) / std[:, None]

    def __call__(self, frame: Image.Image) -> np.ndarray:
        """One RGB frame of any size -> (3, size, size) float32."""
        square = pad_square(frame.convert("RGB"), tuple(int(m * 255) for m in self.mean))
        array = np.asarray(square.resize((self.size, self.size), Image.Resampling.BICUBIC))
        return np.stack([row[array[..., channel]] for channel, row in enumerate(self.table())])


def pad_square(image: Image.Image, colour: tuple[int, ...]) -> Image.Image:
    """Centres an image (by floor) on a square of that colour; a square image stays as it is."""
    width, height = image.size
    if width == height:
        return image
    side = max(width, height)
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square


@dataclass
class OwlEncoder:
    """The Encoder of mPLUG-Owl2; see `q_align.readout.encoder.Encoder`.

    Attributes:
        tokenizer: content of the checkpoint's `tokenizer.model`.
        frame_tokens: visual tokens per frame.
        prompt: template of {question}, {image} (once) and {stem} (last).
        opens: how images and videos are opened; every frame is scaled to one size here.
        files: other tokenizer and processor files of the checkpoint, written again by `save`.
    """

    tokenizer: bytes
    frame_tokens: int
    prompt: str = PROMPT
    opens: MediaSpec = field(default_factory=MediaSpec)
    pixels: Pixels = field(default_factory=Pixels)
    files: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        before, image, after = self.prompt.partition("{image}")
        if not image or "{image}" in after or not after.endswith("{stem}") or "{question}" not in self.prompt:
            raise CheckpointError(
                f"prompt {self.prompt!r}: needs {{question}}, one {{image}} and a final {{stem}} (card.prompt)"
            )
        self._sp: Any = None
        self._before, self._after = before, after

    @property
    def stores(self) -> MediaSpec:
        return self.opens

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sp": None}  # the tokenizer is built again in each worker process

    def __call__(self, turns: Sequence[Turn]) -> dict[str, Tensor]:
        """B turns -> input_ids, attention_mask (B, T), pixel_values (frames of all turns, 3, S, S); see `Encoder`."""
        rows = [self.text_ids(turn.question, turn.stem, turn.answer, frames=len(turn.frames)) for turn in turns]
        frames = [self.pixels(frame) for turn in turns for frame in turn.frames]
        batch = {
            "input_ids": left_pad([ids for ids, _ in rows], 0),
            "attention_mask": left_pad([[1] * len(ids) for ids, _ in rows], 0),
            "pixel_values": torch.from_numpy(np.stack(frames)),
        }
        if any(turn.answer is not None for turn in turns):
            batch["answer"] = left_pad([answer for _, answer in rows], IGNORE)
        return batch

    def text_ids(self, question: str, stem: str, answer: str | None, *, frames: int) -> tuple[list[int], list[int]]:
        """Token ids of one sequence, and of the supervised answer at its end (empty when scoring)."""
        if frames < 1:
            raise ValueError("a turn without frames cannot be encoded")
        before = [BOS, *self._ids(self._before.replace("{question}", question))]
        opening = self._after.replace("{question}", question)  # ends with {stem}
        after = self._ids(opening.replace("{stem}", stem) + ("" if answer is None else f" {answer}."))
        visual = [IMAGE_TOKEN] * (self.frame_tokens * frames)
        if answer is None:
            return [*before, *visual, *after], []
        # the answer begins where the tokens of the bare prompt end
        start = _common(after, self._ids(opening.removesuffix("{stem}").rstrip(" ")))
        return [*before, *visual, *after, EOS], [*after[start:], EOS]

    def save(self, path: Path) -> None:
        for name, content in {"tokenizer.model": self.tokenizer, **self.files}.items():
            (Path(path) / name).write_bytes(content)

    def _ids(self, text: str) -> list[int]:
        if self._sp is None:
            module = require("sentencepiece", extra="legacy")
            self._sp = module.SentencePieceProcessor(model_proto=self.tokenizer)
        return self._sp.encode(text)

    def level_tokens(self, words: Sequence[str], stem: str) -> tuple[tuple[int, ...], int]:
        """See `q_align.readout.encoder.Encoder.level_tokens`."""
        opening = self._after.replace("{question}", "").replace("{stem}", stem)
        base = self._ids(opening)
        level_ids, tails = [], set()
        for word in words:
            word_ids, closed = self._ids(f"{opening} {word}"), self._ids(f"{opening} {word}.")
            added = word_ids[len(base) :]
            if word_ids[:-1] != base or closed[: len(word_ids)] != word_ids:
                raise LevelTokenError(
                    f"level word {word!r} after {stem!r} is {len(added)} tokens under this tokenizer; choose words "
                    f"that are one token there, such as excellent, good, fair, poor, bad (readout.words)"
                )
            tails.add(len(closed) - len(word_ids) + 1)
            level_ids.append(word_ids[-1])
        if len(set(level_ids)) != len(level_ids) or len(tails) != 1:
            raise LevelTokenError(
                f"level words {', '.join(words)} are not distinct tokens (readout.words): {level_ids}"
            )
        return tuple(level_ids), tails.pop()


def _common(a: list[int], b: list[int]) -> int:
    """Length of the common beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
