"""Cache of scores on disk, keyed by model files, settings and item, so that nothing is scored twice.

An item is known by its absolute path, size, time of change, task and question; a model by the content of its files;
only scores without an error are cached. Parts are written atomically under unique names, so several processes may
share a folder and a killed run loses at most its last part.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from q_align.log import log
from q_align.score.model_digest import model_parts

PART = 5000  # scores per file
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("value", pa.float64()),
        ("level", pa.string()),
        ("probs", pa.list_(pa.float64())),
        ("std", pa.float64()),
        ("mass", pa.float64()),
        ("warning", pa.string()),
    ]
)


def score_cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "q_align" / "scores"


def model_fingerprint(folders: list[Path]) -> str:
    """SHA-256 over names and contents of the model files in these folders (an adapter and its base)."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in model_parts(folder):
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
    return digest.hexdigest()


def item_key(path: str, task: str, question: str | None = None) -> str | None:
    """Key of a file as it is now, and what is asked about it; None for web addresses and missing files."""
    if "://" in path:
        return None
    try:
        status = Path(path).stat()
    except OSError:
        return None
    place = os.path.abspath(path)  # noqa: PTH100 (links stay apart)
    return json.dumps([task, question, status.st_size, status.st_mtime_ns, place])


class ScoreCache:
    """Cached scores of one model under one set of settings.

    Args:
        folder: folder of all cached scores; None: nothing is cached.
        checkpoint: fingerprint of the model's files.
        settings: all else that a score depends on (precision, frames, versions, ...), JSON-like.
    """

    def __init__(self, folder: Path | None, checkpoint: str, settings: dict[str, Any]) -> None:
        text = json.dumps(settings, sort_keys=True, default=str)
        name = f"{checkpoint[:20]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        self.folder = folder / name if folder is not None else None
        self._new: list[dict[str, Any]] = []
        self._known: dict[str, dict[str, Any]] = {}
        if self.folder is not None and self.folder.is_dir():
            for part in sorted(self.folder.glob("part-*.parquet")):
                self._read(part)

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str | None) -> dict[str, Any] | None:
        return self._known.get(key) if key else None

    def add(self, key: str | None, score: Mapping[str, Any]) -> None:
        """Caches a score (the fields of `Score`), unless it has an error or its item has no key."""
        if key is None or self.folder is None or score["error"] is not None:
            return
        self._new.append({name: key if name == "key" else score[name] for name in SCHEMA.names})
        if len(self._new) >= PART:
            self.flush()

    def flush(self) -> None:
        """Writes what is new, atomically."""
        if not self._new or self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"part-{uuid.uuid4().hex}.parquet"
        partial = path.with_suffix(".writing")
        pq.write_table(pa.Table.from_pylist(self._new, schema=SCHEMA), partial)
        partial.replace(path)
        self._new = []

    def _read(self, part: Path) -> None:
        try:
            rows = pq.read_table(part, schema=SCHEMA).to_pylist()
        except (pa.ArrowException, OSError) as error:
            log.warning(
                "%s: cached scores cannot be read (%s); they are computed again", part, " ".join(str(error).split())
            )
            return
        for row in rows:
            self._known[row.pop("key")] = row
