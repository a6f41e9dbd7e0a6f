"""File modes: weights are readable by whom the umask lets read, like every other file."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path


def apply_umask(folder: Path) -> None:
    """Gives all files below a folder the mode that new files get there: safetensors writes its own as 0600."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        probe = Path(place) / "probe"
        probe.touch()  # asking for the umask itself would change it for other threads
        mode = stat.S_IMODE(probe.stat().st_mode)
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)
