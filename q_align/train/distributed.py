"""The process group of a distributed run: it ends before Python does.

gloo's threads release tensors, for which they ask Python; one that still does so while Python ends aborts the process.
The threads end with the last reference to their group. Knows which libraries keep one; no model, no data.
"""

from __future__ import annotations

import gc
import time
from importlib import import_module
from importlib.util import find_spec

# Their functions take the group there is when they are imported as a default, and keep it for ever. A distributed run
# imports them anyway; where no group is there yet, they take none.
KEEPERS = ("torch.distributed.nn", "deepspeed")
SETTLE = 0.1  # seconds; a thread whose work is done needs its turn, no more


def before_group() -> None:
    """Imports, before this process joins others, what would keep their group."""
    for name in KEEPERS:
        if find_spec(name):
            import_module(name)


def leave_group() -> None:
    """Leaves the other processes in good order. Nothing may hold the trainer any more, whose model holds the group.

    With plain data parallelism the group's threads have ended when this returns. DeepSpeed and FSDP keep the group in
    objects of their own; its threads get a moment to release what they hold.
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
        gc.collect()  # the trainer is a cycle
        time.sleep(SETTLE)
