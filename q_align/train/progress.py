"""What a run shows: one progress bar on stderr, and silence from the libraries below it.

Knows the libraries' habits; nothing of models or data.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging as transformers_logging

from q_align.log import log


@contextmanager
def tidy() -> Iterator[None]:
    """Keeps stdout for results: what libraries print goes to stderr, and their own progress bars stay away."""
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with redirect_stdout(sys.stderr), warnings.catch_warnings():
            # the peft library still asks transformers under the older name
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
            yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()


class Progress(TrainerCallback):
    """One bar for the whole run, with the last loss and SRCC; one line for every evaluation."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.shown: dict[str, str] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            # a file or a pipe gets a line now and then, a terminal a bar that moves
            seconds = 0.5 if sys.stderr.isatty() else 30.0
            self.bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                desc="training",
                unit="step",
                file=sys.stderr,
                mininterval=seconds,
                dynamic_ncols=True,
            )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if self.bar is None or not logs:
            return
        found = {"loss": logs.get("loss"), "srcc": logs.get("eval_srcc")}
        self.shown |= {name: f"{value:.4f}" for name, value in found.items() if value is not None}
        self.bar.set_postfix(self.shown, refresh=False)
        if "eval_loss" in logs:
            with tqdm.external_write_mode(file=sys.stderr):
                log.info("step %d of %d: %s", state.global_step, state.max_steps, summary(logs))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.close()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def summary(logs: dict[str, Any]) -> str:
    """One evaluation in one line: loss, then SRCC and PLCC per set and their means."""
    kept = {
        name.removeprefix("eval_"): value
        for name, value in logs.items()
        if name == "eval_loss" or name.endswith(("srcc", "plcc"))
    }
    return ", ".join(f"{name} {value:.4f}" for name, value in kept.items())
