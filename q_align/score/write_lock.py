"""One writer at a time: lock files in the output; the operating system releases them when their process dies.

Writers of one output are the parts of one run; any other run is refused. On a network disk this holds where the disk
passes `flock` on to its server (NFS 4, Lustre with -o flock, GPFS); where it has no locks, a warning says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from q_align.errors import ConfigError
from q_align.log import log

GATE = ".lock"  # held while lock files are looked at
WRITER = ".writer-"  # one file per process that writes
GATE_SECONDS = 30.0


class OutputLock:
    """The right to write one output until `release()`, or until the process ends.

    Attributes:
        path: of the output.
        alone: whether no other process was writing there when the lock was taken.
    """

    def __init__(self, path: Path, folder: Path, prefix: str, lock: FileLock | None, *, alone: bool) -> None:
        self.path, self.alone = path, alone
        self._folder, self._prefix, self._lock = folder, prefix, lock

    def release(self) -> None:
        if self._lock is None:
            return
        with suppress(OSError, Timeout), _gate(self._folder, self._prefix):
            # nobody else opens the file outside of the gate
            Path(self._lock.lock_file).unlink(missing_ok=True)
            if not self._prefix and [entry.name for entry in self._folder.iterdir()] == [GATE]:
                (self._folder / GATE).unlink()  # nothing was written: the folder goes as it came
                self._folder.rmdir()
        self._lock.release()
        self._lock = None


def lock_output(
    path: str | Path, *, folder: bool = False, part: int | None = 0, parts: int = 1, wait: float = 0.0
) -> OutputLock:
    """Locks an output, or says who is in the way.

    Args:
        path: a file or a folder; missing folders are made.
        folder: whether it is a folder: lock files lie inside of it, else hidden beside the file.
        part: of the run; None: the process that starts the parts, which nobody else may precede.
        parts: of the run; parts of the same number may write at once.
        wait: seconds for another process to end.

    Raises:
        ConfigError: when another process writes there.
    """
    path = Path(path)
    place, prefix = (path, "") if folder else (path.parent, f".{path.name}")
    name = f"{prefix}{WRITER}{'all' if part is None else part}of{parts}.lock"
    until = time.monotonic() + wait
    while True:
        place.mkdir(parents=True, exist_ok=True)
        try:
            with _gate(place, prefix):
                others = [other for other in place.glob(f"{prefix}{WRITER}*.lock") if _is_held(other)]
                if not any(other.name == name or part is None or _parts(other) != parts for other in others):
                    lock = _file_lock(place / name)
                    lock.acquire(timeout=0)
                    return OutputLock(path, place, prefix, lock, alone=not others)
        except (Timeout, FileNotFoundError):  # the latter: its folder was empty at its end, and is gone
            pass
        except NotImplementedError:
            log.warning("%s: this file system has no locks; do not let two processes write there", path)
            return OutputLock(path, place, prefix, None, alone=True)
        if time.monotonic() >= until:
            raise ConfigError(f"{path}: another process is writing there; wait for its end, or name another output")
        time.sleep(0.2)


@contextmanager
def locked_output(folder: str | Path | None) -> Iterator[None]:
    """Holds the lock of a folder; None: of nothing.

    Raises:
        ConfigError: when another process writes there.
    """
    if folder is None:
        yield
        return
    lock = lock_output(folder, folder=True)
    try:
        yield
    finally:
        lock.release()


def is_lock_file(name: str) -> bool:
    """Whether a file of a locked folder is there for the lock only."""
    return name == GATE or name.startswith(WRITER)


@contextmanager
def _gate(folder: Path, prefix: str) -> Iterator[None]:
    with _file_lock(folder / f"{prefix}{GATE}").acquire(timeout=GATE_SECONDS):
        yield


def _file_lock(path: Path) -> FileLock:
    return FileLock(path, thread_local=False)  # a table may be closed by another thread


def _is_held(path: Path) -> bool:
    lock = _file_lock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    with suppress(OSError):
        os.unlink(path)  # noqa: PTH108 (what a dead process left)
    lock.release()
    return False


def _parts(path: Path) -> int:
    return int(path.stem.rpartition("of")[2])
