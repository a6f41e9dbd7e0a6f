"""Training from Python: `fine_tune(model, data, output_dir=..., epochs=3)`; `q-align train` runs the same code."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from q_align.config.keywords import keyword_tree, plain
from q_align.config.resolve import resolve_config
from q_align.errors import ConfigError
from q_align.train.given_data import GivenSet, given_sets, open_given
from q_align.train.run import run
from q_align.train.run_result import RunResult


def fine_tune(
    model: str | os.PathLike[str],
    data: Any,
    *,
    output_dir: str | os.PathLike[str],
    eval_data: Any = None,
    media_root: str | os.PathLike[str] | None = None,
    task: str | None = None,
    mos_range: Sequence[float] | None = None,
    higher_is_better: bool | None = None,
    config: Any = (),
    callbacks: Sequence[Any] = (),
    **keys: Any,
) -> RunResult:
    """Fine-tunes a model on rated images or videos.

        run = fine_tune("nano", df, output_dir="runs/mine", media_root="photos", mos_range=(1, 5), epochs=30, lr=5e-4)
        run.metrics["srcc"], pd.DataFrame(run.history), run.scorer().score("photo.jpg").value

    The random state and the environment of the process are as before when it returns; `seed` alone decides a run.

    Args:
        model: a folder, a hub id, a name ("nano", "one-align"), or the result of an earlier run.
        data: a pandas DataFrame, a datasets.Dataset or DatasetDict, a list of dicts (which may hold PIL images), a
            labels file, the name of a data set card, `Labels`; or a dict of them by name, for several data sets. In
            such a dict, `{"data": ..., "media_root": ..., "mos_range": ..., "weight": 2, "cap": 1000}` sets options of
            one data set (docs/python.md). A column `split` (train, val, test) divides the rows; test rows are not used.
        output_dir: folder of the run; it is a model that `Scorer.from_pretrained` takes.
        eval_data: validation rows, as `data`; None: the rows of split "val", else a share of the contents (val_share).
        media_root: folder of relative paths; None: the labels file's folder, or the working directory.
        task: "iqa", "iaa", "vqa" or a registered task; None: as the labels say, else by the kind of file.
        mos_range: lowest and highest MOS that the scale allows; None: those of the training rows.
        higher_is_better: False for DMOS; None: False for a column `dmos`.
        config: configurations that come first: a name ("nano_finetune"), a YAML file, a mapping of sections, or a list
            of them.
        callbacks: `transformers.TrainerCallback`s.
        keys: settings, by our names without the section (epochs, lr, batch_size, patience, resume, max_pixels, ...) or
            by those of transformers' TrainingArguments (num_train_epochs, learning_rate, ...). loss="soft",
            readout="head", lora=True or lora={"r": 16}. `q-align config --help-keys` lists all.

    Raises:
        ConfigError: for unknown names, with the nearest one, and for settings that contradict each other.
        LabelError, MediaError: when labels or items are missing or broken; names the row.
        TrainingError: when the loss is not finite or the disk is full.
    """
    if not isinstance(model, (str, os.PathLike)):
        raise ConfigError(f"model is a folder, a hub id or a name such as 'nano'; got a {type(model).__name__}")
    own = {"output_dir": output_dir, "model.path": model}
    tree = keyword_tree({**keys, **{"train.output_dir": output_dir, "model.path": model}})
    for key in own.keys() & keys.keys():
        raise ConfigError(f"{key} is given twice")
    options = {
        "media_root": media_root,
        "task": task,
        "mos_range": mos_range,
        "higher_is_better": higher_is_better,
    }
    options = {name: plain(value) for name, value in options.items() if value is not None}
    files, sections = _configurations(config)
    sets = given_sets(data, eval_data)
    tree["data"] = {**tree.get("data", {}), **options}
    opened = []
    if all(isinstance(one.data, (str, Path)) and one.eval_data is None for one in sets):
        tree["data"] |= _named_files(sets)
    else:
        merged = resolve_config(files, tree=_merge(sections, tree))
        common = {name: getattr(merged.data, name) for name in ("media_root", "task", "mos_range", "higher_is_better")}
        opened = [open_given(one, common) for one in sets]
        tree["data"]["sets"] = [
            {"source": labels.source, **one.sampling()} for one, labels in zip(sets, opened, strict=True)
        ]
    return run(resolve_config(files, tree=_merge(sections, tree)), data=opened, callbacks=callbacks)


def _named_files(sets: Sequence[GivenSet]) -> dict[str, Any]:
    """Labels files and cards, which the run opens by itself."""
    if len(sets) == 1 and sets[0].name is None:
        return {"train": str(sets[0].data)}
    return {"sets": [{"labels": str(one.data), "source": one.name, **plain(one.options)} for one in sets]}


def _configurations(config: Any) -> tuple[list[str | Path], dict[str, Any]]:
    """Files, and the sections of mappings."""
    given = list(config) if isinstance(config, (list, tuple)) else [] if config is None else [config]
    files: list[str | Path] = []
    sections: dict[str, Any] = {}
    for one in given:
        if isinstance(one, Mapping):
            sections = _merge(sections, plain(one))
        elif isinstance(one, (str, os.PathLike)):
            if sections:
                raise ConfigError("config: files come before mappings")
            files.append(os.fspath(one))
        else:
            raise ConfigError(f"config is a name, a YAML file or a mapping of sections; got a {type(one).__name__}")
    return files, sections


def _merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Two trees; the second one wins."""
    merged = dict(first)
    for key, value in second.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
