"""The lock of a table and the note of the settings that its rows were made with: first the lock, then the note."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from q_align.errors import ConfigError
from q_align.score.output_table import has_rows, is_folder
from q_align.score.write_lock import OutputLock, lock_output

RUN_NOTE = "_run.json"


def lock_table(path: str | Path, *, part: int | None = 0, parts: int = 1) -> OutputLock:
    """Takes the lock of a table before anything is read or written there (see `lock_output`).

    The note of a run that wrote no row is removed, unless other parts of this run are at work.
    """
    folder = is_folder(path)
    lock = lock_output(path, folder=folder, part=part, parts=parts)
    if lock.alone and not has_rows(Path(path)):
        note_path(path).unlink(missing_ok=True)
    return lock


def check_run_note(path: str | Path, settings: dict[str, Any]) -> None:
    """Compares the settings of this run with those that a table's rows were made with; a new table gets the note.

    A folder holds it as _run.json; beside a file it is hidden. The caller holds the lock of the table.

    Args:
        path: of the table, also one that does not exist yet.
        settings: that change a score or a row.

    Raises:
        ConfigError: when an earlier run, or another part of this one, used other settings.
    """
    note = note_path(path)
    settings = json.loads(json.dumps(settings))
    if not note.exists():
        temporary = note.with_name(f".{RUN_NOTE}.{os.getpid()}")
        temporary.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        try:
            os.link(temporary, note)  # several parts may begin at once; the first one's note stays
        except FileExistsError:
            pass
        except OSError:  # a disk without links
            temporary.replace(note)
        temporary.unlink(missing_ok=True)
    before = json.loads(note.read_text(encoding="utf-8"))
    for name, value in settings.items():
        if before.get(name) != value:
            if name == "weights":
                raise ConfigError(
                    f"{path} was scored with other weights of {settings.get('model')} than those there now; name "
                    "another --output"
                )
            raise ConfigError(
                f"{path} was scored with {name} {before.get(name)!r}, not {value!r}; resume with the same setting, "
                "or name another --output"
            )


def note_path(path: str | Path) -> Path:
    """Where the settings of a table are noted."""
    folder = is_folder(path)
    path = Path(path)
    return path / RUN_NOTE if folder else path.with_name(f".{path.name}{RUN_NOTE}")
