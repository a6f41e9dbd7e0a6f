"""`Labels` -> a labels file of our own, in the data set's own scale: reading it again gives the same labels.

Knows columns; nothing of published files or levels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from q_align.data.labels import KNOWN, Labels
from q_align.data.table_files import write_table


def convert(labels: Labels, path: str | Path) -> int:
    """Writes CSV or Parquet, by the extension: MOS, std and votes on the data set's own scale.

    Media paths are written as the labels hold them: read with `media_root=""` to keep those of the file.

    Range and direction are not part of a labels file: give them again when reading, or put them into a card.

    Returns:
        The number of rows written.
    """
    low, high = labels.mos_range
    unit = (high - low) / (labels.scheme.high - labels.scheme.low)
    columns = {"media": labels.table.column("media"), "mos": labels.table.column("raw_mos")}
    if labels.has("std"):
        std = labels.column("std") * unit
        columns["std"] = pa.array(std, mask=np.isnan(std))
    for name in ("split", "task", "id", "content", "question"):
        if labels.has(name):
            columns[name] = labels.table.column(name)
    if labels.has("raw_votes"):
        columns["votes"] = labels.table.column("raw_votes")
    others = [name for name in labels.table.column_names if name not in KNOWN]
    write_table(pa.table(columns | {name: labels.table.column(name) for name in others}), path)
    return len(labels)
