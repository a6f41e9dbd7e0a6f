"""Removes the folders of absolute paths from texts, so that a report tells nothing of the machine."""

from __future__ import annotations

import re

# a slash that begins a path (not one of a web address), with its folders
_FOLDERS = re.compile(r"(?<![\w:/.])/(?:[^/\s'\",;:()]+/)+")


def hide_folders(text: str) -> str:
    """ "/home/me/photos/a.png is missing" -> ".../a.png is missing"."""
    return _FOLDERS.sub(".../", text)
