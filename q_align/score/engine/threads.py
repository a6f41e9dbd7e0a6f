"""One core for each thread: on a processor, workers that compute alone beat a batch that is spread over all cores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# one that its holder may take again: a stream that nobody finished is closed wherever its memory is found, also in here
_lock = threading.RLock()
_alone = [0, 0]  # streams at work, and the number of threads before the first of them


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Lets each thread that starts inside compute on one core; what was before comes back with the last one out."""
    with _lock:
        if _alone[0] == 0:
            _alone[1] = torch.get_num_threads()
            torch.set_num_threads(1)
        _alone[0] += 1
    try:
        yield
    finally:
        with _lock:
            _alone[0] -= 1
            if _alone[0] == 0:
                torch.set_num_threads(_alone[1])
