"""One writer at a time: a lock on an open file, which dies with its process. Knows no tables."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

from q_align.errors import ConfigError


def hold(path: Path, file: IO[Any] | None = None) -> IO[Any]:
    """Locks a file until it is closed or the process dies.

    Args:
        path: of the file; made where it is missing.
        file: the same, where it is open already.

    Returns:
        The open file.

    Raises:
        ConfigError: when another process holds it.
    """
    file = path.open("ab") if file is None else file
    try:
        import fcntl
    except ImportError:  # Windows: two runs into one place are not kept apart there
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        where = path.parent if path.name.startswith(".") else path
        raise ConfigError(f"{where}: another process is writing scores there") from error
    return file
