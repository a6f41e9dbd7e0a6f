"""The end of a run: the final model, the log and the list of broken items in its folder, and a record for callers."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from q_align.errors import QAlignError
from q_align.log import log
from q_align.train.checkpoints import best_first, checkpoint_metrics, step_of
from q_align.train.run_dir import BROKEN, CHECKPOINTS, HISTORY, publish_model, write_atomically


@dataclass(slots=True)
class RunResult:
    """What a run leaves behind.

    Attributes:
        folder: of the run; it is a model that `Scorer.from_pretrained` takes.
        step: at which the model in it was saved: the best one by validation SRCC, else the last.
        metrics: validation metrics of that model by name (srcc, plcc, NAME_srcc, loss, n, failed, ...); {} without
            validation rows.
        history: lines of the log, as in log_history.json.
    """

    folder: Path
    step: int
    metrics: dict[str, float]
    history: list[dict[str, Any]]


class TerminatedError(QAlignError):
    """SIGTERM ended the run; a checkpoint to resume from is saved."""

    def __init__(self, step: int, output: Path) -> None:
        super().__init__(
            f"{output}: ended by SIGTERM at step {step}, checkpoint saved; resume with --train.resume true"
        )


def read_result(output: Path, history: list[dict[str, Any]]) -> RunResult:
    """The result of a finished run."""
    best = best_first(output / CHECKPOINTS)[0]
    metrics = {name.removeprefix("eval_"): value for name, value in checkpoint_metrics(best).items()}
    return RunResult(output, step_of(best), metrics, history)


def write_history(history: list[dict[str, Any]], output: Path) -> None:
    """Writes log_history.json; an undefined metric (NaN) is null there."""
    path = output / HISTORY
    lines = [{key: None if _undefined(value) else value for key, value in line.items()} for line in history]
    try:
        write_atomically(path, json.dumps(lines, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        # on a full disk the run's own error is more precise and must be the one raised
        log.warning("%s: cannot be written (%s)", path, error)


def _undefined(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def report_broken(trainer: Any, output: Path) -> None:
    """Lists the items that were skipped, of all processes: in the log and in broken_media.json."""
    from accelerate.utils import gather_object

    reasons = sorted(set(gather_object(list(trainer.broken.reasons))))
    if not trainer.is_world_process_zero() or not reasons:
        return
    write_atomically(output / BROKEN, json.dumps(reasons, indent=1, ensure_ascii=False) + "\n")
    log.info("%d unreadable items were skipped (%s):", len(reasons), BROKEN)
    for reason in reasons:
        log.info("  %s", reason)


def publish_best(output: Path) -> None:
    """Makes the run's folder a model: that of the best checkpoint."""
    best = best_first(output / CHECKPOINTS)[0]
    publish_model(best, output)
    srcc = checkpoint_metrics(best).get("eval_srcc")
    why = "no validation rows: the last checkpoint" if srcc is None else f"validation SRCC {srcc:.4f}"
    log.info("model: %s (%s); in %s", best.name, why, output)
