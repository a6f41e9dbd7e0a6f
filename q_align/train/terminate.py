"""SIGTERM, as schedulers send it before they take a machine away: finish the step, save a checkpoint, leave."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing.util import register_after_fork
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from q_align.errors import QAlignError
from q_align.log import log


class StopOnTerminate(TrainerCallback):
    """Saves a checkpoint and ends the run after the step in which SIGTERM came.

    Several processes must stop at the same step. They exchange their flags once per step and act on those of the step
    before, whose exchange is over: no process waits for a device.

    Schedulers signal every process of a job. Loader workers obey their own trainer only, or they would be gone before
    the checkpoint is written.
    """

    def __init__(self) -> None:
        self.asked = False
        self.stopped_at: int | None = None
        self._before: Any = None
        self._flag: Tensor | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
            register_after_fork(self, StopOnTerminate._in_worker)

    def _note(self, number: int, frame: Any) -> None:
        self.asked = True

    def _in_worker(self) -> None:
        """In a forked worker: a thread takes SIGTERM, and ends the process when the signal is its parent's."""
        if self._before is None:
            return  # the run is over
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        parent = os.getppid()

        def wait() -> None:
            while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
                pass
            os._exit(0)

        threading.Thread(target=wait, daemon=True, name="q_align-sigterm").start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not self._any_asked(args) or control.should_training_stop:
            return
        self.stopped_at = state.global_step
        control.should_save = True
        control.should_evaluate = False
        control.should_training_stop = True
        if state.is_world_process_zero:
            log.info("SIGTERM: saving at step %d and leaving", state.global_step)

    def _any_asked(self, args: TrainingArguments) -> bool:
        if args.world_size == 1:
            return self.asked
        before, self._flag = self._flag, torch.tensor(float(self.asked), device=args.device)
        found = before is not None and bool(before)
        torch.distributed.all_reduce(self._flag, op=torch.distributed.ReduceOp.MAX)
        return found

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.close()

    def close(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None


class TerminatedError(QAlignError):
    """SIGTERM ended the run; a checkpoint to resume from is saved."""

    def __init__(self, step: int, output: Path) -> None:
        super().__init__(
            f"{output}: ended by SIGTERM at step {step}, checkpoint saved; resume with --train.resume true"
        )
