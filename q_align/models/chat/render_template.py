"""Renders a chat template in a child process with limits: a template is a program that may loop or grow for ever."""

from __future__ import annotations

import multiprocessing
import sys
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from q_align.errors import CheckpointError

SECONDS = 30.0
CPU_SECONDS = 10
MEMORY = 1 << 30  # bytes beyond those of this process
CHARACTERS = 100_000  # of one prompt; layouts have hundreds


def render_conversations(
    tokenizer: Any, template: str, options: Mapping[str, Any], conversations: Sequence[tuple[Any, bool]], where: str
) -> list[str]:
    """The text of each conversation under a chat template.

    Args:
        tokenizer: offers `apply_chat_template`.
        template: the Jinja template.
        options: its keywords.
        conversations: (turns, whether the assistant's turn is opened at the end) pairs.
        where: the model folder, for errors.

    Raises:
        CheckpointError: when the template fails, or takes more time, memory or text than a template needs.
    """
    # a forked child has the tokenizer already; elsewhere it is pickled
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    ours, theirs = context.Pipe(duplex=False)
    work = (theirs, tokenizer, template, dict(options), list(conversations))
    child = context.Process(target=_render, args=work, daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: the child uses none
        child.start()
    theirs.close()
    try:
        found = ours.recv() if ours.poll(SECONDS) else "takes too long"
    except EOFError:  # ended by a limit
        found = "takes too much time or memory"
    finally:
        child.kill()
        child.join()
        ours.close()
    if isinstance(found, str):
        raise CheckpointError(f"{where}: the chat template {found}; use a model folder with another template")
    return list(found)


def _render(
    pipe: Connection, tokenizer: Any, template: str, options: dict[str, Any], conversations: list[tuple[Any, bool]]
) -> None:
    _limit()
    found: list[str] | str
    try:
        found = []
        for turns, opened in conversations:
            text = str(
                tokenizer.apply_chat_template(
                    turns, chat_template=template, tokenize=False, add_generation_prompt=opened, **options
                )
            )
            if len(text) > CHARACTERS:
                raise MemoryError
            found.append(text)
    except MemoryError:
        found = "makes too long a prompt"
    except Exception as error:  # a template may raise anything
        found = f"fails ({' '.join(str(error).split())[:300]})"
    pipe.send(found)


def _limit() -> None:
    """Limits of this process, where the system has them."""
    try:
        import resource
    except ImportError:  # Windows: only the time is limited
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 (no pathlib caches in the child)
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
