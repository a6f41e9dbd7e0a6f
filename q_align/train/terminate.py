"""SIGTERM, as schedulers send it before they take a machine away: finish the step, save, leave.

Knows signals and the trainer's control; no model.
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from q_align.errors import QAlignError
from q_align.log import log


class StopOnTerminate(TrainerCallback):
    """Saves a checkpoint and ends the run after the step in which SIGTERM came.

    Loader workers are forked from this process and keep its handler, so that a signal to the whole process group does
    not take them away before the checkpoint is written.
    """

    def __init__(self) -> None:
        self.asked = False
        self.stopped_at: int | None = None
        self._before: Any = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, frame: Any) -> None:
        self.asked = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not self._any(args) or control.should_training_stop:
            return
        self.stopped_at = state.global_step
        control.should_save = True
        control.should_evaluate = False
        control.should_training_stop = True
        if state.is_world_process_zero:
            log.info("SIGTERM: saving at step %d and leaving", state.global_step)

    def _any(self, args: TrainingArguments) -> bool:
        """Whether any process was asked: all must save at the same step, or they wait for each other for ever."""
        if args.world_size == 1:
            return self.asked
        flag = torch.tensor(float(self.asked), device=args.device)
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
        return bool(flag)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.close()

    def close(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None


class TerminatedError(QAlignError):
    """The run was asked to end, and has saved a checkpoint to go on from."""

    def __init__(self, step: int, output: Path) -> None:
        super().__init__(f"{output}: ended by SIGTERM at step {step}, checkpoint saved; --train.resume true goes on")
