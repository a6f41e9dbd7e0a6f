"""q-align config: what a training run would be set to, and what every key means."""

from __future__ import annotations

import argparse
import ast
import inspect
import textwrap
import typing
from typing import Any

from q_align.cli.options import add_config


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "config",
        help="print a resolved training configuration, or all keys with their meaning",
        description="Prints the configuration that `q-align train` would use with the same arguments.",
        allow_abbrev=False,
    )
    add_config(parser)
    parser.add_argument("--list", action="store_true", help="list the configurations that come with q_align")
    parser.add_argument("--help-keys", action="store_true", help="list every key with its default and meaning")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.list:
        from q_align.config.files import config_names, configs_folder

        for name in config_names():
            about = (configs_folder() / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
            print(f"{name:24}{textwrap.shorten(about.lstrip('# '), 96, placeholder=' ...')}")
    elif args.help_keys:
        from q_align.config.schema import RunConfig

        print(*describe(RunConfig), sep="\n")
    else:
        from q_align.config.resolve import resolve_config

        print(resolve_config(args.config, args.overrides).to_yaml(), end="")
    return 0


def describe(cls: Any, prefix: str = "") -> list[str]:
    """One line per key of a configuration class: name, default, the values it takes, and its comment in the source."""
    from q_align.config.overrides import nested_dataclass

    found = []
    comments = _comments(cls)
    for name, hint in typing.get_type_hints(cls).items():
        inner = nested_dataclass(hint)
        if inner is not None:
            found += describe(inner, f"{prefix}{name}." if inner is hint else f"{prefix}{name}[].")
            continue
        choices = ", ".join(str(value) for value in _choices(hint))
        about = "; ".join(text for text in (comments.get(name, ""), choices and f"one of {choices}") if text)
        found.append(f"{prefix}{name} = {getattr(cls(), name)!r}" + (f"  # {about}" if about else ""))
    return found


def _choices(hint: Any) -> list[Any]:
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    return [value for part in typing.get_args(hint) for value in _choices(part)]


def _comments(cls: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__[:-1]):  # a section may inherit keys
        source = textwrap.dedent(inspect.getsource(owner))
        lines = source.splitlines()
        body = ast.parse(source).body[0]
        assert isinstance(body, ast.ClassDef)
        for node in body.body:
            if isinstance(node, ast.AnnAssign):
                line = lines[(node.end_lineno or node.lineno) - 1]
                found[ast.unparse(node.target)] = line.partition("  # ")[2]
    return found
