"""Early stopping: ends a run whose validation SRCC no longer improves (train.patience)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from q_align.log import log


class StopWithoutProgress(TrainerCallback):
    """Stops after `patience` evaluations in a row without a better SRCC. It keeps no state: the log tells."""

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        waited = evaluations_without_progress(state.log_history)
        if waited >= self.patience and not control.should_training_stop:
            control.should_training_stop = True
            if state.is_world_process_zero:
                log.info(
                    "stopping at step %d: no better SRCC in %d evaluations (train.patience)", state.global_step, waited
                )


class SaveWhenStopped(TrainerCallback):
    """Evaluates and saves where any callback before it in the list stops the run: what it reached must not be lost."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if control.should_training_stop and not control.should_save:
            control.should_save = True
            control.should_evaluate = args.eval_strategy != "no"

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if control.should_training_stop:
            control.should_save = True


def evaluations_without_progress(history: Sequence[dict[str, Any]]) -> int:
    """Evaluations since the one with the highest SRCC; an undefined SRCC is no progress."""
    values = [line["eval_srcc"] for line in history if "eval_srcc" in line]
    values = [-math.inf if value is None or math.isnan(value) else value for value in values]
    return len(values) - 1 - values.index(max(values)) if values else 0
