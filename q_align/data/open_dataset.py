"""A data set by card name, card file or labels file -> `Labels` with media resolved; and whether its media are there.

The thin layer between cards and `read_labels`: renames the columns of the data sets' own files, drops what does not
belong to the data set, finds the folder that the media lie in. Opens no medium, knows no model.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from q_align.data.dataset_card import SOURCES, DatasetCard, Split, card_names, find_labels, load_card
from q_align.data.label_files import read_labels
from q_align.data.labels import Labels
from q_align.data.table_files import READERS, read_table, write_table
from q_align.errors import ConfigError, LabelError, MediaError, nearest
from q_align.levels import LevelScheme
from q_align.log import log
from q_align.media.packed import file_of

_LOOK = 20  # media that decide which folder layout is there


class Spec(NamedTuple):
    """What `--data` named: a card, a labels file, or both (`koniq=my_labels.csv`)."""

    card: DatasetCard | None
    labels: Path | None


def parse_spec(text: str | Path) -> Spec:
    """Reads CARD, CARD.yaml, LABELS or CARD=LABELS.

    Raises:
        ConfigError: when it is none of them.
    """
    text = str(text)
    head, sign, tail = text.partition("=")
    if sign and (head in card_names() or head.endswith((".yaml", ".yml"))):
        return Spec(load_card(head), Path(tail))
    if Path(text).suffix.lower() in READERS:
        return Spec(None, Path(text))
    if text in card_names() or text.endswith((".yaml", ".yml")):
        return Spec(load_card(text), None)
    hint = nearest(text, card_names())
    raise ConfigError(
        f"{text!r} is neither a dataset card{hint} nor a labels file ({', '.join(READERS)}); "
        f"cards are {', '.join(card_names())}"
    )


def open_dataset(
    data: str | Path,
    *,
    media_root: str | Path | None = None,
    labels_root: str | Path | None = None,
    split: str | None = None,
    scheme: LevelScheme | None = None,
    **overrides: Any,
) -> Labels:
    """Opens a data set for training or evaluation.

    Args:
        data: a card's name ("koniq"), a card's YAML file, a labels file, or "card=labels file".
        media_root: folder that holds the media; default: the folder of the labels file.
        labels_root: folder with published label files; the media root and Q_ALIGN_DATA are looked at too.
        split: part to take. Default: every row of a labels file; of a card, its train and test parts, told apart by the
            `split` column, or the whole where it has no such parts.
        scheme: the levels.
        **overrides: `task`, `source`, `mos_range`, `higher_is_better` of `read_labels`, over the card's; `taught`.

    Raises:
        ConfigError: for an unknown name or split.
        LabelError: when labels are missing (says how to get them) or make no sense.
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    card, path = parse_spec(data)
    if path is not None:
        labels = _open(path, card, None, media_root, scheme, given)
        return labels if split in (None, "all") else labels.split(split)
    assert card is not None  # parse_spec: a card, a file, or both
    both = split is None and {"train", "test"} <= set(card.splits)
    found = []
    for name in ("train", "test") if both else (card.part(split),):
        path = find_labels(card, name, [labels_root, media_root])
        part = _open(path, card, card.splits[name], media_root, scheme, given)
        if both:
            part.table = _put(part.table, "split", [name] * len(part))
        found.append(part)
    return found[0] if len(found) == 1 else _join(found)


def open_for_test(data: str | Path, *, split: str | None = None, **options: Any) -> Labels:
    """`open_dataset` for evaluation: the test rows unless `split` says otherwise.

    Without a split: a card's test part, or the whole where it has none; a labels file's "test" rows where it has
    some, else every row. "all" takes every row.
    """
    spec = parse_spec(data)
    if spec.labels is None:
        return open_dataset(data, split=split or "test", **options)
    labels = open_dataset(data, split=split, **options)
    if split is None and labels.has("split") and "test" in set(labels.column("split")):
        return labels.split("test")
    return labels


def missing_media(labels: Labels) -> np.ndarray:
    """Positions of the items whose file does not exist (URLs count as there)."""
    names = labels.column("media")
    return np.array([i for i, name in enumerate(names) if "://" not in name and not file_of(name).is_file()], dtype=int)


