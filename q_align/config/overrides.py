"""Keys of nested dataclasses: which exist, and the nearest one to a name that does not."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any

from q_align.config.aliases import OTHER_NAMES
from q_align.errors import ConfigError, nearest


def check_keys(tree: Any, root: type, where: str) -> None:
    """Refuses keys of a YAML tree that a dataclass does not have.

    Raises:
        ConfigError: names the file, the key and the nearest valid one.
    """
    _walk(tree, root, where, "", all_keys(root))


def check_overrides(words: Sequence[str], root: type, free: Sequence[str]) -> None:
    """Refuses `--section.key` words that name no key, keys that are given twice, and words that are no key's value.

    Args:
        words: the command line's.
        root: dataclass of the configuration.
        free: dictionaries, which take any key.

    Raises:
        ConfigError: names the key and the nearest valid one.
    """
    known = all_keys(root)
    seen: set[str] = set()
    for before, word in zip(["", *words], words):
        if not word.startswith("--"):
            if not before.startswith("--") or "=" in before:
                raise ConfigError(
                    f"unexpected argument {word!r}: overrides are --section.key VALUE, and a list is one value: "
                    "'[1, 5]'; configuration files follow --config, labels --data.train"
                )
            continue
        name = word[2:].split("=", 1)[0]
        if name not in known and name.rsplit(".", 1)[0] not in free:
            raise ConfigError(f"unknown key --{name}{suggestion(name, known)}")
        if name in seen:
            several = "; several data sets go into data.sets" if name == "data.train" else ""
            raise ConfigError(f"--{name} is given twice{several}")
        seen.add(name)


def all_keys(cls: type, prefix: str = "") -> list[str]:
    """Dotted names of all fields; the fields of a list's items follow the list's own name."""
    keys = []
    for name, hint in typing.get_type_hints(cls).items():
        inner = nested_dataclass(hint)
        keys.append(f"{prefix}{name}")
        keys += all_keys(inner, f"{prefix}{name}.") if inner else []
    return keys


def nested_dataclass(hint: Any) -> type | None:
    """The dataclass inside a type hint (`X`, `list[X]`), if there is one."""
    for part in (hint, *typing.get_args(hint)):
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            return part
    return None


def suggestion(name: str, known: Sequence[str]) -> str:
    """The valid key nearest to an unknown one, as the end of a message; '' when nothing is close.

    First the names of other trainers, then the same key in another section (train.lora.r), then the nearest spelling:
    in the same section if any is close, else anywhere.
    """
    words = name.split(".")
    if words[-1] in OTHER_NAMES:
        return f": here it is {OTHER_NAMES[words[-1]]}"
    for start in range(len(words)):
        tail = ".".join(words[start:])
        moved = [key for key in known if "." in key and f".{key}".endswith(f".{tail}")]
        if moved:
            return f" (did you mean {min(moved, key=lambda key: key.count('.'))!r}?)"
    prefix = f"{name.rsplit('.', 1)[0]}." if "." in name else ""
    siblings = [key for key in known if key.startswith(prefix) and "." not in key[len(prefix) :]]
    return nearest(name, siblings) or nearest(name, known)


def _walk(tree: Any, cls: type, where: str, prefix: str, known: list[str]) -> None:
    if isinstance(tree, list):
        for item in tree:
            _walk(item, cls, where, prefix, known)
    if not isinstance(tree, dict):
        return
    hints = typing.get_type_hints(cls)
    for key, value in tree.items():
        if key not in hints:
            raise ConfigError(f"{where}: unknown key {prefix}{key}{suggestion(f'{prefix}{key}', known)}")
        inner = nested_dataclass(hints[key])
        if inner is not None:
            _walk(value, inner, where, f"{prefix}{key}.", known)
