"""From labelled rows to training batches: open, augment, ask, encode. Runs in the loader's worker processes.

The scoring prompt of the same card is a prefix of what is built here. Knows no model weights and no loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from q_align.data.augment import augment
from q_align.data.labels import Labels
from q_align.errors import MediaError
from q_align.levels import LevelScheme
from q_align.media import open_frames
from q_align.model.card import ModelCard
from q_align.model.encode import Encoder
from q_align.tasks import TASKS
from q_align.types import Sample, Turn


@dataclass(slots=True)
class Rated:
    """A row of a data set, opened: the turn to encode, or why its medium could not be read.

    Attributes:
        source: index of the set among the data set's sets.
        index: position in the data set.
    """

    sample: Sample
    source: int
    index: int
    turn: Turn | None
    error: str | None = None


@dataclass(slots=True)
class Asking:
    """How media are shown and asked about when training."""

    paraphrase: bool = True
    flip: bool = True
    crop: int | None = None
    seed: int = 0


class RatedMedia(Dataset[Rated]):
    """Labelled sets, one after the other, as opened media with their questions and answers.

    An item is named by `draw = epoch * len + index`, so that the same row asks another question and shows another
    crop in every epoch, the same in every run and under any number of workers.
    """

    def __init__(
        self, sets: Sequence[Labels], card: ModelCard, answer: Callable[[float], str], asking: Asking | None = None
    ) -> None:
        """Args:
        sets: labelled sets.
        card: questions, stems and media budget of the model.
        answer: the word (or text) that completes the stem for a MOS on the level scale.
        asking: None when evaluating: the scoring question, whole frames.
        """
        self.sets = list(sets)
        self.card = card
        self.answer = answer
        self.asking = asking
        self.ends = np.cumsum([len(labels) for labels in sets])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def source_of(self, index: int) -> int:
        return int(np.searchsorted(self.ends, index, side="right"))

    def sample(self, index: int) -> Sample:
        source = self.source_of(index)
        start = self.ends[source] - len(self.sets[source])
        return self.sets[source][int(index - start)]

    def __getitem__(self, draw: int) -> Rated:
        epoch, index = divmod(draw, len(self))
        sample = self.sample(index)
        task = TASKS[sample.task]
        source = self.source_of(index)
        try:
            frames, _ = open_frames(sample.media, self.card.media, video=task.medium == "video")
        except MediaError as error:
            # reported by the trainer, up to train.max_bad_media
            return Rated(sample, source, index, None, str(error))
        question = self.card.question(sample.task)
        if self.asking is not None:
            rng = np.random.default_rng((self.asking.seed, epoch, index))
            frames = augment(frames, rng, flip=self.asking.flip, crop=self.asking.crop)
            if sample.question:
                question = sample.question
            elif self.asking.paraphrase:
                question = str(rng.choice(task.questions))
        stem = self.card.stem(sample.task)
        turn = Turn(frames, question, stem, self.answer(sample.mos), video=task.medium == "video")
        return Rated(sample, source, index, turn)


class Collator:
    """Opened rows -> one training batch: model inputs, `targets`, positions, and what could not be read."""

    def __init__(self, encoder: Encoder, scheme: LevelScheme) -> None:
        self.encoder = encoder
        self.scheme = scheme

    def __call__(self, rows: Sequence[Rated]) -> dict[str, Any]:
        """Encodes the readable rows; the others travel as `broken`, a list of reasons."""
        broken = [row.error for row in rows if row.error]
        good = [row for row in rows if row.turn is not None]
        if not good:
            return {"broken": broken}
        batch: dict[str, Any] = self.encoder([row.turn for row in good if row.turn is not None])
        batch["targets"] = self.targets(good)
        batch["index"] = torch.tensor([row.index for row in good])
        batch["broken"] = broken
        return batch

    def targets(self, rows: Sequence[Rated]) -> dict[str, torch.Tensor]:
        """Fields of `q_align.syllabus.base.Targets`; a plain dictionary, so that loaders can move it."""
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
