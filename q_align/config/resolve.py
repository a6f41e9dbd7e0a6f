"""YAML files and command-line overrides -> one checked configuration.

Files state differences only and are merged left to right; `--section.key value` comes last. Keys and types are strict.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from q_align.config.files import find_config, read_config
from q_align.config.overrides import check_keys, check_overrides
from q_align.config.schema import FREE, RunConfig, check_values
from q_align.errors import ConfigError


def resolve_config(
    files: Sequence[str | Path], overrides: Sequence[str] = (), tree: Mapping[str, Any] | None = None
) -> RunConfig:
    """YAML files merged left to right, then overrides -> one checked configuration.

    Args:
        files: paths, or names of configurations that come with q_align ("nano", "qwen3_5/4b").
        overrides: `--section.key value` words of a command line.
        tree: sections of keys, as a YAML file would hold them; they come last.

    Raises:
        ConfigError: for a missing or malformed file, an unknown or repeated key, or a wrong type.
    """
    found = [find_config(file) for file in files]
    for file in found:
        check_keys(read_config(file), RunConfig, str(file))
    check_overrides(overrides, RunConfig, FREE)
    check_keys(tree or {}, RunConfig, "arguments")
    from jsonargparse import ArgumentParser
    from jsonargparse import Namespace as Parsed

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    for name, section in typing.get_type_hints(RunConfig).items():
        parser.add_argument(f"--{name}", type=section)
    arguments = [word for file in found for word in ("--config", str(file))]
    try:
        given = parser.parse_args([*arguments, *overrides])
        parsed: Parsed = parser.instantiate_classes(parser.parse_object(dict(tree), given) if tree else given)
    except Exception as error:  # jsonargparse raises several kinds; all of them speak of the user's input
        raise ConfigError(_one_line(error)) from error
    config = RunConfig(**{f.name: getattr(parsed, f.name) for f in dataclasses.fields(RunConfig)})
    check_values(config)
    return config


def _one_line(error: Exception) -> str:
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)
