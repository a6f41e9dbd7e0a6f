"""What a caller may pass to a scorer, made uniform: named items and names of tasks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from q_align.types import Item

AUTO = "auto"  # vqa for a video, iqa for an image
_logged: set[str] = set()


def task_names(task: str | Sequence[str] | None) -> tuple[str, ...]:
    """The tasks that a call asks for; None: `AUTO`."""
    return (AUTO,) if task is None else (task,) if isinstance(task, str) else tuple(task)


def name_item(media: Any, number: int, task: str | Sequence[str] | None) -> tuple[Item, tuple[str, ...]]:
    """An item with its id (its path, else its position) and the tasks that are asked about it."""
    if not isinstance(media, Item):
        named = isinstance(media, (str, os.PathLike))
        media = Item(os.fspath(media) if named else str(number), media)
    return media, (media.task,) if media.task else task_names(task)


def log_once(write: Callable[[str], None], message: str) -> None:
    """Logs a message once per process."""
    if message not in _logged:
        _logged.add(message)
        write(message)
