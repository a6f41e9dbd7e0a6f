"""A data set by card name, card file or labels file -> `Labels`, with its images and videos found on disk.

The thin layer between cards and `read_labels`: renames the columns of the data sets' own files, drops what does not
belong to the data set, and finds the folder that holds the images and videos.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from q_align.data.dataset_card import DatasetCard, Split, card_names, find_labels, load_card
from q_align.data.label_files import labels_from_table, read_labels
from q_align.data.labels import Labels, rescale_mos
from q_align.data.mos_range import ROWS, range_of_rows
from q_align.data.table_files import READERS, read_table
from q_align.errors import ConfigError, LabelError, nearest
from q_align.log import log

_LOOK = 20  # files that decide which folder layout is there


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
    **overrides: Any,
) -> Labels:
    """Opens a data set for training or evaluation.

    Args:
        data: a card's name ("koniq"), a card's YAML file, a labels file, or "card=labels file".
        media_root: folder that holds the images and videos; default: the folder of the labels file.
        labels_root: folder with published label files; the media root and Q_ALIGN_DATA are searched too.
        split: part to take. Default: every row of a labels file; of a card, its train and test parts, distinguished by
            the `split` column, or the whole where it has no such parts. Where the labels file of a card's part has a
            `split` column, only its rows of that split are taken.
        **overrides: `task`, `source`, `mos_range`, `higher_is_better` of `read_labels`, over the card's.

    Raises:
        ConfigError: for an unknown name or split.
        LabelError: when labels are missing (names how to get them), make no sense, or contradict the card.
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    card, path = parse_spec(data)
    if path is not None:
        labels = _open(path, card, None, media_root, given)
        return labels if split in (None, "all") else labels.split(split)
    assert card is not None  # parse_spec: a card, a file, or both
    both = split is None and {"train", "test"} <= set(card.splits)
    found = []
    for name in ("train", "test") if both else (card.part(split),):
        path = find_labels(card, name, [labels_root, media_root])
        part = _open(path, card, card.splits[name], media_root, given)
        if part.has("split"):
            part = _rows_of_part(part, card, name, path, asked=name if both else split, training=both)
        elif both:
            part.table = _put(part.table, "split", [name] * len(part))
        published = card.splits[name].n
        count = int((part.column("split") == name).sum()) if both else len(part)  # without validation rows
        if published is not None and count != published:
            log.warning("%s: %s has %d usable items, published are %d", card.name, path, count, published)
        found.append(part)
    return found[0] if len(found) == 1 else _join(found)


def open_for_test(data: str | Path, *, split: str | None = None, **options: Any) -> Labels:
    """`open_dataset` for evaluation: the test rows unless `split` names others.

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


def _open(
    path: Path,
    card: DatasetCard | None,
    part: Split | None,
    media_root: str | Path | None,
    given: dict[str, Any],
) -> Labels:
    root = Path(path.parent if media_root is None else media_root)
    if card is None:
        return read_labels(path, media_root=root, **given)
    facts: dict[str, Any] = {"task": card.task, "source": card.name, "higher_is_better": card.higher_is_better}
    facts["mos_range"] = (part.mos_range if part else None) or card.mos_range
    return _fit(_read(path, part, root, facts | given), card, root)


def _rows_of_part(
    labels: Labels, card: DatasetCard, name: str, path: Path, *, asked: str | None, training: bool
) -> Labels:
    """The rows that the `split` column of the labels file gives to a card's part.

    Args:
        name: of the part.
        asked: the split that was asked for: another one than `name` where the card has the whole set only, and None
            for every row.
        training: validation rows come with the training part.
    """
    column = labels.column("split")
    if asked in (None, "all"):
        return labels
    wanted = {asked, "val"} if training and asked == "train" and "val" not in card.splits else {asked}
    rows = np.flatnonzero([value in wanted for value in column])
    if len(rows):
        return labels.select(rows)
    if asked != name:
        return labels
    values, counts = np.unique(column.astype(str), return_counts=True)
    have = ", ".join(f"{value} {count}" for value, count in zip(values, counts))
    raise LabelError(
        f"{card.name}: split {name!r} of the card is {path}, and no row of its column split is {name!r} (it has "
        f"{have}); correct the card or the column"
    )


def _read(path: Path, part: Split | None, root: Path, options: dict[str, Any]) -> Labels:
    if part is None or not part.columns:
        return read_labels(path, media_root=root, **options)
    table = read_table(path)
    lost = [name for ours, name in part.columns.items() if name not in table.column_names and ours != "std"]
    if lost:
        raise LabelError(f"{path}: missing column {' and '.join(lost)}; columns found: {', '.join(table.column_names)}")
    named = {ours: table.column(name) for ours, name in part.columns.items() if name in table.column_names}
    media = next(iter(named))
    named[media] = pa.array([f"{name}{part.suffix}" for name in named[media].to_pylist()])
    return labels_from_table(pa.table(named), path, media_root=root, **options)


def _fit(labels: Labels, card: DatasetCard, root: Path) -> Labels:
    """Excludes what is no part of the data set, names contents, and finds the images and videos."""
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
    """Where the files are: as the labels name them, or without their first folder, or below a folder of the card."""

    def at(folder: str | None, name: str) -> str:
        if "://" in name or name.startswith("/"):
            return name
        return "/".join(p for p in (base, folder, name if folder is None else name.split("/", 1)[-1]) if p)

    base = root.as_posix().rstrip("/") if root != Path() else ""
    look = names[:: max(1, len(names) // _LOOK)]
    layouts = [None, "", *folders]
    hits = [sum(Path(at(folder, name)).is_file() for name in look) for folder in layouts]
    best = layouts[int(np.argmax(hits))]  # the first of the best: as the labels name them, where nothing is there
    return [at(best, name) for name in names]


def _put(table: pa.Table, name: str, values: list[str]) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values, pa.large_string()))


def _join(parts: list[Labels]) -> Labels:
    """Train and test part as one set, on one scale with one range."""
    first, second = parts
    table = pa.concat_tables([first.table, _on_scale_of(first, second).table], promote_options="default")
    report = {
        key: value + second.report.get(key, 0) if isinstance(value, int) else value
        for key, value in first.report.items()
    }
    joined = replace(first, table=table, report=report)
    if report["range_from"] not in ROWS:
        return joined
    ends = range_of_rows(joined.column("raw_mos"), table.column("split"), first.source, report)
    return replace(joined, mos_range=ends)


def _on_scale_of(first: Labels, second: Labels) -> Labels:
    """The second part on the scale of the first: where a card gives each part a range, the scales differ."""
    if second.report["range_from"] != "declared" or second.mos_range == first.mos_range:
        return second
    table = second.table
    for name in ("raw_mos", "raw_std"):
        values = rescale_mos(second.column(name), second.mos_range, first.mos_range, spread=name == "raw_std")
        table = table.set_column(table.column_names.index(name), name, pa.array(values, from_pandas=True))
    return replace(second, table=table, mos_range=first.mos_range)


__all__ = ["DatasetCard", "Spec", "card_names", "load_card", "open_dataset", "open_for_test", "parse_spec"]
