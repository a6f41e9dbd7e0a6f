"""The one function that builds a Turn: for training, scoring, evaluation, the cluster and the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from q_align.models.card import ModelCard
from q_align.tasks import get_task
from q_align.types import Turn

if TYPE_CHECKING:
    import numpy as np


def build_turn(
    card: ModelCard,
    task: str,
    frames: list[Image.Image],
    *,
    question: str | None = None,
    video: bool = False,
    paraphrase: np.random.Generator | None = None,
) -> Turn:
    """What a model is asked about some frames.

    Args:
        card: of the model; its questions and stems go before the task's own.
        task: name of a task.
        frames: one for an image, several for a video; turns about the same list can be scored together.
        question: asked about this item alone; comes before all others.
        video: whether the frames belong to one video.
        paraphrase: draws one of the task's questions, for training; None, or a card with a question of its own: the
            question that scoring asks.

    Raises:
        ConfigError: for an unknown task.
    """
    asked, pool = card.question(task), get_task(task).questions
    if not question and paraphrase is not None and asked in pool and len(pool) > 1:
        question = str(paraphrase.choice(pool))
    return Turn(frames, question or asked, card.stem(task), video=video)
