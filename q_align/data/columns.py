"""Which column of a labels file holds what, by its name; and what its data set is called."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa

from q_align.data.table_files import FILES
from q_align.errors import LabelError

MEDIA = ("media", "image", "video", "path")
# Names that other files use, where none of ours is there.
ALSO = {
    "mos": ("dmos",),
    "std": ("sd", "mos_std", "stddev"),
    "content": ("scene", "ref", "reference", "ref_img", "group", "groups"),
}
# Parts of a file's name that do not belong to the data set's name: "livec_train_split_1" is livec.
PART = re.compile(r"(?i)(?<![a-z0-9])(train|test|val|validation|split(_?\d+)?)(?![a-z0-9])")
PLAIN = ("", "labels", "label", "data", "metadata", "index", "mos")


def our_names(table: pa.Table) -> tuple[pa.Table, dict[str, str]]:
    """The table with our names for MOS, std and content, and our name -> the file's, where that was another one."""
    have = {name.lower(): name for name in table.column_names}
    called = {}
    for ours, others in ALSO.items():
        theirs = next((have[name] for name in others if name in have), None)
        if theirs is not None and ours not in have and (ours == "content" or "votes" not in have):
            called[ours] = theirs
    back = {theirs: ours for ours, theirs in called.items()}
    return table.rename_columns([back.get(name, name) for name in table.column_names]), called


def media_column(table: pa.Table, path: str | Path) -> str:
    """Name of the column with the images or videos; raises where it or the MOS is missing."""
    have = table.column_names
    names = {name.lower(): name for name in reversed(have)}
    media = next((names[n] for n in (*MEDIA, *FILES) if n in names), None)
    missing = ([] if media else ["one of image|video|media|path"]) + (
        [] if "mos" in have or "votes" in have else ["mos (or votes)"]
    )
    if missing or media is None:
        found = f"columns found: {', '.join(have)}; rename the right column"
        raise LabelError(f"{path}: missing column {' and '.join(missing)}; {found}")
    return media


def source_name(path: Path) -> str:
    """Name of the data set that a labels file is named after."""
    name = re.sub("[_-]{2,}", "_", PART.sub("", path.stem)).strip("_-. ")
    # a file named "labels.csv" is called after its folder
    return path.resolve().parent.name or path.stem if name.lower() in PLAIN else name
