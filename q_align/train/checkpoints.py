"""Checkpoints that are whole or absent: staged aside, renamed when complete, pruned to the best ones and the last.

A folder `checkpoint-N` is complete by construction; whatever a kill leaves behind lies in PARTIAL, where nothing looks.
Knows files and the trainer's own record of a checkpoint; no model.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from itertools import groupby
from pathlib import Path

from q_align.errors import TrainingError

PARTIAL = ".partial"
STATE = "trainer_state.json"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# torch's and safetensors' writers raise kinds of their own; the text is all that tells
NO_ROOM_WORDS = ("No space left", "os error 28", "File too large", "os error 27", "quota exceeded", "os error 122")


def complete(folder: Path) -> list[Path]:
    """The checkpoints of a run, by rising step."""
    found = [p for p in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name) and p.is_dir()]
    return sorted(found, key=step_of)


def last(folder: Path) -> Path | None:
    """The checkpoint to resume from."""
    return next(reversed(complete(folder)), None)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1])


def metric_of(checkpoint: Path, metric: str = "eval_srcc") -> float | None:
    """What the evaluation at the checkpoint's own step found; None where there was none."""
    history = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["log_history"]
    found = [line[metric] for line in history if line["step"] == step_of(checkpoint) and metric in line]
    return float(found[-1]) if found else None


def ranked(folder: Path) -> list[Path]:
    """The checkpoints, best first: by SRCC, later before earlier; those without an evaluation come last."""

    def key(path: Path) -> tuple[float, int]:
        metric = metric_of(path)
        return float("-inf") if metric is None else metric, step_of(path)

    return sorted(complete(folder), key=key, reverse=True)


def stage(folder: Path) -> Path:
    """An empty place for files that are not yet a checkpoint; what an earlier process left there is removed."""
    place = folder / PARTIAL
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place


def finish(staged: Path, folder: Path) -> Path:
    """Makes a staged checkpoint one that counts: its bytes reach the disk, then it gets its name in one step."""
    for path in staged.rglob("*"):
        if path.is_file():
            _sync(path)
    target = folder / staged.name
    if target.exists():
        _discard(target)
    staged.replace(target)
    _sync(folder)
    return target


def ends(folder: Path, count: int, length: int) -> list[Path]:
    """The last `count` checkpoints of every run of `length` steps, by rising step."""
    runs = groupby(complete(folder), key=lambda checkpoint: (step_of(checkpoint) - 1) // length)
    return [checkpoint for _, run in runs for checkpoint in list(run)[-count:]]


def prune(folder: Path, keep: int, recent: int, length: int) -> None:
    """Removes all but the `keep` best checkpoints and the `recent` last ones of every run of `length` steps."""
    spared = {*ranked(folder)[:keep], *ends(folder, recent, length)}
    for checkpoint in complete(folder):
        if checkpoint not in spared:
            _discard(checkpoint)


def no_room(error: BaseException) -> bool:
    """Whether an error of any library says that the disk, the quota or the file size is at its end."""
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return True
    texts = [str(error), str(error.__cause__ or ""), str(error.__context__ or "")]
    return any(word in text for word in NO_ROOM_WORDS for text in texts)


def full(folder: Path, step: int) -> TrainingError:
    """The error for a checkpoint that found no room; what it had written is given back."""
    stage(folder)
    whole = last(folder)
    kept = f"{whole.name} is kept" if whole else "there was none before it"
    return TrainingError(
        f"{folder}: no room for the checkpoint of step {step}; {kept}; free some space (or lower train.keep) and go on "
        f"with --train.resume true"
    )


def _discard(checkpoint: Path) -> None:
    # renamed first: a kill in the middle of the removal must not leave half a checkpoint under its name
    bin_ = checkpoint.parent / PARTIAL / f"old-{checkpoint.name}"
    bin_.parent.mkdir(exist_ok=True)
    shutil.rmtree(bin_, ignore_errors=True)
    checkpoint.replace(bin_)
    shutil.rmtree(bin_, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