def check_media(labels: Labels, card: DatasetCard | None = None) -> np.ndarray:
    """Positions of missing media; a warning for some, an error for all.

    Raises:
        MediaError: when not one medium is there; says how to get them.
    """
    missing = missing_media(labels)
    if len(missing) and len(missing) == len(labels):
        example = labels.column("media")[0]
        how = f"; to get them: {card.how_to_get()}" if card else ""
        raise MediaError(
            f"{labels.source}: none of {len(labels)} media found (first: {example}); "
            f"--media-root names their folder{how}"
        )
    if len(missing):
        first = labels.column("media")[missing[0]]
        log.warning("%s: %d of %d media are missing (first: %s)", labels.source, len(missing), len(labels), first)
    return missing


def _open(
    path: Path,
    card: DatasetCard | None,
    part: Split | None,
    media_root: str | Path | None,
    scheme: LevelScheme | None,
    given: dict[str, Any],
) -> Labels:
    root = Path(path.parent if media_root is None else media_root)
    if card is None:
        return read_labels(path, media_root=root, scheme=scheme, **given)
    facts: dict[str, Any] = {"task": card.task, "source": card.name, "higher_is_better": card.higher_is_better}
    facts["mos_range"] = (part.mos_range if part else None) or card.mos_range
    labels = _fit(_read(path, part, root, scheme, facts | given), card, root)
    if part is not None and part.n is not None and len(labels) != part.n:
        log.warning("%s: %s has %d usable items, published are %d", card.name, path, len(labels), part.n)
    return labels


def _read(path: Path, part: Split | None, root: Path, scheme: LevelScheme | None, options: dict[str, Any]) -> Labels:
    if part is None or not part.columns:
        return read_labels(path, media_root=root, scheme=scheme, **options)
    table = read_table(path)
    lost = [name for ours, name in part.columns.items() if name not in table.column_names and ours != "std"]
    if lost:
        raise LabelError(f"{path}: missing column {' and '.join(lost)}; columns found: {', '.join(table.column_names)}")
    named = {ours: table.column(name) for ours, name in part.columns.items() if name in table.column_names}
    media = next(iter(named))
    named[media] = pa.array([f"{name}{part.suffix}" for name in named[media].to_pylist()])
    with tempfile.TemporaryDirectory() as folder:  # read_labels stays the one reader
        ours = Path(folder) / f"{path.stem}.parquet"
        write_table(pa.table(named), ours)
        return read_labels(ours, media_root=root, scheme=scheme, **options)


def _fit(labels: Labels, card: DatasetCard, root: Path) -> Labels:
    """Excludes what is no part of the data set, names contents, and points the media to where they lie."""
    table = labels.table
    names = [name.removeprefix(f"{root.as_posix().rstrip('/')}/") for name in table.column("media").to_pylist()]
    keep = [i for i, name in enumerate(names) if not (card.exclude and re.search(card.exclude, name))]
    if len(keep) < len(names):
        table, names = table.take(pa.array(keep, pa.int64())), [names[i] for i in keep]
    if card.content and table.column("content").null_count == len(names):
        found = [re.search(card.content, name) for name in names]
        contents = [match.group(1) if match else name for match, name in zip(found, names)]
        table = _put(table, "content", contents)
    table = _put(table, "media", _locate(names, root, card.folders))
    return replace(labels, table=table, report=labels.report | {"excluded": len(labels) - len(names)})


def _locate(names: list[str], root: Path, folders: list[str]) -> list[str]:
    """Where the media lie: as the labels say, or without their first folder, or below one of the card's folders."""

    def at(folder: str | None, name: str) -> str:
        if "://" in name or name.startswith("/"):
            return name
        return "/".join(p for p in (base, folder, name if folder is None else name.split("/", 1)[-1]) if p)

    base = root.as_posix().rstrip("/") if root != Path() else ""
    look = names[:: max(1, len(names) // _LOOK)]
    layouts = [None, "", *folders]
    hits = [sum(Path(at(folder, name)).is_file() for name in look) for folder in layouts]
    best = layouts[int(np.argmax(hits))]  # the first of the best: as the labels say, when nothing is there
    return [at(best, name) for name in names]


def _put(table: pa.Table, name: str, values: list[str]) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values, pa.large_string()))


def _join(parts: list[Labels]) -> Labels:
    table = pa.concat_tables([part.table for part in parts], promote_options="default")
    counts = {
        key: value + parts[1].report.get(key, 0) if isinstance(value, int) else value
        for key, value in parts[0].report.items()
    }
    low, high = zip(*(part.mos_range for part in parts))
    return replace(parts[0], table=table, report=counts, mos_range=(min(low), max(high)))


__all__ = [
    "SOURCES",
    "DatasetCard",
    "Spec",
    "card_names",
    "check_media",
    "load_card",
    "missing_media",
    "open_dataset",
    "open_for_test",
    "parse_spec",
]
