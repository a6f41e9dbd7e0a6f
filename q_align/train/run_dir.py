"""The folder of a run: claimed before the start, resumed, and filled with the best model at the end.

A run folder holds config.yaml, checkpoints/, log_history.json, tensorboard/, and the best checkpoint's files at its
top, so that the folder itself is a model. Knows files only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from q_align.errors import ConfigError
from q_align.log import log
from q_align.models.card import FILE
from q_align.train.checkpoints import last

CHECKPOINTS = "checkpoints"
CONFIG = "config.yaml"
# Files of a checkpoint that serve resuming only; the published model goes without them.
RESUME_ONLY = (
    "optimizer",
    "scheduler",
    "rng_state",
    "trainer_state",
    "training_args",
    "scaler",
    "global_step",
    "latest",
    "zero_to_",
    "pytorch_model_fsdp",
)


def claim(output_dir: str, *, resume: bool) -> tuple[Path, Path | None]:
    """The run's folder, and the checkpoint to go on from.

    Raises:
        ConfigError: when no folder is named, or it holds another run and nobody said to resume it.
    """
    if not output_dir:
        raise ConfigError("train.output_dir is not set: name the folder of the run")
    output = Path(output_dir)
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output}: is a file; train.output_dir names a folder")
    start = None
    if output.is_dir() and any(output.iterdir()):
        start = last(output / CHECKPOINTS)
        if not resume:
            what = "continue it" if start else "begin it again (it has no checkpoint yet)"
            raise ConfigError(
                f"{output}: holds another run; give --train.resume true to {what}, or a new train.output_dir"
            )
        if start is None:
            log.info("%s: no checkpoint to resume from; starting from the beginning", output)
    return output, start


def report_changes(written: Path, text: str) -> None:
    """Says which settings a resumed run has changed: with others it may not end where it would have ended."""
    if not written.is_file():
        return
    before, now = (dict(_leaves(yaml.safe_load(t))) for t in (written.read_text(encoding="utf-8"), text))
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key) and key != "train.resume":
            log.info("resuming with another setting: %s was %s, is %s", key, before.get(key), now.get(key))


def _leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, dict) or not tree:
        yield prefix, tree
        return
    for key, value in tree.items():
        yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))


def write(path: Path, text: str) -> None:
    """Writes a file that is never seen half written."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def publish(checkpoint: Path, output: Path) -> None:
    """Puts the model files of a checkpoint at the top of the run folder (links where the disk allows it).

    The card goes away first and comes back last: a folder with a card is a whole model.
    """
    (output / FILE).unlink(missing_ok=True)
    for path in sorted(model_files(checkpoint), key=lambda p: p.name == FILE):
        target = output / path.relative_to(checkpoint)
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(target.name + ".new")
        fresh.unlink(missing_ok=True)
        link(path, fresh)
        fresh.replace(target)


def model_files(checkpoint: Path) -> list[Path]:
    """The files of a checkpoint that make it a model, without those that serve resuming only."""
    files = [p for p in sorted(checkpoint.rglob("*")) if p.is_file()]
    return [p for p in files if not p.relative_to(checkpoint).parts[0].startswith(RESUME_ONLY)]


def link(path: Path, target: Path) -> None:
    """A second name for a file; a copy on another file system, or one without links."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)
