"""Labels from Python objects: a DataFrame, a datasets.Dataset, a pyarrow table, or a list of dicts.

Images that are no files (PIL images, arrays, bytes) are written once to a folder, under a name made of their content.
"""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from q_align.data.columns import media_column, our_names
from q_align.data.label_files import labels_from_table
from q_align.data.labels import Labels
from q_align.data.table_files import from_records
from q_align.errors import LabelError

SOURCE = "data"
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif", "GIF": ".gif"}


def labels_from(
    data: Any,
    *,
    media_root: str | Path | None = None,
    image_folder: str | Path | None = None,
    source: str = SOURCE,
    **options: Any,
) -> Labels:
    """Reads rated items from memory, with the columns and checks of a labels file (`read_labels`).

    Args:
        data: a pandas DataFrame, a datasets.Dataset, a pyarrow table, a dict of columns, or a list of dicts. The column
            of the items (`image`, `video`, `media`, `path`) holds paths or, for images, PIL images, (H, W, 3) uint8
            arrays, encoded bytes, or dicts with `bytes` and `path` as datasets.Image stores them.
        media_root: folder of relative paths; default: the working directory.
        image_folder: where images from memory are written; default: the user's cache folder (`q_align/images`).
        source: name of the data set.
        options: `task`, `mos_range`, `higher_is_better` of `read_labels`.

    Raises:
        LabelError: for another kind of object, missing columns, and values that are no labels; names the row.
    """
    table, items = _split(data)
    folder = Path(image_folder if image_folder is not None else image_cache_folder()).absolute()
    paths = [_path(item, folder, row) for row, item in enumerate(items.values, 1)]
    table = table.append_column(items.name, pa.array(paths, pa.large_string()))
    if "id" not in table.column_names and any(not isinstance(item, (str, os.PathLike)) for item in items.values):
        table = table.append_column("id", pa.array([_name(i, p) for i, p in zip(items.values, paths)]))
    root = "." if media_root is None else media_root
    return labels_from_table(table, source, source=source, media_root=root, **options)


def image_cache_folder() -> Path:
    """Where images from memory are written."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "q_align" / "images"


class _Items:
    """The column of the items, before it becomes paths."""

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.name, self.values = name, values


def _split(data: Any) -> tuple[pa.Table, _Items]:
    """The table without the column of the items, and that column."""
    kind = f"{type(data).__module__.partition('.')[0]}.{type(data).__name__}"
    if kind == "pandas.DataFrame":
        name = _named(list(map(str, data.columns)))
        rest = data.drop(columns=[name])
        return pa.Table.from_pandas(rest, preserve_index=False), _Items(name, data[name].tolist())
    if kind == "datasets.Dataset":
        data = _encoded(data).with_format("arrow")[:]
    elif kind.startswith("datasets."):
        raise LabelError(f"got a {kind}; pass one split of it, a datasets.Dataset")
    if isinstance(data, Mapping):
        data = [dict(zip(data, row)) for row in zip(*data.values(), strict=True)]
    if isinstance(data, pa.Table):
        name = _named(data.column_names)
        return data.drop_columns([name]), _Items(name, data.column(name).to_pylist())
    if isinstance(data, Sequence) and data and all(isinstance(row, Mapping) for row in data):
        name = _named(list(dict.fromkeys(key for row in data for key in row)))
        rows = [{key: value for key, value in row.items() if key != name} for row in data]
        return from_records(rows), _Items(name, [row.get(name) for row in data])
    what = "an empty list" if isinstance(data, Sequence) and not data else kind.removeprefix("builtins.")
    raise LabelError(
        f"labels are a path, a DataFrame, a datasets.Dataset, a pyarrow table, or a list of dicts; got {what}"
    )


def _named(columns: list[str]) -> str:
    """Name of the column of the items; MOS or votes must be there too."""
    return media_column(our_names(pa.table({name: pa.nulls(0) for name in columns}))[0], Path(SOURCE))


def _encoded(data: Any) -> Any:
    """A datasets.Dataset whose images stay encoded: nothing is decoded and encoded again."""
    from datasets import Image as ImageFeature

    for name, feature in data.features.items():
        if isinstance(feature, ImageFeature):
            data = data.cast_column(name, ImageFeature(decode=False))
    return data


def _path(item: Any, folder: Path, row: int) -> str:
    """Path of one item; an image from memory is written first."""
    if isinstance(item, Mapping) and {"bytes", "path"} & set(item):
        item = item["bytes"] if item.get("bytes") is not None else item.get("path")
    if isinstance(item, (str, os.PathLike)):
        return os.fspath(item)
    if isinstance(item, Image.Image):
        return _store(_png(item), ".png", folder)
    if isinstance(item, np.ndarray):
        if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3:
            raise LabelError(f"row {row}: an array is (height, width, 3) uint8, got {item.shape} {item.dtype}")
        return _store(_png(Image.fromarray(item)), ".png", folder)
    if isinstance(item, (bytes, bytearray)):
        return _store(bytes(item), _suffix(bytes(item), row), folder)
    raise LabelError(f"row {row}: an item is a path, a PIL image, an array or bytes, got {type(item).__name__}")


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    if image.mode not in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"):
        image = image.convert("RGB")
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _suffix(data: bytes, row: int) -> str:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return SUFFIXES.get(str(image.format), f".{str(image.format).lower()}")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise LabelError(f"row {row}: the bytes are no image that can be opened ({error})") from None


def _store(data: bytes, suffix: str, folder: Path) -> str:
    """Writes a file named after its content, unless it is there."""
    path = folder / f"{hashlib.sha256(data).hexdigest()[:32]}{suffix}"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{uuid.uuid4().hex}.partial"
        partial.write_bytes(data)
        partial.replace(path)
    return str(path)


def _name(item: Any, path: str) -> str:
    """The id of an item: its path, or the file name that a dataset remembers, or the name of the written file."""
    if isinstance(item, Mapping) and item.get("path"):
        return Path(str(item["path"])).name
    filename = getattr(item, "filename", "")
    return str(filename or (item if isinstance(item, (str, os.PathLike)) else Path(path).name))
