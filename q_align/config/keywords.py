"""Keyword arguments -> sections of a configuration: our keys without the section, or the names of other trainers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from q_align.config.aliases import OTHER_NAMES
from q_align.config.overrides import all_keys
from q_align.config.schema import RunConfig
from q_align.errors import ConfigError, nearest

# Sections that take a single value: loss="soft", readout="head", lora=True.
SHORT = {"loss": "loss.name", "readout": "readout.kind", "lora": "model.lora.enabled"}


class Translation(NamedTuple):
    """Attributes:
    key: ours.
    value: theirs -> ours; None as a result: nothing is set.
    """

    key: str
    value: Callable[[Any], Any] = lambda value: value


def _flag(true: Any, false: Any = None) -> Callable[[Any], Any]:
    return lambda value: true if value else false


def _tools(value: Any) -> Any:
    return [] if value in (None, "none") else [value] if isinstance(value, str) else value


def _epochs(value: Any) -> float:
    """The strategies "epoch" and "best" are ours; one in steps is not."""
    name = str(getattr(value, "value", value))
    if name != "epoch":
        raise ConfigError(f"eval_strategy and save_strategy {name!r}: give eval_every, in epochs (0.5: twice an epoch)")
    return 1.0


def _share(value: Any) -> Any:
    if value and value >= 1:
        raise ConfigError(f"warmup_steps {value}: give warmup, a share of the steps (0.03)")
    return value


def _resume(value: Any) -> Any:
    if isinstance(value, (str, os.PathLike)):
        raise ConfigError("resume_from_checkpoint: give resume=True; the last checkpoint in output_dir is taken")
    return bool(value)


def _precision(value: Any) -> Any:
    name = str(value).removeprefix("torch.")
    return {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}.get(name, name)


# Names of other trainers whose values differ from ours.
CONVERTED = {
    "warmup_steps": Translation("train.warmup", _share),
    "eval_strategy": Translation("train.eval_every", _epochs),
    "evaluation_strategy": Translation("train.eval_every", _epochs),
    "save_strategy": Translation("train.eval_every", _epochs),
    "bf16": Translation("train.precision", _flag("bf16")),
    "fp16": Translation("train.precision", _flag("fp16")),
    "dtype": Translation("train.precision", _precision),
    "torch_dtype": Translation("train.precision", _precision),
    "load_in_4bit": Translation("model.quantize", _flag("4bit")),
    "load_in_8bit": Translation("model.quantize", _flag("8bit")),
    "report_to": Translation("train.report_to", _tools),
    "resume_from_checkpoint": Translation("train.resume", _resume),
}


def keyword_tree(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments as a tree of sections.

    A name is a key of ours without its section where only one section has it (`lr`, `max_pixels`), a section with a
    mapping (`media={"fps": 2}`), a whole key (`**{"train.lr": 1e-4}`), or the name that transformers, TRL or PEFT use
    (`learning_rate`). `loss`, `readout` and `lora` also take one value: loss="soft", readout="head", lora=True.

    Raises:
        ConfigError: for a name that is none of them, with the one that was probably meant; for a key given twice.
    """
    known = all_keys(RunConfig)
    leaves = [key for key in known if not key.startswith("data.sets.")]
    short: dict[str, list[str]] = {}
    for key in leaves:
        short.setdefault(key.rsplit(".", 1)[-1], []).append(key)
    tree: dict[str, Any] = {}
    given: dict[str, str] = {}
    for name, value in keys.items():
        key, found = _translate(name, value, known, short)
        if key == "model.lora" and isinstance(found, Mapping):
            found = {"enabled": True, **found}
        if found is None and name in CONVERTED:
            continue
        if key in given:
            raise ConfigError(f"{given[key]} and {name} are both {key}; give one of them")
        given[key] = name
        _put(tree, key.split("."), plain(found))
    return tree


def plain(value: Any) -> Any:
    """A value as a YAML file would hold it: no paths, tuples, or numbers of numpy."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(part) for part in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic):
        return value.item()
    return value


def _translate(name: str, value: Any, known: list[str], short: Mapping[str, list[str]]) -> tuple[str, Any]:
    if name in SHORT and not isinstance(value, Mapping):
        return SHORT[name], value
    if name in known:
        return name, value
    if name in CONVERTED:
        return CONVERTED[name].key, CONVERTED[name].value(value)
    places = short.get(name, [])
    if len(places) == 1:
        return places[0], value
    if name in OTHER_NAMES:
        if OTHER_NAMES[name] in known:
            return OTHER_NAMES[name], value
        raise ConfigError(f"unknown keyword {name!r}: here it is {OTHER_NAMES[name]}")
    if places:
        raise ConfigError(f"{name} may be {' or '.join(places)}; give the whole key: **{{{places[0]!r}: ...}}")
    names = [*(n for n, found in short.items() if len(found) == 1), *OTHER_NAMES, *SHORT]
    raise ConfigError(f"unknown keyword {name!r}{nearest(name, names)}; q-align config --help-keys lists the keys")


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    if isinstance(value, Mapping) and isinstance(tree.get(path[-1]), dict):
        value = {**tree[path[-1]], **value}
    tree[path[-1]] = value
