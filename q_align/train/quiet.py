"""Silences what libraries print and log in every run, from their import on."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

# Warnings that every run causes and no user can act on.
NOISE = (
    "`is_gradient_checkpointing` is deprecated",  # the peft library asks transformers under an older name
    "This DataLoader will create",  # reading from disks needs more workers than cores
    "Mismatch dtype between input and weight",  # float32 norms under autocast: no fused kernel on a CPU
)
# Lines that libraries log in every run, by logger.
LOGGED_NOISE = {
    "DeepSpeed": "Setting accelerator to CPU",  # at its import, without a GPU
    "torchao": "Failed to load",  # at its import: kernels of other machines
    "torch.utils._pytree": "is now natively supported",  # at torchao's import
}


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keeps stdout for results: what libraries print goes to stderr, and their own progress bars are off."""
    for name in LOGGED_NOISE:
        logging.getLogger(name).addFilter(_is_useful)
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with redirect_stdout(sys.stderr), warnings.catch_warnings():
            for message in NOISE:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for name in LOGGED_NOISE:
            logging.getLogger(name).removeFilter(_is_useful)
        if bars:
            transformers_logging.enable_progress_bar()


def _is_useful(record: logging.LogRecord) -> bool:
    return LOGGED_NOISE[record.name] not in record.getMessage()
