"""Turns -> inputs of any transformers image-text-to-text model: prompt by its chat template, pixels by its processor.

Left-padded; a scoring sequence ends exactly with the stem, a training sequence with `stem | answer . end`, built from
the same tokens. Frames of a video are images one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from q_align.errors import LevelTokenError, QAlignError
from q_align.media.image import shrink
from q_align.models.chat.answer import StemTokens, level_tokens, stem_tokens
from q_align.models.chat.pixel_budget import boxes, budget
from q_align.models.chat.prompt import Layout
from q_align.models.families import Chat
from q_align.readout.encoder import IGNORE, left_pad
from q_align.readout.shared_prefix import QUESTION
from q_align.types import MediaSpec, Turn

# Columns with one entry per token, which grow with the answer.
PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


def opens(media: MediaSpec) -> MediaSpec:
    """Whole frames: the encoder scales them, so that there is one resize instead of two, and crops are native."""
    return replace(media, max_pixels=None)


@dataclass
class ChatEncoder:
    """See `q_align.readout.encoder.Encoder`. Picklable; what it remembers between calls are stems it looked up.

    Attributes:
        processor: a transformers processor without a video part (`processor.load_processor`).
        layout: the prompt as text.
        media: the pixel budget; frames above it are scaled down here, however they were opened.
        chat: facts of the family.
        end: the token that ends a turn.
        files: processor files of the checkpoint, written again by `save`.
        shares: whether several questions about the same frames can share their prompt (`share`).
    """

    processor: Any
    layout: Layout
    media: MediaSpec
    chat: Chat
    end: str
    files: Mapping[str, str] = field(default_factory=dict)
    stems: dict[str, StemTokens] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.options, self.shrinks = dict(self.chat.images), False
        if self.media.max_pixels is not None:
            settings, self.shrinks = budget(self.processor.image_processor, self.media.max_pixels)
            self.options |= settings
        self.shares = self._parts()

    @property
    def prompt(self) -> str:
        return self.layout.text

    @property
    def opens(self) -> MediaSpec:
        return opens(self.media)

    @property
    def stores(self) -> MediaSpec | None:
        return None if self.media.tiles else self.media

    def __call__(self, turns: Sequence[Turn]) -> dict[str, Tensor]:
        """See `Encoder.__call__`."""
        answered = [turn.answer is not None for turn in turns]
        assert all(answered) or not any(answered), "a batch is for training or for scoring"
        stems = [self.stem(turn.stem) for turn in turns]
        rows = [list(stem.ids) for stem in stems]
        if all(answered):
            for row, turn in zip(rows, turns):
                row += self._answer(turn)
        batch = self._close(self.open(turns), rows, [stem.drop for stem in stems])
        if all(answered):
            batch["answer"] = left_pad(rows, IGNORE)  # (B, A)
        return batch

    def open(self, turns: Sequence[Turn]) -> dict[str, Any]:
        """The prompts up to the stem: ragged lists of tokens, and the tensors of their frames."""
        frames = [self._views(turn) for turn in turns]
        texts = [self._text(turn, len(images)) for turn, images in zip(turns, frames)]
        if self.chat.alone:
            parts = [self._process([text], [images]) for text, images in zip(texts, frames)]
            return {
                name: [row for part in parts for row in part[name]]
                if name in PER_TOKEN
                else torch.cat([part[name] for part in parts])
                for name in parts[0]
            }
        return self._process(texts, frames)

    def _process(self, texts: list[str], frames: list[list[Image.Image]]) -> dict[str, Any]:
        # padded later, not by the tokenizer: switching its padding on and off is not safe in several threads
        batch = self.processor(
            text=texts,
            images=frames,
            text_kwargs={"padding": False, "add_special_tokens": False},
            images_kwargs={**self.options, "return_tensors": "pt"},
        )
        return {name: value for name, value in batch.items() if name in PER_TOKEN or isinstance(value, Tensor)}

    def share(self, turns: Sequence[Turn], questions: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
        """Prompts cut behind their frames (see `q_align.readout.shared_prefix`); only where `shares`.

        Args:
            turns: the frames; their own questions are ignored.
            questions: (question, stem) pairs, the same for all turns.

        Returns:
            Model inputs up to the end of the frames, and `question_0`, ... (S,): ids of each question and its stem.
        """
        assert self.shares, "this family does not encode frames apart from the question"
        batch = self.open([replace(turn, question=questions[0][0], stem=questions[0][1]) for turn in turns])
        rests = [self._ids(self._behind(question)) for question, _ in questions]
        prefix = self._close(batch, [[] for _ in turns], [len(rests[0])] * len(turns))
        for number, (rest, (_, text)) in enumerate(zip(rests, questions)):
            stem = self.stem(text)
            prefix[f"{QUESTION}{number}"] = torch.tensor([*rest[: len(rest) - stem.drop], *stem.ids])
        return prefix

    def _parts(self) -> bool:
        """Whether prompts can be cut behind their frames: image first, attention causal, tokens that part there."""
        before, _, behind = self.layout.text.partition("{image}")
        if not self.chat.shares or "{question}" in before or "{question}" not in behind:
            return False
        probe = Turn([Image.new("RGB", (64, 48))], "What?", "")
        row, rest = self.open([probe])["input_ids"][0], self._ids(self._behind("What?"))
        return bool(row[len(row) - len(rest) :] == rest)

    def _behind(self, question: str) -> str:
        return self.layout.opening(question, 0).removeprefix(self.layout.text.partition("{image}")[0])

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
        # the count of native-resolution processors knows the budget under its older names only
        size = self.options.get("size", {})
        older = {"min_pixels": size.get("shortest_edge"), "max_pixels": size.get("longest_edge")}
        older = older if "shortest_edge" in size else {}
        return tokens + int(sum(count(image_sizes=sizes, **self.options, **older).num_image_tokens))

    def stem(self, text: str) -> StemTokens:
        """Tokens of a stem behind the prompt, looked up once."""
        if text not in self.stems:
            self.stems[text] = stem_tokens(self._ids, self.layout.opening("", 0), self.layout.glue + text)
        return self.stems[text]

    def level_tokens(self, words: Sequence[str], stem: str) -> tuple[tuple[int, ...], int]:
        """See `q_align.readout.encoder.Encoder.level_tokens`."""
        return level_tokens(self._ids, self.layout.opening("", 0), self.layout.glue + stem, words, self.end)

    def save(self, path: Path) -> None:
        """Writes tokenizer and processor files, as the checkpoint that training started from had them."""
        self.processor.tokenizer.save_pretrained(path)
        for name, text in self.files.items():
            (Path(path) / name).write_text(text, encoding="utf-8")

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _boxes(self, turn: Turn, size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
        """Views of one frame; native crops only of a photograph, where the card asks for them."""
        tiles = 0 if turn.video or len(turn.frames) > 1 else self.media.tiles
        return boxes(size, self.media.max_pixels or size[0] * size[1], tiles)

    def _views(self, turn: Turn) -> list[Image.Image]:
        """The images that the processor gets: frames and crops, scaled down where it does not do so itself."""
        images = [
            frame if box == (0, 0, *frame.size) else frame.crop(box)
            for frame in turn.frames
            for box in self._boxes(turn, frame.size)
        ]
        return [shrink(image, self.media.max_pixels) if self.shrinks else image for image in images]

    def _text(self, turn: Turn, frames: int) -> str:
        if self.layout.frame and self.layout.frame in turn.question:
            raise QAlignError(f"the question {turn.question!r} holds {self.layout.frame!r}, which marks a frame")
        return self.layout.opening(turn.question, frames).removesuffix(self.chat.appends)

    def _answer(self, turn: Turn) -> list[int]:
        """Tokens of an answer behind its stem, with the full stop and the end of the turn."""
        prompt = self.layout.opening("", 0) + self.layout.glue + turn.stem
        before, whole = self._ids(prompt), self._ids(f"{prompt} {turn.answer}.{self.end}")
        if whole[: len(before)] != before:
            raise LevelTokenError(
                f"answer {turn.answer!r} changes the tokens of its stem {turn.stem!r} under this tokenizer; choose "
                "other level words (readout.words)"
            )
        return whole[len(before) :]

    def _close(self, batch: dict[str, Any], rows: list[list[int]], drops: list[int]) -> dict[str, Tensor]:
        """Puts the answers' tokens behind the prompts, and pads on the left."""
        for name in PER_TOKEN:
            if name not in batch:
                continue
            fill = {"attention_mask": 1, "token_type_ids": self.chat.answer_type}.get(name, 0)
            whole = [
                [*kept[: len(kept) - drop], *(row if name == "input_ids" else [fill] * len(row))]
                for kept, row, drop in zip(batch[name], rows, drops)
            ]
            batch[name] = left_pad(whole, self.processor.tokenizer.pad_token_id if name == "input_ids" else 0)
        return batch
