"""One logger for the package: short lines on stderr, so that stdout stays free for results."""

from __future__ import annotations

import logging
import sys

log = logging.getLogger("q_align")


def setup(*, verbose: bool = False) -> None:
    """Sends the package's messages to stderr; called by the command line, never on import."""
    # anew on every call: a caller in the same process may have another stderr by now, or closed the old one
    log.handlers.clear()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.propagate = False
    # DeepSpeed's own handler writes to stdout, which is for results
    logging.getLogger("DeepSpeed").addFilter(_reroute)  # a second time adds nothing
    log.setLevel(logging.DEBUG if verbose else logging.INFO)


def _reroute(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    # a machine without a GPU is no reason to warn
    if record.levelno >= logging.WARNING and "Setting accelerator to CPU" not in text:
        log.warning("DeepSpeed: %s", text)
    return False
