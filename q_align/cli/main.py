"""The command `q-align`: finds the sub-command, prints errors in one line, turns them into exit codes.

Every sub-command has a file of its own and imports what it needs when it runs, so that `q-align --help` is instant.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import q_align
from q_align.errors import QAlignError, nearest
from q_align.log import printable, setup

# Modules with add_parser(subparsers) and run(args) -> exit code, in the order of the help text.
COMMANDS = (
    "score",
    "train",
    "average",
    "export",
    "evaluate",
    "report",
    "calibrate",
    "ablate",
    "data",
    "config",
    "cluster",
    "doctor",
)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="q-align",
        description="Predict the quality and aesthetics of images and videos with fine-tuned multimodal models.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"q_align {q_align.__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"q_align.cli.{name}").add_parser(commands)
    return parser


def known_options(parser: argparse.ArgumentParser, words: Sequence[str]) -> set[str]:
    """Options of the command and sub-command that the words name."""
    found = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found.update(*(known_options(action.choices[word], words) for word in words if word in action.choices))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0 only if nothing failed, 1 on failure, 2 on wrong usage, 130 when interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    # --debug works before and after the command
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    setup(verbose=debug)
    parser = build_parser()
    args, rest = parser.parse_known_args(words)
    if rest and not getattr(args, "takes_overrides", False):
        meant = nearest(rest[0].partition("=")[0], known_options(parser, words)) if rest[0].startswith("-") else ""
        parser.error(f"unknown arguments: {' '.join(rest)}{meant} (q-align {args.command} --help lists the known ones)")
    args.overrides = rest
    if getattr(args, "offline", False):
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported, here and in child processes
    try:
        code = args.run(args)
        sys.stdout.flush()
        return int(code)
    except QAlignError as error:
        if debug:
            raise
        print(f"q-align: error: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("q-align: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of our stdout has exited (`q-align score ... | head`); no message at the end of Python either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        text = printable(" ".join(str(error).split()))
        print(f"q-align: unexpected {type(error).__name__}: {text} (--debug shows where)", file=sys.stderr)
        return 1
