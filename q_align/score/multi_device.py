"""One scoring process per device: the same command again for each, with its part of the ids.

Parts are cut by a hash of the id, so they are the same whenever the command runs again; every process resumes from what
all of them left in the folder.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from q_align.log import log

GRACE = 10.0  # seconds to end in


def run_parts(words: Sequence[str], devices: Sequence[str]) -> bool:
    """Runs `q-align score` once per device.

    Args:
        words: arguments of the command without --devices.
        devices: one process each; the same device may come twice.

    Returns:
        Whether every process finished: failed rows do not count against it, a process that could not load the model
        does.

    Raises:
        SystemExit: after SIGTERM or SIGHUP, once the processes have ended.
    """
    children: list[subprocess.Popen[bytes]] = []
    with _exit_on_signal():
        try:
            for number, device in enumerate(devices):
                command = [sys.executable, "-m", "q_align", "score", *words, "--device", device]
                children.append(subprocess.Popen([*command, "--part", f"{number}/{len(devices)}"]))
            codes = [child.wait() for child in children]
        finally:
            _end(children)
    for device, code in zip(devices, codes):
        if code != 0:
            log.error("the process on %s ended with code %d; --resume scores the rest", device, code)
    return not any(codes)


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ends the processes that are still at work; a table is whole whenever its process dies."""
    for child in children:
        child.terminate()  # does nothing to one that has ended
    for child in children:
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def _exit_on_signal() -> Iterator[None]:
    """Turns SIGTERM and SIGHUP into SystemExit, so that what must be done at the end is done."""

    def leave(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
