"""The stages of a cluster run: read a unit, decode its items on a CPU, score them on a device, write a shard.

Between stages travel tables of pixels, never files. Plain classes and functions, so that they run without Ray as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from q_align.cluster.manifest import WorkUnit, read_unit
from q_align.errors import MediaError
from q_align.media import Limits, is_video, open_frames
from q_align.media.image import one_line
from q_align.media.source import read_once
from q_align.score.output_table import COLUMNS
from q_align.types import Item, MediaSpec, Score

DECODED = pa.schema(
    [
        ("id", pa.string()),
        ("task", pa.string()),
        ("question", pa.string()),
        ("video", pa.bool_()),
        ("frames", pa.list_(pa.large_binary())),  # RGB, row after row
        ("sizes", pa.list_(pa.int32())),  # height, width, height, width ...
        ("error", pa.string()),
        ("warning", pa.string()),
    ]
)
PIECE = 2**28  # bytes of pixels per table between stations


def spec_of(model: str) -> MediaSpec:
    """How media are opened for a model, as its scorer opens them."""
    from q_align.models.backbone import opening_spec, read_card

    return opening_spec(read_card(model))


def decode_unit(unit: WorkUnit, *, root: str | None, spec: MediaSpec, limits: Limits) -> Iterator[pa.Table]:
    """Decodes a unit's media; what cannot be decoded travels on as a row with its reason."""
    rows: list[dict[str, Any]] = []
    held = 0
    for item in read_unit(unit, root):
        row = _decode(item, spec, limits)
        rows.append(row)
        held += sum(map(len, row["frames"]))
        if held >= PIECE or len(rows) >= 256:
            yield pa.Table.from_pylist(rows, DECODED)
            rows, held = [], 0
    if rows:
        yield pa.Table.from_pylist(rows, DECODED)


def _decode(item: Item, spec: MediaSpec, limits: Limits) -> dict[str, Any]:
    row: dict[str, Any] = {"id": item.id, "task": item.task, "question": item.question, "frames": [], "sizes": []}
    try:
        media = read_once(item.media, limits)
        video = is_video(media)
        frames, row["warning"] = open_frames(media, spec, video=video, limits=limits)
    except Exception as error:  # recorded in the row
        return row | {"error": one_line(error)}
    row["video"] = video
    row["frames"] = [frame.tobytes() for frame in frames]
    row["sizes"] = [side for frame in frames for side in (frame.height, frame.width)]
    return row


class ScoreStage:
    """Holds a scorer on a device; rows of pixels in, rows of scores out.

    Args:
        model: see `Scorer.from_pretrained`; every machine must be able to read it.
        task: "auto", or one task.
        options: forwarded whole to `Scorer.from_pretrained`.
        columns: of the rows.
    """

    def __init__(self, model: str, task: str, options: dict[str, Any], columns: Sequence[str] = COLUMNS) -> None:
        from q_align.score.scorer import Scorer

        self.scorer = Scorer.from_pretrained(model, **options)
        # decoded once already, sampled and scaled
        spec = self.scorer.spec
        self.scorer.spec = MediaSpec(max_frames=2**31, tiles=spec.tiles, pool=spec.pool)
        self.task, self.columns = task, columns

    def __call__(self, table: pa.Table) -> pa.Table:
        from q_align.score.shards import SCHEMA

        rows = table.to_pylist()
        scores = self.scorer.stream((_item(row) for row in rows), self.task)
        made = []
        for row, score in zip(rows, scores, strict=True):
            if row["error"] is not None:
                score = Score(row["id"], error=row["error"])
            score.warning = row["warning"]
            made.append(score.row() | {"question": row["question"]})
        return pa.Table.from_pylist(made, pa.schema([SCHEMA.field(name) for name in self.columns]))


def _item(row: dict[str, Any]) -> Item:
    if row["error"] is not None:
        return Item(row["id"], b"", row["task"])  # fails at once; its own reason replaces this one's
    sizes = list(zip(row["sizes"][::2], row["sizes"][1::2]))
    frames = [np.frombuffer(data, np.uint8).reshape(*size, 3) for data, size in zip(row["frames"], sizes)]
    if not frames:
        raise MediaError(f"{row['id']}: no frames came from the decoder")
    return Item(row["id"], frames if row["video"] else frames[0], row["task"], row["question"])


def write_shard(table: pa.Table, folder: str, name: str) -> dict[str, int]:
    """Writes rows whole or not at all, under a name that a repeated attempt uses again."""
    from q_align.score.shards import write_parquet

    Path(folder).mkdir(parents=True, exist_ok=True)
    write_parquet(table, Path(folder) / f"{name}.parquet")
    return {"n": len(table), "failed": len(table) - table["error"].null_count}
