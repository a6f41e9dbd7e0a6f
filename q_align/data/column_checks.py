"""Columns of a labels file as numbers or text, and one clear line for the first row that makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from q_align.data.table_files import reason
from q_align.errors import LabelError


def numbers_of(table: pa.Table, name: str, path: str | Path) -> np.ndarray:
    """A column as float64; nulls are NaN."""
    try:
        return pc.cast(table.column(name), pa.float64()).to_numpy().astype(np.float64)
    except pa.ArrowException as error:
        raise LabelError(f"{path}: column {name!r} holds no numbers: {reason(error)}") from error


def text_of(table: pa.Table, name: str) -> Any:
    """A column as text; nulls where the file has no such column."""
    if name in table.column_names:
        return pc.cast(table.column(name), pa.large_string())
    return pa.chunked_array([pa.nulls(table.num_rows, pa.large_string())])


def check_rows(path: str | Path, wrong: Any, column: str, problem: str, values: Any = None) -> None:
    """Raises for the first wrong row, with the number of them all."""
    mask = np.asarray(wrong.to_numpy(zero_copy_only=False) if isinstance(wrong, pa.Array) else wrong, dtype=bool)
    rows = np.flatnonzero(mask)
    if rows.size:
        value = values[int(rows[0])] if values is not None else None
        value = value.as_py() if isinstance(value, pa.Scalar) else value
        more = f" (and {rows.size - 1} more rows)" if rows.size > 1 else ""
        raise LabelError(f"{path}: row {rows[0] + 1}: {column} {problem.format(value)}{more}")
