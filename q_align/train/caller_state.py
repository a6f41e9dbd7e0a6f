"""Keeps a run from changing the process that called it: random numbers and environment variables."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def preserved_caller_state() -> Iterator[None]:
    """Restores the states of random, numpy and torch, and the environment, at the end.

    transformers and accelerate seed the generators and set variables that the next run in this process would read.
    """
    variables = dict(os.environ)
    python, arrays = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]
        os.environ.update(variables)
