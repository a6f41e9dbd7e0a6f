"""One writer at a time: a lock file beside the output; the operating system releases it when its process dies."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from q_align.errors import ConfigError
from q_align.log import log


def lock_output(path: Path, *, part: str = "") -> FileLock:
    """Locks a table until `release()`, or until the process ends.

    Args:
        path: of the table, a file or a folder.
        part: prefix of the shards that this process writes into a folder; empty: the table is a file.

    Raises:
        ConfigError: when another process is writing there.
    """
    lock = FileLock(path / f".{part}.lock" if part else path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(f"{path}: another process is writing scores there") from error
    except NotImplementedError:
        log.warning("%s: this file system has no locks; do not let two processes write there", path)
    return lock
