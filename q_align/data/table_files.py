"""Any labels file -> one columnar table, unchanged but for the case of known column names.

Everything stays in pyarrow: a million rows never become Python objects (published JSON files, which are small, do).
"""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from q_align.errors import LabelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Columns that are names even where they look like numbers ("0001").
TEXT = ("image", "video", "media", "path", "id", "split", "task", "content", "question", "votes")
NUMBERS = ("mos", "std")
FILES = ("image_name", "filename", "file_name", "file")  # names that other programs give the column of images or videos
DECIMAL_COMMA = re.compile(r"'(\s*[-+]?\d+,\d+\s*)'")
FIX = "save it with commas between the columns and points in the numbers, or as .tsv with points"


def read_table(path: str | Path) -> pa.Table:
    """Reads CSV, TSV, JSONL, Parquet or a JSON list of records, by its extension; known names come out in lower case.

    Raises:
        LabelError: for a missing, empty or unreadable file, or an extension of none of these formats.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise LabelError(f"{path}: unknown labels format {suffix!r}; use {', '.join(READERS)}")
    if not path.is_file():
        raise LabelError(f"{path}: no such labels file")
    if path.stat().st_size == 0:
        raise LabelError(f"{path}: the file is empty")
    try:
        table = READERS[suffix](path)
    except (pa.ArrowException, ValueError, OSError) as error:
        if isinstance(error, LabelError):
            raise
        raise LabelError(f"{path}: cannot be read as {suffix[1:]}: {reason(error)}") from error
    if table.num_rows == 0:
        raise LabelError(f"{path}: no rows")
    return table.rename_columns([known_name(name) for name in table.column_names])


def write_table(table: pa.Table, path: str | Path) -> None:
    """Writes CSV or Parquet, by the extension; list columns become JSON text in CSV.

    Written aside and renamed: the file is whole, or as it was before.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".parquet", ".csv"):
        raise LabelError(f"{path}: labels are written as .csv or .parquet, not {suffix!r}")
    fresh = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        if suffix == ".parquet":
            import pyarrow.parquet as pq

            pq.write_table(table, fresh)
        else:
            from pyarrow import csv

            csv.write_csv(_flat(table), fresh)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)  # gone already, where all went well


def from_records(records: Iterable[dict[str, Any]]) -> pa.Table:
    """Rows as dictionaries -> table; keys that some rows lack become nulls there."""
    rows = list(records)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})


def _csv(path: Path) -> pa.Table:
    from pyarrow import csv

    with path.open(encoding="utf-8", errors="replace") as file:
        head = file.readline()
    if ";" in head and _dialect(path).delimiter not in head:
        raise LabelError(f"{path}: the columns are separated by semicolons; {FIX}")
    names = list(csv.open_csv(path, parse_options=_dialect(path)).schema.names)
    types = {name: pa.large_string() for name in names if name.strip().lower() in (*TEXT, *FILES)}
    types |= {name: pa.float64() for name in names if known_name(name) in NUMBERS}
    # One block after another (no threads): errors then name the row, and memory stays flat.
    return csv.read_csv(
        path,
        read_options=csv.ReadOptions(use_threads=False),
        parse_options=_dialect(path),
        convert_options=csv.ConvertOptions(column_types=types, strings_can_be_null=True),
    )


def _dialect(path: Path) -> Any:
    from pyarrow import csv

    return csv.ParseOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ",", newlines_in_values=True)


def _jsonl(path: Path) -> pa.Table:
    import pyarrow.json

    return pyarrow.json.read_json(path)


def _parquet(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(path)


def _json(path: Path) -> pa.Table:
    records = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
        raise LabelError(f"{path}: a JSON labels file is a list of records, got {type(records).__name__}")
    return from_records(records)


def known_name(name: str) -> str:
    """A column name that we know in lower case, any other as it is."""
    plain = name.strip().lower()
    return plain if plain in (*TEXT, *NUMBERS) else name.strip()


def _flat(table: pa.Table) -> pa.Table:
    for i, column in enumerate(table.schema):
        if pa.types.is_nested(column.type):
            text = pa.array([None if v is None else json.dumps(v) for v in table.column(i).to_pylist()], pa.string())
            table = table.set_column(i, column.name, text)
    return table


def reason(error: Exception) -> str:
    """Arrow's message in one line; a decimal comma by its name."""
    number = DECIMAL_COMMA.search(str(error))
    if number:
        return f"the number {number[1].strip()!r} has a decimal comma; {FIX}"
    return " ".join(str(error).split())[:300]


READERS: dict[str, Callable[[Path], pa.Table]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    ".json": _json,
}
