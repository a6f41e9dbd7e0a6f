"""Images and videos that training could not read: counted over all processes and over a resume."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from q_align.errors import MediaError

FILE = "trainer_state_broken.json"  # in a checkpoint; serves resuming only


class BrokenItems:
    """The reasons, one per item, and the limit on their number.

    A process notices its own broken items at once and those of the others at `share`, which all processes call at the
    same points: when they log, evaluate or save.
    """

    def __init__(self, limit: int) -> None:
        """Args:
        limit: train.max_bad_media.
        """
        self.limit = limit
        self.reasons: dict[str, None] = {}  # an ordered set

    def add(self, reasons: Iterable[str]) -> None:
        """Raises:
        MediaError: when there are more than the limit allows.
        """
        self.reasons.update(dict.fromkeys(reasons))
        if len(self.reasons) > self.limit:
            allowed = f"{self.limit} allowed by train.max_bad_media"
            raise MediaError(f"{len(self.reasons)} unreadable items ({allowed}): {'; '.join(self.reasons)}")

    def share(self, gather: Any) -> None:
        """Joins those of all processes.

        Args:
            gather: collects a list of objects over all processes (`accelerate.utils.gather_object`).

        Raises:
            MediaError: as `add`, in every process.
        """
        self.add(gather(list(self.reasons)))

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(list(self.reasons), ensure_ascii=False, indent=1), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Continues with those that a checkpoint recorded.

        Raises:
            MediaError: when the limit is lower now than they are many.
        """
        if (folder / FILE).is_file():
            self.add(json.loads((folder / FILE).read_text(encoding="utf-8")))
