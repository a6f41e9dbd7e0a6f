"""From labelled rows to training batches: open, augment, ask, encode. Runs in the loader's worker processes.

The scoring prompt of the same card is a prefix of what is built here. Knows no model weights and no loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from q_align.data.augment import augment
from q_align.data.labels import Labels
from q_align.errors import MediaError
from q_align.levels import LevelScheme
from q_align.media import open_frames
from q_align.models.card import ModelCard
from q_align.models.encoder import Encoder
from q_align.models.families import to_open
from q_align.tasks import TASKS
from q_align.types import Sample, Turn

# Stands for a medium that could not be read; its row counts nothing.
BLANK = (64, 64)


@dataclass(slots=True)
class RatedItem:
    """A row of a data set, opened.

    Attributes:
        source: index of the row's group (set and task) among `RatedDataset.names`.
        index: position in the data set.
        turn: what is encoded; a grey picture in place of a medium that could not be read.
        error: why it could not be read.
    """

    sample: Sample
    source: int
    index: int
    turn: Turn
    error: str | None = None


@dataclass(slots=True)
class Asking:
    """How media are shown and asked about when training."""

    paraphrase: bool = True
    flip: bool = True
    crop: int | None = None
    seed: int = 0


class RatedDataset(Dataset[RatedItem]):
    """Labelled sets, one after the other, as opened media with their questions and answers.

    An item is named by `draw = turn * len + index` (see `q_align.data.epoch_sampler`), so that the same row asks
    another question and shows another crop each time its turn comes, the same in every run and under any number of
    workers.
    """

    def __init__(
        self,
        sets: Sequence[Labels],
        card: ModelCard,
        answer: Callable[[float], str],
        asking: Asking | None = None,
        *,
        read: Callable[..., Any] | None = None,
    ) -> None:
        """Args:
        sets: labelled sets.
        card: questions, stems and media budget of the model.
        answer: the word (or text) that completes the stem for a MOS on the level scale.
        asking: None when evaluating: the scoring question, whole frames.
        read: opens media, in place of `open_frames` (see `q_align.data.frame_cache`).
        """
        self.sets = list(sets)
        self.card = card
        self.spec = to_open(card.family, card.media)
        self.answer = answer
        self.asking = asking
        self.read = read
        self.ends = np.cumsum([len(labels) for labels in sets])
        # opinions are compared within one set and one task only
        self.names: list[str] = []
        groups = []
        for labels in sets:
            tasks, kind = np.unique(labels.column("task").astype(str), return_inverse=True)
            groups.append(kind + len(self.names))
            self.names += [labels.source] if len(tasks) == 1 else [f"{labels.source}_{task}" for task in tasks]
        self.groups = np.concatenate(groups)  # (N,) index into `names`

    def __len__(self) -> int:
        return int(self.ends[-1])

    def sample(self, index: int) -> Sample:
        which = int(np.searchsorted(self.ends, index, side="right"))
        start = self.ends[which] - len(self.sets[which])
        return self.sets[which][int(index - start)]

    def __getitem__(self, draw: int) -> RatedItem:
        turn_of, index = divmod(draw, len(self))
        sample = self.sample(index)
        task = TASKS[sample.task]
        error = None
        try:
            frames, _ = (self.read or open_frames)(sample.media, self.spec, video=task.medium == "video")
        except MediaError as reason:
            # reported by the trainer, up to train.max_bad_media
            error, frames = str(reason), [Image.new("RGB", BLANK, "gray")]
        question = self.card.question(sample.task)
        if self.asking is not None:
            rng = np.random.default_rng((self.asking.seed, turn_of, index))
            frames = augment(frames, rng, flip=self.asking.flip, crop=self.asking.crop)
            if sample.question:
                question = sample.question
            elif self.asking.paraphrase:
                question = str(rng.choice(task.questions))
        stem = self.card.stem(sample.task)
        turn = Turn(frames, question, stem, self.answer(sample.mos), video=task.medium == "video")
        return RatedItem(sample, int(self.groups[index]), index, turn, error)


class Collator:
    """Opened rows -> one training batch: model inputs, `targets`, positions, and what could not be read.

    An unreadable medium keeps its row, with a grey picture that teaches nothing (`usable` is False): batches have the
    same number of rows in every process, whatever is broken where.
    """

    def __init__(self, encoder: Encoder, scheme: LevelScheme, *, numbers_at_once: int | None = None) -> None:
        """Args:
        encoder: of the model.
        scheme: the levels.
        numbers_at_once: to validate a model that says numbers: `readings` of a batch has, for every row, all
            numbers as answers, so many in one encoded batch (see `q_align.models.numeric`).
        """
        self.encoder = encoder
        self.scheme = scheme
        self.numbers_at_once = numbers_at_once

    def __call__(self, rows: Sequence[RatedItem]) -> dict[str, Any]:
        """Encodes all rows; `broken` is the list of reasons why some could not be read."""
        batch: dict[str, Any] = self.encoder([row.turn for row in rows])
        batch["targets"] = self.targets(rows)
        batch["index"] = torch.tensor([row.index for row in rows])
        batch["usable"] = torch.tensor([row.error is None for row in rows])
        batch["broken"] = [row.error for row in rows if row.error is not None]
        if self.numbers_at_once:
            batch["readings"] = [self._readings(row.turn, self.numbers_at_once) for row in rows]
        return batch

    def _readings(self, turn: Turn, at_once: int) -> list[dict[str, torch.Tensor]]:
        numbers = self.scheme.number_texts()
        parts = [numbers[i : i + at_once] for i in range(0, len(numbers), at_once)]
        return [self.encoder([replace(turn, level=number) for number in part]) for part in parts]

    def targets(self, rows: Sequence[RatedItem]) -> dict[str, torch.Tensor]:
        """Fields of `q_align.losses.base.Targets`; a plain dictionary, so that loaders can move it."""
        mos = np.array([row.sample.mos for row in rows])
        std = np.array([np.nan if row.sample.std is None else row.sample.std for row in rows])
        probs = self.scheme.soft(mos, std)
        for i, row in enumerate(rows):
            if row.sample.votes is not None:
                probs[i] = row.sample.votes
        return {
            "level": torch.as_tensor(self.scheme.hard(mos), dtype=torch.long),
            "probs": torch.as_tensor(probs, dtype=torch.float32),
            "mos": torch.as_tensor(mos, dtype=torch.float32),
            "std": torch.as_tensor(std, dtype=torch.float32),
            "source": torch.tensor([row.source for row in rows]),
            "values": torch.tensor(self.scheme.values, dtype=torch.float32),
        }
