"""Turns -> nano's inputs: tiles, and `<s> visual tokens, question <rater> stem [answer . </s>]`, left-padded.

Runs on the CPU in worker processes; picklable, the same result for the same turns. Knows no weights and no loss.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from q_align.errors import CheckpointError, LevelTokenError, QAlignError
from q_align.models.nano.tiles import NATIVE, Tile, split_into_tiles
from q_align.models.nano.tokenizer import BEGIN, END, IMAGE, PAD, RATER, special
from q_align.readout.encoder import IGNORE, left_pad
from q_align.types import MediaSpec, Turn

PROMPT = BEGIN + "{image}{question}" + RATER + "{stem}"


class NanoEncoder:
    """See `q_align.readout.encoder.Encoder`.

    Attributes:
        tile: side of a tile in pixels.
        tokens: visual tokens of one tile.
        native: tiles at native scale of one item; a video shares them among its frames.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        prompt: str = "",
        media: MediaSpec | None = None,
        tile: int,
        tokens: int,
        native: int = NATIVE,
    ) -> None:
        self.tokenizer = tokenizer
        self.prompt = prompt or PROMPT
        self.opens = self.stores = media or MediaSpec()
        self.tile, self.tokens, self.native = tile, tokens, native
        # the full stop follows the level word without a space
        self._end = [special(tokenizer, "."), special(tokenizer, END)]

    @classmethod
    def load(cls, folder: Path, *, prompt: str, media: MediaSpec, tile: int, tokens: int) -> NanoEncoder:
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the tokenizers library raises bare Exception for a broken file
            raise CheckpointError(f"{folder / 'tokenizer.json'}: cannot be read ({error})") from error
        return cls(tokenizer, prompt=prompt, media=media, tile=tile, tokens=tokens)

    def save(self, path: Path) -> None:
        self.tokenizer.save(str(Path(path) / "tokenizer.json"))

    def __call__(self, turns: Sequence[Turn]) -> dict[str, Tensor]:
        tiles = [self._look(turn) for turn in turns]
        prompts, answers = [], []
        for turn, seen in zip(turns, tiles, strict=True):
            before, after = self._prompt(turn, len(seen) * self.tokens)
            stem = self._ids(turn.stem)
            end = [] if turn.answer is None else [*self._word(turn.answer, turn.stem), *self._end]
            prompts.append(before + stem + after + end)
            answers.append(stem + after + end)
        batch = {
            "input_ids": left_pad(prompts, special(self.tokenizer, PAD)),
            "attention_mask": left_pad([[1] * len(row) for row in prompts], 0),
            **stack([tile for seen in tiles for tile in seen]),
        }
        bare = {turn.answer is None for turn in turns}
        assert len(bare) == 1, "a batch is all for training (answers given) or all for scoring (none given)"
        if not bare.pop():
            batch["answer"] = left_pad(answers, IGNORE)
        return batch

    def _look(self, turn: Turn) -> list[Tile]:
        count = len(turn.frames)
        native = max(1, self.native // count)
        times = [i / max(1, count - 1) for i in range(count)]
        return [
            t
            for frame, time in zip(turn.frames, times)
            for t in split_into_tiles(frame, self.tile, native=native, time=time)
        ]

    def _prompt(self, turn: Turn, visual: int) -> tuple[list[int], list[int]]:
        """Token ids before and after the stem."""
        before: list[int] = []
        ids = before
        for part in re.split(r"(\{image\}|\{question\}|\{stem\})", self.prompt):
            if part == "{image}":
                ids += [special(self.tokenizer, IMAGE)] * visual
            elif part == "{question}":
                asked = self._ids(turn.question)
                if special(self.tokenizer, IMAGE) in asked:
                    raise QAlignError(f"the question {turn.question!r} holds {IMAGE!r}, which stands for a frame")
                ids += asked
            elif part == "{stem}":
                ids = []
            elif part:
                ids += self._ids(part)
        return before, ids if ids is not before else []

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def _word(self, word: str, stem: str) -> list[int]:
        """Tokens of a word where the answer puts it: after the stem and a space, before the full stop."""
        head = self._ids(stem)
        ids = self._ids(f"{stem} {word}.")
        if ids[: len(head)] != head or ids[-1] != self._end[0]:
            raise LevelTokenError(f"{word!r} is not a token of its own after {stem!r} under nano's tokenizer")
        return ids[len(head) : -1]

    def level_tokens(self, words: Sequence[str], stem: str) -> tuple[tuple[int, ...], int]:
        """See `q_align.readout.encoder.Encoder.level_tokens`."""
        found = [self._word(word, stem) for word in words]
        for word, ids in zip(words, found):
            if len(ids) != 1:
                raise LevelTokenError(
                    f"level word {word!r} is {len(ids)} tokens under nano's tokenizer; choose a single common English "
                    f"word or a number from 0 to 100 (readout.words)"
                )
        level_ids = tuple(ids[0] for ids in found)
        if len(set(level_ids)) != len(level_ids):
            raise LevelTokenError(f"level words {', '.join(words)} share tokens {level_ids} (readout.words)")
        return level_ids, len(self._end)


def stack(tiles: Sequence[Tile]) -> dict[str, Tensor]:
    """Tiles of any size -> pixel_values (N, 3, S, S) uint8 padded at right and bottom, tile_size, tile_place."""
    height = max(tile.pixels.shape[0] for tile in tiles)
    width = max(tile.pixels.shape[1] for tile in tiles)
    pixels = np.zeros((len(tiles), height, width, 3), np.uint8)
    for row, tile in zip(pixels, tiles, strict=True):
        row[: tile.pixels.shape[0], : tile.pixels.shape[1]] = tile.pixels
    return {
        # a view: NHWC in memory, as the convolutions need it
        "pixel_values": torch.from_numpy(pixels).permute(0, 3, 1, 2),
        "tile_size": torch.tensor([tile.pixels.shape[:2] for tile in tiles]),
        "tile_place": torch.tensor([tile.place for tile in tiles]),
    }
