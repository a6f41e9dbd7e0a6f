"""The process group of a distributed run: closed before Python ends.

gloo's threads release tensors, for which they call Python; one that still does so while Python ends aborts the process.
The threads end with the last reference to their group.
"""

from __future__ import annotations

import gc
import time
from importlib import import_module
from importlib.util import find_spec

# Their functions bind the default process group at import time and never release it. A distributed run imports them
# anyway; where there is no group yet, they bind none.
GROUP_HOLDERS = ("torch.distributed.nn", "deepspeed")
GRACE = 0.1  # seconds that a thread whose work is done needs to end


def import_group_holders() -> None:
    """Imports, before this process joins others, the modules that would hold on to their group."""
    for name in GROUP_HOLDERS:
        if find_spec(name):
            import_module(name)


def close_process_group() -> None:
    """Leaves the process group. Nothing may hold the trainer any more, whose model holds the group.

    With plain data parallelism the group's threads have ended when this returns. DeepSpeed and FSDP keep the group in
    objects of their own; its threads get a moment to release what they hold.
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
        gc.collect()  # the trainer is a reference cycle
        time.sleep(GRACE)
