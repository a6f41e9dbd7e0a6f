"""Errors that a user can act on: what, where, what was found, and the fix, in one line.

The command line prints them without a traceback; anything else that escapes is a fault of ours.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class QAlignError(ValueError):
    """Base of all errors that say what the user can do about them."""


class ConfigError(QAlignError):
    """A key, type or combination in the configuration is wrong."""


class LabelError(QAlignError):
    """A labels file cannot be read, or a row in it makes no sense."""


class MediaError(QAlignError):
    """An image or a video is missing, broken, or beyond the limits."""


class CheckpointError(QAlignError):
    """A model folder is incomplete or does not fit."""


class DownloadError(QAlignError):
    """A published model or data set is not in the local cache and cannot be downloaded."""


class TrainingError(QAlignError):
    """Training cannot continue; names the step and the reason."""


class LevelTokenError(QAlignError):
    """The level words are not single, distinct tokens under a tokenizer."""


class MissingExtraError(QAlignError, ImportError):
    """An optional dependency is not installed."""


def require(module: str, *, extra: str) -> ModuleType:
    """Imports an optional dependency, or says which extra of the package brings it.

    Raises:
        MissingExtraError: when the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A module that is there but lacks one of its own parts is reported by that part's name.
        missing = error.name or module
        raise MissingExtraError(f"{missing} is not installed; it comes with: pip install 'q_align[{extra}]'") from error


def nearest(name: str, valid: Iterable[str]) -> str:
    """' (did you mean X?)' for the closest valid name, or '' when nothing is close."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
