"""The classes of the original Q-Align package, over `Scorer`: same calls, same results, any model of ours.

The interface is that of Q-Align's `scorer.py` and of the `score` method of its published models (Wu et al., 2024).
Differences: any image mode, and videos of different lengths in one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from q_align.errors import ConfigError
from q_align.media import open_frames
from q_align.score.scorer import Scorer
from q_align.types import Item, MediaSpec

if TYPE_CHECKING:
    from q_align.types import Frame

ONE_ALIGN = "q-future/one-align"
ASPECTS = {"quality": "iqa", "aesthetics": "iaa"}


def load_video(video_file: str | Path) -> list[Any]:
    """Frames of a video at one per second, as PIL images; at least one, with no upper limit.

    Raises:
        MediaError: when it cannot be read.
    """
    frames, _ = open_frames(video_file, MediaSpec(max_frames=2**31), video=True)
    return frames


class QAlignScorer:
    """Image quality. Called with a list of images, returns a 1-D float32 tensor in 0 (bad) .. 1 (excellent).

    Args:
        pretrained: model folder, id of a published model, or "nano".
        device: None: the best one available.
        dtype: see `Scorer.from_pretrained`.
        scorer: a loaded one, instead of the above.
    """

    task = "iqa"

    def __init__(
        self,
        pretrained: str | Path = ONE_ALIGN,
        device: str | torch.device | None = None,
        *,
        dtype: str = "auto",
        scorer: Scorer | None = None,
    ) -> None:
        if scorer is None:
            scorer = Scorer.from_pretrained(pretrained, device=device, dtype=dtype)
        self.scorer = scorer

    def __call__(self, media: Sequence[Frame] | Sequence[Sequence[Frame]]) -> Tensor:
        """Scores images, or videos as lists of frames: (B,) float32 in 0..1, on the model's device.

        Raises:
            MediaError: when one of them cannot be read.
        """
        levels = self.scorer.card.levels
        return (self._values(media, self.task) - levels.low) / (levels.high - levels.low)

    forward = __call__

    def score(self, images: Sequence[Any], task_: str = "quality", input_: str = "image") -> Tensor:
        """As `score` of the published models: (B,) float32 on the level scale, 1 (bad) to 5 (excellent).

        Args:
            images: images, or with input_="video" lists of frames.
            task_: "quality" or "aesthetics".
            input_: "image" or "video".

        Raises:
            ConfigError: for another task or input, or the aesthetics of a video.
        """
        if task_ not in ASPECTS or input_ not in ("image", "video") or (task_, input_) == ("aesthetics", "video"):
            raise ConfigError(
                f"cannot score task_={task_!r} of input_={input_!r}; there are quality of "
                "image or video, and aesthetics of image"
            )
        return self._values(images, "vqa" if input_ == "video" else ASPECTS[task_])

    def _values(self, media: Sequence[Any], task: str) -> Tensor:
        items = (Item(str(number), one) for number, one in enumerate(media))
        values = [score.value for score in self.scorer.stream(items, task, on_error="raise")]
        return torch.tensor(values, dtype=torch.float32, device=self.scorer.device)  # (B,)


class QAlignAestheticScorer(QAlignScorer):
    """Image aesthetics; otherwise as `QAlignScorer`."""

    task = "iaa"


class QAlignVideoScorer(QAlignScorer):
    """Video quality; called with a list of lists of frames (see `load_video`)."""

    task = "vqa"
