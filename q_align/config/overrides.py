"""Keys of nested dataclasses: which exist, and which one somebody meant. Knows type hints; no settings."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any

from q_align.errors import ConfigError, nearest


def check_keys(tree: Any, root: type, where: str) -> None:
    """Refuses keys of a YAML tree that a dataclass does not have.

    Raises:
        ConfigError: names the file, the key and the nearest valid one.
    """
    _walk(tree, root, where, "", all_keys(root))


def check_overrides(words: Sequence[str], root: type, free: Sequence[str]) -> None:
    """Refuses `--section.key` words that name no key, and words that are no key's value; `free` are dictionaries, which
    take any key.

    Raises:
        ConfigError: names the key and the nearest valid one.
    """
    known = all_keys(root)
    for before, word in zip(["", *words], words):
        if not word.startswith("--"):
            if not before.startswith("--") or "=" in before:
                raise ConfigError(
                    f"{word!r} belongs to no key: one value follows each --section.key, a list is written '[1, 5]'; "
                    "files of settings follow --config, labels --data.train"
                )
            continue
        name = word[2:].split("=", 1)[0]
        if name not in known and name.rsplit(".", 1)[0] not in free:
            raise ConfigError(f"unknown key --{name}{_suggest(name, known)}")


def all_keys(cls: type, prefix: str = "") -> list[str]:
    """Dotted names of all fields; the fields of a list's items stand behind the list's own name."""
    keys = []
    for name, hint in typing.get_type_hints(cls).items():
        inner = _nested(hint)
        keys.append(f"{prefix}{name}")
        keys += all_keys(inner, f"{prefix}{name}.") if inner else []
    return keys


def _walk(tree: Any, cls: type, where: str, prefix: str, known: list[str]) -> None:
    if isinstance(tree, list):
        for item in tree:
            _walk(item, cls, where, prefix, known)
    if not isinstance(tree, dict):
        return
    hints = typing.get_type_hints(cls)
    for key, value in tree.items():
        if key not in hints:
            raise ConfigError(f"{where}: unknown key {prefix}{key}{_suggest(f'{prefix}{key}', known)}")
        inner = _nested(hints[key])
        if inner is not None:
            _walk(value, inner, where, f"{prefix}{key}.", known)


def _nested(hint: Any) -> type | None:
    """The dataclass inside a type hint (`X`, `list[X]`), if there is one."""
    for part in (hint, *typing.get_args(hint)):
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            return part
    return None


def _suggest(name: str, known: list[str]) -> str:
    """The nearest valid key: one of the same section if any is close, else one of any section."""
    prefix = f"{name.rsplit('.', 1)[0]}." if "." in name else ""
    siblings = [key for key in known if key.startswith(prefix) and "." not in key[len(prefix) :]]
    return nearest(name, siblings) or nearest(name, known)
