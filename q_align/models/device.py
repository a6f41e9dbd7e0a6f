"""What this machine offers: the best device, and how many cores a process may use."""

from __future__ import annotations

import os

import torch

from q_align.errors import ConfigError


def best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def find_device(name: str | torch.device | None) -> torch.device:
    """The device of a name; None: the best one.

    Raises:
        ConfigError: when there is none of that name here.
    """
    if name is None:
        return best_device()
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (
        RuntimeError,
        AssertionError,
        NotImplementedError,
        ImportError,
    ) as error:  # as torch sees fit
        raise ConfigError(f"device {str(name)!r}: not on this machine; leave it out to take {best_device()}") from error
    return device


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
