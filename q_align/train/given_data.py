"""Data sets of a Python caller -> `Labels`: a table, a file or `Labels`; one or several; with their validation rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from q_align.config.schema import LabelOptions, SetConfig
from q_align.data.columns import MEDIA
from q_align.data.from_objects import SOURCE, labels_from
from q_align.data.labels import KNOWN, Labels
from q_align.data.mos_range import log_range
from q_align.data.open_dataset import open_dataset
from q_align.data.table_files import FILES
from q_align.errors import ConfigError, LabelError, nearest

LABEL_OPTIONS = tuple(f.name for f in fields(LabelOptions))
SAMPLING = tuple(f.name for f in fields(SetConfig) if f.name not in (*LABEL_OPTIONS, "labels", "source"))


@dataclass(slots=True)
class GivenSet:
    """One data set as the caller holds it.

    Attributes:
        name: of the data set; None: what its file is called, or "data".
        data: rows, or a labels file, or `Labels`.
        eval_data: its validation rows, likewise; None: those among `data`.
        options: media_root, task, mos_range, higher_is_better, weight, cap.
    """

    name: str | None
    data: Any
    eval_data: Any = None
    options: dict[str, Any] = field(default_factory=dict)

    def sampling(self) -> dict[str, Any]:
        return {name: self.options[name] for name in SAMPLING if name in self.options}


def given_sets(data: Any, eval_data: Any = None) -> list[GivenSet]:
    """Splits what a caller passed into data sets.

    Raises:
        ConfigError: for options and names that do not exist.
    """
    if _is_dataset_dict(data):
        if "train" not in data:
            raise ConfigError(f"a DatasetDict needs a split 'train'; it has {', '.join(data)}")
        held_out = next((data[name] for name in ("validation", "val", "dev") if name in data), None)
        return [GivenSet(None, data["train"], held_out if eval_data is None else eval_data)]
    if not isinstance(data, Mapping) or _is_columns(data):
        return [GivenSet(None, data, eval_data)]
    if not data:
        raise ConfigError("data is an empty dict; it maps names to data sets")
    sets = [_named(str(name), value) for name, value in data.items()]
    if eval_data is None:
        return sets
    if not isinstance(eval_data, Mapping) or _is_columns(eval_data) or _is_dataset_dict(eval_data):
        raise ConfigError("data names several data sets: eval_data is a dict of the same names")
    by_name = {one.name: one for one in sets}
    for name, value in eval_data.items():
        if name not in by_name:
            raise ConfigError(f"eval_data: no data set {name!r}{nearest(str(name), [str(n) for n in by_name])} in data")
        by_name[name].eval_data = value
    return sets


def open_given(one: GivenSet, common: Mapping[str, Any]) -> Labels:
    """The labels of one data set, training and validation rows, as `split` says.

    Args:
        one: the data set.
        common: media_root, task, mos_range, higher_is_better where the set itself says nothing; None: unknown.

    Raises:
        LabelError: for rows that are no labels.
    """
    options = {name: one.options.get(name, common.get(name)) for name in LABEL_OPTIONS}
    labels = _open(one.data, one.name, options)
    log_range(labels)
    if one.eval_data is None:
        return labels
    if options["mos_range"] is None:
        options["mos_range"] = None if labels.report.get("range_from") != "votes" else labels.mos_range
    return join_validation(labels, _open(one.eval_data, labels.source, options))


def join_validation(train: Labels, held_out: Labels) -> Labels:
    """Training rows of one table and validation rows of another, on the scale of the first.

    Of the second table its "val" rows are taken, where there are any; else all that are not "train".
    """
    if train.higher_is_better != held_out.higher_is_better:
        raise LabelError(f"{train.source}: data and eval_data have opposite directions; set higher_is_better")
    names = train.column("split")
    rows = train.split("train") if any(names) else train
    found = held_out.column("split")
    chosen = found == "val" if (found == "val").any() else found != "train"
    val = held_out.select(np.flatnonzero(chosen if chosen.any() else np.ones(len(held_out), bool)))
    parts = [_known(rows.table, "train"), _known(val.table, "val")]
    try:
        table = pa.concat_tables(parts, promote_options="permissive")
    except pa.ArrowException as error:
        raise LabelError(f"{train.source}: data and eval_data have columns of different kinds ({error})") from error
    return replace(train, table=table)


def _known(table: pa.Table, split: str) -> pa.Table:
    """The columns with a meaning, all rows in one split."""
    table = table.select([name for name in table.column_names if name in KNOWN])
    place = table.column_names.index("split")
    return table.set_column(place, "split", pa.array([split] * len(table), pa.large_string()))


def _open(data: Any, name: str | None, options: Mapping[str, Any]) -> Labels:
    given = {key: value for key, value in options.items() if value is not None}
    if "mos_range" in given:
        low, high = given["mos_range"]
        given["mos_range"] = (float(low), float(high))
    if isinstance(data, Labels):
        if given:
            raise ConfigError(f"{', '.join(given)}: Labels have their own; give these to read_labels")
        return replace(data, source=name or data.source)
    if isinstance(data, (str, Path)):
        return open_dataset(data, source=name, **given)
    return labels_from(data, source=name or SOURCE, **given)


def _named(name: str, value: Any) -> GivenSet:
    if not isinstance(value, Mapping) or "data" not in value:
        return GivenSet(name, value)
    options = {str(key): option for key, option in value.items() if key not in ("data", "eval_data")}
    for key in options:
        if key not in (*LABEL_OPTIONS, *SAMPLING):
            known = ("data", "eval_data", *LABEL_OPTIONS, *SAMPLING)
            raise ConfigError(f"{name}: unknown option {key!r}{nearest(key, known)}; options are {', '.join(known)}")
    return GivenSet(name, value["data"], value.get("eval_data"), options)


def _is_dataset_dict(data: Any) -> bool:
    return type(data).__name__ == "DatasetDict"


def _is_columns(data: Mapping[str, Any]) -> bool:
    """Whether a mapping is a table of columns rather than several data sets."""
    return any(str(name).lower() in (*MEDIA, *FILES) for name in data) and all(
        isinstance(column, (Sequence, np.ndarray)) and not isinstance(column, str) for column in data.values()
    )
