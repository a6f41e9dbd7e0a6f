"""The end of a run: the final model, the log and the list of broken items in its folder, and a record for callers."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q_align.errors import QAlignError
from q_align.log import log
from q_align.models.card import ModelCard
from q_align.models.model_page import save_card
from q_align.models.push import push_model
from q_align.train.checkpoints import best_first, checkpoint_metrics, step_of
from q_align.train.run_dir import BROKEN, CHECKPOINTS, HISTORY, model_files, publish_model, write_atomically

if TYPE_CHECKING:
    from q_align.score.scorer import Scorer


@dataclass(slots=True)
class RunResult:
    """What a run leaves behind. It stands for its folder wherever a model is named: `evaluate(run, df)`.

    Attributes:
        folder: of the run; it is a model that `Scorer.from_pretrained` takes.
        step: at which the model in it was saved: the best one by validation SRCC, else the last.
        metrics: validation metrics of that model by name (srcc, plcc, NAME_srcc, loss, n, failed, ...); {} without
            validation rows.
        history: lines of the log, as in log_history.json; `pd.DataFrame(run.history)` is a table of them.
    """

    folder: Path
    step: int
    metrics: dict[str, float]
    history: list[dict[str, Any]] = field(repr=False)

    @property
    def best_metric(self) -> float | None:
        """Validation SRCC of the model; None without validation rows, NaN where it is undefined."""
        return self.metrics.get("srcc")

    def __fspath__(self) -> str:
        return str(self.folder)

    def scorer(self, **options: Any) -> Scorer:
        """The model, loaded for scoring.

        Args:
            options: forwarded whole to `Scorer.from_pretrained` (device, dtype, batch_size, scale, ...).
        """
        from q_align.score.scorer import Scorer

        return Scorer.from_pretrained(self.folder, **options)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        base: str | None = None,
        logs: bool = False,
    ) -> str:
        """Uploads the model and its page to the Hugging Face hub; no checkpoints, no code, no paths of this machine.

        Args:
            repo_id: "me/my-model"; the repository is created where it does not exist.
            private: visibility of a new repository; None: the account's default.
            token: of the hub; None: the one that `hf auth login` stored.
            base: hub id of the base of an adapter that was trained from a folder.
            logs: upload log_history.json, too.

        Returns:
            The address of the commit.

        Raises:
            DownloadError: when the hub cannot be reached or refuses.
            CheckpointError: for an adapter whose base has no hub id.
        """
        files = [*model_files(self.folder), *([self.folder / HISTORY] if logs else [])]
        return push_model(self.folder, files, repo_id, private=private, token=token, base=base)


class TerminatedError(QAlignError):
    """SIGTERM ended the run; a checkpoint to resume from is saved."""

    def __init__(self, step: int, output: Path) -> None:
        super().__init__(
            f"{output}: ended by SIGTERM at step {step}, checkpoint saved; resume with --train.resume true"
        )


def read_result(output: Path, history: list[dict[str, Any]]) -> RunResult:
    """The result of a finished run."""
    best = best_first(output / CHECKPOINTS)[0]
    return RunResult(output, step_of(best), _metrics_of(best), history)


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
    found = _metrics_of(best)
    quality = {name: float(value) for name, value in found.items() if not _undefined(value)}
    save_card(dataclasses.replace(ModelCard.load(output), validation=quality), output)
    why = "no validation rows: the last checkpoint"
    if "srcc" in found:
        shown = "undefined" if _undefined(found["srcc"]) else f"{found['srcc']:.4f}"
        why = f"validation SRCC {shown} on {found.get('n', 0):g} items"
    log.info("model: %s (%s); in %s", best.name, why, output)


def _metrics_of(checkpoint: Path) -> dict[str, float]:
    """Of the model, not of the machine (runtime, samples per second)."""
    found = {name.removeprefix("eval_"): value for name, value in checkpoint_metrics(checkpoint).items()}
    return {name: v for name, v in found.items() if name in ("n", "failed", "loss") or name.endswith(("srcc", "plcc"))}
