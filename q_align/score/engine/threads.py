"""The pool of worker threads. On a CPU each computes on one core, which beats one batch spread over all cores."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

_lock = threading.Lock()


def worker_pool(count: int, *, one_core_each: bool) -> ThreadPoolExecutor:
    """A thread pool; with `one_core_each` its threads compute on one core, and no other thread of the process does."""
    initializer = _compute_on_one_core if one_core_each else None
    return ThreadPoolExecutor(count, thread_name_prefix="q_align", initializer=initializer)


def _compute_on_one_core() -> None:
    """Limits the calling thread alone.

    OpenMP and MKL hold the number of threads per calling thread. torch also stores the last number that was set, and
    gives it to threads that start later, so that number is put back, by a thread that ends at once.
    """
    with _lock:
        torch.get_num_threads()  # else torch would initialize this thread at its first product, and undo the limit
        usual = _in_another_thread(torch.get_num_threads)
        torch.set_num_threads(1)
        _in_another_thread(torch.set_num_threads, usual)


def _in_another_thread(work: Callable[..., Any], *args: Any) -> Any:
    result: Future[Any] = Future()
    threading.Thread(target=lambda: result.set_result(work(*args))).start()
    return result.result()
