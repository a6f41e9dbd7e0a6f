"""q-align config: what a training run would be set to, and what every key means."""

from __future__ import annotations

import argparse
import ast
import dataclasses
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
    from q_align.config.schema import RunConfig, resolve

    if args.list:
        from q_align.config.files import config_names, configs_folder

        for name in config_names():
            about = (configs_folder() / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
            print(f"{name:24}{textwrap.shorten(about.lstrip('# '), 96, placeholder=' ...')}")
    elif args.help_keys:
        print(*describe(RunConfig), sep="\n")
    else:
        print(resolve(args.config, args.overrides).to_yaml(), end="")
    return 0


def describe(cls: Any, prefix: str = "") -> list[str]:
    """One line per key of a configuration class: name, default, and the comment that stands beside it in the source."""
    found = []
    comments = _comments(cls)
    for name, hint in typing.get_type_hints(cls).items():
        inner = next((t for t in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(t)), None)
        if inner is not None:
            found += describe(inner, f"{prefix}{name}." if inner is hint else f"{prefix}{name}[].")
            continue
        default = getattr(cls(), name)
        about = f"  # {comments[name]}" if comments.get(name) else ""
        found.append(f"{prefix}{name} = {default!r}{about}")
    return found


def _comments(cls: Any) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(cls))
    lines = source.splitlines()
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    fields = [node for node in body.body if isinstance(node, ast.AnnAssign)]
    return {ast.unparse(f.target): lines[(f.end_lineno or f.lineno) - 1].partition("  # ")[2] for f in fields}
