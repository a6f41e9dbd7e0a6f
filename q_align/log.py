"""One logger for the package: short lines on stderr, so that stdout stays free for results."""

from __future__ import annotations

import logging
import sys

log = logging.getLogger("q_align")


def setup(*, verbose: bool = False) -> None:
    """Sends the package's messages to stderr; called by the command line, never on import."""
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.propagate = False
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
