"""One logger for the package: short lines on stderr, where stdout is for results; and what is safe to print."""

from __future__ import annotations

import logging
import sys
from unicodedata import category

log = logging.getLogger("q_align")

# Control characters, halves of surrogate pairs, line and paragraph separators.
ESCAPED = frozenset(("Cc", "Cs", "Zl", "Zp"))
# They reorder the text around them.
DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def setup(*, verbose: bool = False) -> None:
    """Sends the package's messages to stderr; called by the command line, never on import."""
    # anew on every call: a caller in the same process may have another stderr by now, or closed the old one
    log.handlers.clear()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(message)s"))
    log.addHandler(handler)
    log.propagate = False
    # DeepSpeed's own handler writes to stdout, which is for results
    logging.getLogger("DeepSpeed").addFilter(_reroute)  # a second time adds nothing
    log.setLevel(logging.DEBUG if verbose else logging.INFO)


class _Printable(logging.Formatter):
    """Messages with file names in them; line ends stay."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the base class's name)
        return printable(super().formatMessage(record), allowed="\n\t")


def _reroute(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    # a machine without a GPU is no reason to warn
    if record.levelno >= logging.WARNING and "Setting accelerator to CPU" not in text:
        log.warning("DeepSpeed: %s", text)
    return False


def printable(text: str, *, allowed: str = "") -> str:
    """Writes what a terminal would obey, such as "\\x1b", as its escape; all else stays.

    Args:
        text: of any origin.
        allowed: control characters that stay.
    """
    if text.isprintable():
        return text
    return "".join(_escape(c) if c not in allowed and (category(c) in ESCAPED or c in DIRECTIONS) else c for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
