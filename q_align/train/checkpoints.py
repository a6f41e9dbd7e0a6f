"""Atomic checkpoints: written aside, renamed when complete, pruned to the best ones and the last.

A folder `checkpoint-N` is complete by construction; whatever a kill leaves behind is in PARTIAL, which nothing reads.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

from q_align.errors import TrainingError
from q_align.file_modes import apply_umask

PARTIAL = ".partial"
STATE = "trainer_state.json"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# torch's and safetensors' writers raise their own exceptions; only the text tells
DISK_FULL_TEXTS = (
    *("no space left", "os error 28", "file too large", "os error 27", "quota exceeded", "os error 122"),
    *("unexpected pos", "pytorchstreamwriter failed", "not enough space", "disk full", "disk is full"),
)


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, by rising step."""
    found = [p for p in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name) and p.is_dir()]
    return sorted(found, key=step_of)


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint to resume from."""
    return next(reversed(list_checkpoints(folder)), None)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1])


def trainer_state(checkpoint: Path) -> dict[str, Any]:
    """The trainer's own record: `global_step`, `max_steps`, `save_steps`, `log_history`, ..."""
    return json.loads((checkpoint / STATE).read_text(encoding="utf-8"))


def checkpoint_metrics(checkpoint: Path) -> dict[str, float]:
    """The metrics (`eval_...`) of the evaluation at the checkpoint's own step; {} where there was none."""
    lines = [line for line in trainer_state(checkpoint)["log_history"] if line["step"] == step_of(checkpoint)]
    return {key: value for line in lines for key, value in line.items() if key.startswith("eval_")}


def checkpoint_srcc(checkpoint: Path) -> float | None:
    """The validation SRCC of a checkpoint; None where it was not evaluated, or the SRCC is undefined."""
    value = checkpoint_metrics(checkpoint).get("eval_srcc")
    return None if value is None or math.isnan(value) else float(value)


def best_first(folder: Path) -> list[Path]:
    """The checkpoints by falling SRCC, later before earlier; those without an SRCC come last."""

    def key(path: Path) -> tuple[float, int]:
        srcc = checkpoint_srcc(path)
        return float("-inf") if srcc is None else srcc, step_of(path)

    return sorted(list_checkpoints(folder), key=key, reverse=True)


def staging_folder(folder: Path) -> Path:
    """An empty place for files that are not yet a checkpoint; what an earlier process left there is removed."""
    place = folder / PARTIAL
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place


def commit_checkpoint(staged: Path, folder: Path) -> Path:
    """Turns a staged checkpoint into a real one: flushes its files to the disk, then renames it in one step."""
    apply_umask(staged)
    for path in staged.rglob("*"):
        if path.is_file():
            _sync(path)
    target = folder / staged.name
    if target.exists():
        _discard(target)
    staged.replace(target)
    _sync(folder)
    return target


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Removes all but the `keep` best checkpoints and the last one."""
    kept = {*best_first(folder)[:keep], last_checkpoint(folder)}
    for checkpoint in list_checkpoints(folder):
        if checkpoint not in kept:
            _discard(checkpoint)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error of any library means that the disk, the quota or the largest file size is exhausted."""
    seen: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is None or one in seen:
            continue
        if isinstance(one, OSError) and one.errno in DISK_FULL:
            return True
        if any(part in str(one).lower() for part in DISK_FULL_TEXTS):
            return True
        seen.append(one)
        left += [one.__cause__, one.__context__]
    return False


def disk_full_error(folder: Path, step: int) -> TrainingError:
    """The error for a checkpoint that found no room; removes what was written of it."""
    staging_folder(folder)
    whole = last_checkpoint(folder)
    kept = f"last complete checkpoint: {whole.name}" if whole else "there is no checkpoint before it"
    return TrainingError(
        f"{folder}: disk full while saving step {step}; {kept}; free space or lower train.keep, then resume with "
        f"--train.resume true"
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
