"""`q-align train` with FSDP2 on processors, to check the engine where there is no GPU; arguments are the command's own.

accelerate gives FSDP to processes with accelerators only: of several processes on CPU it makes plain DDP without a word
(`AcceleratorState.__init__` asks for MULTI_GPU and the like). torch itself shards on CPU over gloo. Here the library is
told MULTI_GPU while it decides; everything after that is what a GPU run does. For `train_parallel.py` only.
"""

from __future__ import annotations

import sys
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

import q_align.train.arguments
from q_align.cli.main import main

decide = AcceleratorState.__init__


def as_if_on_gpus(self: AcceleratorState, *args: Any, **options: Any) -> None:
    if AcceleratorState._shared_state:
        decide(self, *args, **options)
        return
    processes = PartialState(cpu=True)
    processes.distributed_type = DistributedType.MULTI_GPU
    decide(self, *args[:1], **{**options, "cpu": False, "_from_accelerator": True})
    processes.distributed_type = DistributedType.FSDP


if __name__ == "__main__":
    AcceleratorState.__init__ = as_if_on_gpus
    q_align.train.arguments.check_launch = lambda *args, **options: None  # it refuses FSDP without GPUs
    sys.exit(main())
