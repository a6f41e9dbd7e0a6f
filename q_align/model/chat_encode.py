"""Turns -> inputs of any transformers image-text-to-text model: prompt by its chat template, pixels by its processor.

Left-padded; a scoring sequence ends exactly with the stem, a training sequence with `stem | level . end`, built from
the same tokens. Frames of a video are pictures one after the other. Knows no model weights, no loss, no data set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from q_align.errors import QAlignError
from q_align.media.image import shrink
from q_align.model.chat_answer import Answer, resolve
from q_align.model.chat_budget import BUDGETS, boxes
from q_align.model.chat_prompt import Layout
from q_align.model.encode import left_pad
from q_align.model.families import Chat
from q_align.tasks import TASKS
from q_align.types import MediaSpec, Turn

# Columns with one entry per token, which grow with the answer.
PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


@dataclass
class ChatEncoder:
    """See `q_align.model.encode.Encoder`. Picklable; what it remembers between calls are answers it looked up.

    Attributes:
        processor: a transformers processor without a video part (`chat_processor.load_processor`).
        layout: the prompt as text.
        words: level words, best first.
        media: the pixel budget; frames above it are scaled down here, however they were opened.
        chat: facts of the family.
        end: the token that ends a turn.
        files: processor files of the checkpoint, written again by `save`.
    """

    processor: Any
    layout: Layout
    words: tuple[str, ...]
    media: MediaSpec
    chat: Chat
    end: str
    files: Mapping[str, str] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.options, self.shrinks = dict(self.chat.images), False
        if self.media.max_pixels is not None:
            budget, self.shrinks = BUDGETS[self.chat.budget](self.processor.image_processor, self.media.max_pixels)
            self.options |= budget
        first = self.answer(next(iter(TASKS.values())).stem)
        self.level_ids, self.tail = first.levels, len(first.tail)

    def __call__(self, turns: Sequence[Turn]) -> dict[str, Tensor]:
        """See `Encoder.__call__`."""
        taught = [turn.level is not None for turn in turns]
        assert all(taught) or not any(taught), "a batch is for training or for scoring"
        answers = [self.answer(turn.stem) for turn in turns]
        batch = self.open(turns)
        rows = [list(answer.stem) for answer in answers]
        if all(taught):
            for row, answer, turn in zip(rows, answers, turns):
                row += [answer.levels[self._rank(turn)], *answer.tail]
        batch = self._append(batch, rows, [answer.drop for answer in answers])
        if all(taught):
            batch["answer"] = left_pad(rows, -100)  # (B, A)
        return batch

    def open(self, turns: Sequence[Turn]) -> dict[str, Tensor]:
        """The prompts up to the stem, with their frames: what `__call__` puts the answer behind."""
        frames = [self._views(turn) for turn in turns]
        texts = [self._text(turn, len(pictures)) for turn, pictures in zip(turns, frames)]
        batch = self.processor(
            text=texts, images=frames, padding=True, return_tensors="pt", add_special_tokens=False, **self.options
        )
        # PaliGemma's processor always adds labels of its own
        return {name: value for name, value in batch.items() if name != "labels" and isinstance(value, Tensor)}

    def length(self, turn: Turn) -> int:
        """About how many tokens the turn becomes, from the sizes of its frames alone: for batches of similar length."""
        tokens = len(turn.question) // 4 + 24
        views = [box for frame in turn.frames for box in self._boxes(turn, frame.size)]
        sizes = [(bottom - top, right - left) for left, top, right, bottom in views]
        count = getattr(self.processor, "_get_num_multimodal_tokens", None)
        if count is None:
            return tokens + sum(height * width for height, width in sizes) // 28**2
        if self.shrinks and self.media.max_pixels:
            # only the proportions matter to the count, as far as the budget is not exceeded
            ratio = [min(1.0, self.media.max_pixels / (height * width)) ** 0.5 for height, width in sizes]
            sizes = [(max(1, int(h * r)), max(1, int(w * r))) for (h, w), r in zip(sizes, ratio)]
        return tokens + int(sum(count(image_sizes=sizes, **self.options).num_image_tokens))

    def answer(self, stem: str) -> Answer:
        """Tokens of a stem and of the level words behind it, checked at their first use.

        Raises:
            LevelTokenError: see `chat_answer.resolve`.
        """
        if stem not in self.answers:
            opening = self.layout.opening("", 0)
            tokenizer = self.processor.tokenizer
            self.answers[stem] = resolve(
                lambda text: tokenizer(text, add_special_tokens=False)["input_ids"],
                opening,
                self.layout.glue + stem,
                self.words,
                self.end,
            )
        return self.answers[stem]

    def save(self, path: Path) -> None:
        """Writes tokenizer and processor files, as the checkpoint that training started from had them."""
        self.processor.tokenizer.save_pretrained(path)
        for name, text in self.files.items():
            (Path(path) / name).write_text(text, encoding="utf-8")

    def _boxes(self, turn: Turn, size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
        """Views of one frame; native crops only of a photograph, where the card asks for them."""
        tiles = 0 if turn.video or len(turn.frames) > 1 else self.media.tiles
        return boxes(size, self.media.max_pixels or size[0] * size[1], tiles)

    def _views(self, turn: Turn) -> list[Image.Image]:
        """The pictures that the processor gets: frames and crops, scaled down where it does not do so itself."""
        pictures = [
            frame if box == (0, 0, *frame.size) else frame.crop(box)
            for frame in turn.frames
            for box in self._boxes(turn, frame.size)
        ]
        return [shrink(picture, self.media.max_pixels) if self.shrinks else picture for picture in pictures]

    def _text(self, turn: Turn, frames: int) -> str:
        if self.layout.frame and self.layout.frame in turn.question:
            raise QAlignError(f"the question {turn.question!r} holds {self.layout.frame!r}, which stands for a frame")
        return self.layout.opening(turn.question, frames).removesuffix(self.chat.appends)

    def _rank(self, turn: Turn) -> int:
        if turn.level not in self.words:
            raise QAlignError(f"level {turn.level!r} is none of {', '.join(self.words)} (levels.words)")
        return self.words.index(turn.level)

    def _append(self, batch: dict[str, Tensor], rows: list[list[int]], drops: list[int]) -> dict[str, Tensor]:
        """Puts the answers' tokens behind the prompts; rows of different stems stay aligned at the end."""
        old, mask = batch["input_ids"], batch["attention_mask"]
        fills = {"input_ids": self.processor.tokenizer.pad_token_id}
        for name in PER_TOKEN:
            if name not in batch:
                continue
            whole = []
            for i, (row, drop) in enumerate(zip(rows, drops)):
                kept = batch[name][i, old.shape[1] - int(mask[i].sum()) : old.shape[1] - drop].tolist()
                added = {
                    "input_ids": row,
                    "attention_mask": [1] * len(row),
                    "token_type_ids": [self.chat.answer_type] * len(row),
                }
                whole.append(kept + added.get(name, [0] * len(row)))
            batch[name] = left_pad(whole, fills.get(name, 0))
        return batch
