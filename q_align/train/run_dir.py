"""The folder of a run: prepared before the start, resumed, and filled with the final model at the end.

It holds config.yaml, split.csv, checkpoints/, log_history.json, tensorboard/, and the files of the best checkpoint at
its top, so that the folder itself is a model.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from q_align.data.labels import Labels
from q_align.errors import ConfigError
from q_align.log import log
from q_align.models.card import FILE
from q_align.score.write_lock import OutputLock, is_lock_file, lock_output
from q_align.train.checkpoints import last_checkpoint

LOCK_SECONDS = 15.0  # loader workers of a killed run hold its lock for some seconds
CHECKPOINTS = "checkpoints"
CONFIG = "config.yaml"
HISTORY = "log_history.json"
SPLIT = "split.csv"
BROKEN = "broken_media.json"
# Of a run: these are not part of the model beside them.
RUN_ONLY = (CHECKPOINTS, CONFIG, HISTORY, SPLIT, BROKEN, "tensorboard", "wandb")
# Of a checkpoint: files that serve resuming only; the published model does not contain them.
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


def lock_run_dir(output_dir: str) -> OutputLock | None:
    """Locks the folder of a run in the first of its processes; the predecessor of a requeued job gets time to end.

    Raises:
        ConfigError: when another process is writing there.
    """
    if not output_dir or os.environ.get("RANK", "0") != "0" or Path(output_dir).is_file():
        return None
    return lock_output(output_dir, folder=True, wait=LOCK_SECONDS)


def prepare_run_dir(output_dir: str, *, resume: bool) -> tuple[Path, Path | None]:
    """The run's folder, and the checkpoint to resume from.

    Raises:
        ConfigError: when no folder is named, or it holds another run and train.resume is not set.
    """
    if not output_dir:
        raise ConfigError("train.output_dir is not set: name the folder of the run")
    output = Path(output_dir)
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output}: is a file; train.output_dir names a folder")
    start = None
    if output.is_dir() and any(not is_lock_file(path.name) for path in output.iterdir()):
        start = last_checkpoint(output / CHECKPOINTS)
        if not resume:
            what = "continue it" if start else "begin it again (it has no checkpoint yet)"
            raise ConfigError(
                f"{output}: holds another run; set train.resume (--train.resume true, resume=True) to {what}, "
                "or a new train.output_dir"
            )
        if start is None:
            log.info("%s: no checkpoint to resume from; starting from the beginning", output)
    return output, start


def record_start(output: Path, config: str, training: Sequence[Labels], validation: Sequence[Labels]) -> None:
    """Writes and logs the configuration (YAML) and the data of a run, before its first step."""
    output.mkdir(parents=True, exist_ok=True)
    report_changes(output / CONFIG, config)
    write_atomically(output / CONFIG, config)
    write_split(output / SPLIT, training, validation)
    held_out = {labels.source: len(labels) for labels in validation}
    for labels in training:
        many = (labels.source, len(labels), held_out.get(labels.source, 0))
        log.info("%s: %d items for training, %d for validation", *many)


def report_changes(written: Path, text: str) -> None:
    """Logs which settings of a resumed run differ from its config.yaml: it may not end where it would have ended."""
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


def write_atomically(path: Path, text: str) -> None:
    """Writes a file that is never seen half written."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def write_split(path: Path, training: Sequence[Labels], validation: Sequence[Labels]) -> None:
    """Lists which rows were trained on and which were held out: a labels file, with the MOS as the labels hold it."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["media", "mos", "task", "split", "set", "id"])
    for split, sets in (("train", training), ("val", validation)):
        for labels in sets:
            columns = [labels.column(name) for name in ("media", "raw_mos", "task", "id")]
            for media, mos, task, name in zip(*columns):
                rows.writerow([os.path.abspath(media), mos, task, split, labels.source, name])  # noqa: PTH100
    write_atomically(path, text.getvalue())


def publish_model(checkpoint: Path, output: Path) -> None:
    """Puts the model files of a checkpoint at the top of the run folder (hard links where the disk allows them).

    The card is removed first and comes back last: a folder with a card is a complete model.
    """
    (output / FILE).unlink(missing_ok=True)
    for path in sorted(model_files(checkpoint), key=lambda p: p.name == FILE):
        target = output / path.relative_to(checkpoint)
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(target.name + ".new")
        fresh.unlink(missing_ok=True)
        link_or_copy(path, fresh)
        fresh.replace(target)


def model_files(folder: Path) -> list[Path]:
    """The files of a checkpoint, or of a run, that make it a model."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    tops = [p.relative_to(folder).parts[0] for p in files]
    return [
        path
        for path, top in zip(files, tops)
        if not (top in RUN_ONLY or top.startswith(RESUME_ONLY) or is_lock_file(top))
    ]


def link_or_copy(path: Path, target: Path) -> None:
    """A second name for a file; a copy on another file system, or one without links."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)
