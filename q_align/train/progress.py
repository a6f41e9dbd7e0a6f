"""What a run shows on a console: one progress bar, a line per evaluation, no noise from libraries."""

from __future__ import annotations

import logging
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging as transformers_logging

from q_align.log import log

# Warnings that every run causes and no user can act on.
NOISE = (
    "`is_gradient_checkpointing` is deprecated",  # the peft library asks transformers under an older name
    "This DataLoader will create",  # more workers than cores is what reading from disks wants
    "Mismatch dtype between input and weight",  # float32 norms under autocast: no fused kernel on a CPU
)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keeps stdout for results: what libraries print goes to stderr, and their own progress bars are off."""
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    deepspeed = logging.getLogger("DeepSpeed")
    deepspeed.addFilter(_useful)
    try:
        with redirect_stdout(sys.stderr), warnings.catch_warnings():
            for message in NOISE:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        deepspeed.removeFilter(_useful)
        if bars:
            transformers_logging.enable_progress_bar()


def _useful(record: logging.LogRecord) -> bool:
    return "Setting accelerator to CPU" not in record.getMessage()  # logged at its import, in every run without a GPU


class Progress(TrainerCallback):
    """One bar for the whole run, with epoch, last loss and SRCC; one line for every evaluation."""

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
        self.shown |= {"epoch": _epoch(state)}
        self.shown |= {name: f"{value:.4f}" for name, value in found.items() if value is not None}
        self.bar.set_postfix(self.shown, refresh=False)
        if "eval_loss" in logs:
            with tqdm.external_write_mode(file=sys.stderr):
                where = f"epoch {_epoch(state)}, step {state.global_step} of {state.max_steps}"
                log.info("%s: %s", where, format_metrics(logs))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.close()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def _epoch(state: TrainerState) -> str:
    return f"{state.epoch or 0:.3g} of {state.num_train_epochs}"


def format_metrics(logs: dict[str, Any]) -> str:
    """One evaluation in one line: loss, SRCC and PLCC, and those of each set where there are several."""
    values = {
        name.removeprefix("eval_"): value
        for name, value in logs.items()
        if name == "eval_loss" or name.endswith(("srcc", "plcc"))
    }
    if sum(name.endswith("_srcc") for name in values) == 1:  # a single set: its own values are the means
        values = {name: value for name, value in values.items() if not name.endswith(("_srcc", "_plcc"))}
    shown = [
        f"{name} undefined" if math.isnan(value) else f"{name} {value:.4f}"  # one item, or constant
        for name, value in values.items()
    ]
    return ", ".join(shown)
