"""From labelled rows to training batches: open, augment, ask, encode. Runs in the loader's worker processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from q_align.data.augment import augment
from q_align.data.labels import LevelLabels
from q_align.data.questions import question_kind
from q_align.errors import LevelTokenError, MediaError
from q_align.media import open_frames
from q_align.media.image import one_line
from q_align.models.card import ModelCard
from q_align.models.prompting import build_turn
from q_align.readout import Readout
from q_align.tasks import get_task
from q_align.types import MediaSpec, Sample, Turn

# Stands for an item that could not be read; its row adds nothing to the loss.
BLANK = (64, 64)


@dataclass(slots=True)
class RatedItem:
    """A row of a data set, opened.

    Attributes:
        source: index of the row's group (set and task) among `RatedDataset.names`.
        index: position in the data set.
        turn: what is encoded; a grey image in place of one that could not be read.
        training: whether it is augmented and drawn for training; else it is validated as scoring would read it.
        error: why it could not be read.
    """

    sample: Sample
    source: int
    index: int
    turn: Turn
    training: bool
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How items are shown and asked about when training: the paraphrase, the mirror image, the crop."""

    paraphrase: bool = True
    flip: bool = True
    crop: int | None = None
    seed: int = 0


def source_groups(sets: Sequence[LevelLabels]) -> tuple[list[str], np.ndarray]:
    """Names of the groups within which ratings are comparable (one set, one task), and each row's group (N,)."""
    names: list[str] = []
    groups = []
    for labels in sets:
        tasks, kind = np.unique(labels.column("task").astype(str), return_inverse=True)
        groups.append(kind + len(names))
        names += [labels.source] if len(tasks) == 1 else [f"{labels.source}_{task}" for task in tasks]
    return names, np.concatenate(groups)


class RatedDataset(Dataset[RatedItem]):
    """Labelled sets, one after the other, as opened images and videos with their questions.

    An item is named by `draw = epoch_draw * len + index` (see `q_align.data.epoch_sampler`), so that the same row asks
    another question and shows another crop each time it is drawn, the same in every run and under any number of
    workers.
    """

    def __init__(
        self,
        sets: Sequence[LevelLabels],
        card: ModelCard,
        spec: MediaSpec,
        augmentation: Augmentation | None = None,
        *,
        read: Callable[..., Any] | None = None,
    ) -> None:
        """Args:
        sets: labelled sets.
        card: questions and stems of the model.
        spec: how images and videos are opened (see `Encoder.opens` and `Encoder.stores`).
        augmentation: None when validating: the scoring question, whole frames.
        read: opens files, in place of `open_frames` (see `q_align.data.frame_cache`).
        """
        self.sets = [labels.on(card.levels) for labels in sets]
        self.card, self.spec, self.augmentation, self.read = card, spec, augmentation, read
        self.ends = np.cumsum([len(labels) for labels in sets])
        self.names, self.groups = source_groups(self.sets)  # (N,) index into `names`
        self.questions = [question_kind(labels) for labels in self.sets]

    def __len__(self) -> int:
        return int(self.ends[-1])

    def own_question(self, index: int, sample: Sample) -> str | None:
        """The row's question where scoring asks it too; None where scoring asks the card's."""
        questions = self.questions[self._set_of(index)]
        own = sample.question if questions.kind == "items" else questions.of_task.get(sample.task)
        return own if own and own != self.card.question(sample.task) else None

    def _set_of(self, index: int) -> int:
        return int(np.searchsorted(self.ends, index, side="right"))

    def sample(self, index: int) -> Sample:
        which = self._set_of(index)
        start = self.ends[which] - len(self.sets[which])
        return self.sets[which][int(index - start)]

    def __getitem__(self, draw: int) -> RatedItem:
        epoch_draw, index = divmod(draw, len(self))
        sample = self.sample(index)
        video = get_task(sample.task).modality == "video"
        error = None
        try:
            frames, _ = (self.read or open_frames)(sample.media, self.spec, video=video)
        except MediaError as reason:
            # counted by the trainer, up to train.max_bad_media
            error, frames = str(reason), [Image.new("RGB", BLANK, "gray")]
        rng = None
        show = self.augmentation
        if show is not None:
            rng = np.random.default_rng((show.seed, epoch_draw, index))
            if video and self.spec.pool != "model":
                # scores of single frames are pooled: a frame at a time is what the model must learn
                frames = [frames[int(rng.integers(len(frames)))]]
            frames = augment(frames, rng, flip=show.flip, crop=show.crop)
        elif video and self.spec.pool != "model":
            frames = [frames[len(frames) // 2]]
        paraphrase = rng if show is not None and show.paraphrase else None
        question = self.own_question(index, sample) or (sample.question if paraphrase is not None else None)
        turn = build_turn(self.card, sample.task, frames, question=question, video=video, paraphrase=paraphrase)
        return RatedItem(sample, int(self.groups[index]), index, turn, show is not None, error)


class Collator:
    """Opened rows -> one batch: model inputs, `targets`, positions, and what could not be read.

    An unreadable item keeps its row, with a grey image that adds nothing to the loss (`usable` is False): batches have
    the same number of rows in every process, whatever is broken where. What the encoder refuses is unreadable too.
    """

    def __init__(self, readout: Readout) -> None:
        self.readout = readout

    def __call__(self, rows: Sequence[RatedItem]) -> dict[str, Any]:
        """Encodes all rows; `broken` is the list of reasons why some could not be read."""
        try:
            inputs = self._encode(rows)
        except LevelTokenError:
            raise
        except Exception:
            rows = [self._checked(row) for row in rows]
            inputs = self._encode(rows)
        batch: dict[str, Any] = {
            "index": torch.tensor([row.index for row in rows]),
            "usable": torch.tensor([row.error is None for row in rows]),
            "broken": [row.error for row in rows if row.error is not None],
            "targets": self.targets(rows),
        }
        return batch | inputs

    def _encode(self, rows: Sequence[RatedItem]) -> dict[str, Any]:
        mos = np.array([row.sample.mos for row in rows])
        return self.readout.encode([row.turn for row in rows], mos, validating=not rows[0].training)

    def _checked(self, row: RatedItem) -> RatedItem:
        """The row as it is, or with a grey image and the encoder's reason for refusing it."""
        try:
            self._encode([row])
        except Exception as error:
            grey = replace(row.turn, frames=[Image.new("RGB", BLANK, "gray")])
            return replace(row, turn=grey, error=f"{row.sample.id or row.index}: {one_line(error)}")
        return row

    def targets(self, rows: Sequence[RatedItem]) -> dict[str, torch.Tensor]:
        """Fields of `q_align.losses.base.Targets`; a plain dictionary, so that loaders can move it."""
        levels = self.readout.levels
        mos = np.array([row.sample.mos for row in rows])
        std = np.array([np.nan if row.sample.std is None else row.sample.std for row in rows])
        probs = levels.soft(mos, std)
        for i, row in enumerate(rows):
            if row.sample.votes is not None:
                probs[i] = row.sample.votes
        return {
            "level": torch.as_tensor(levels.hard(mos), dtype=torch.long),
            "probs": torch.as_tensor(probs, dtype=torch.float32),
            "mos": torch.as_tensor(mos, dtype=torch.float32),
            "std": torch.as_tensor(std, dtype=torch.float32),
            "source": torch.tensor([row.source for row in rows]),
            "values": torch.tensor(levels.values, dtype=torch.float32),
        }
