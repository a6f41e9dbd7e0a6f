"""Uploads a model folder to the Hugging Face hub: weights, tokenizer, settings and page; no code, no local paths."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from q_align.errors import CheckpointError
from q_align.hub import upload_files
from q_align.models.card import FILE, ModelCard
from q_align.models.catalog import WANTED
from q_align.models.model_page import MARK, PAGE, base_id, base_name, model_page
from q_align.models.peft import CONFIG as ADAPTER
from q_align.models.peft import is_adapter

# Keys of settings files in which libraries write the folder that a model was loaded from.
PATHS = ("_name_or_path", "name_or_path", "base_model_name_or_path")


def push_model(
    folder: Path,
    files: Iterable[Path],
    repo: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    base: str | None = None,
    message: str = "Upload a q_align model",
) -> str:
    """Creates the repository where it does not exist, and commits a model to it.

    Args:
        folder: of the model.
        files: of it that may be uploaded; of these, the ones that a download takes (`catalog.WANTED`) are.
        repo: hub id, "me/my-model".
        private: visibility of a new repository; None: the account's default.
        token: of the hub; None: the one that `hf auth login` stored.
        base: hub id of an adapter's base, where it was trained from a folder.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: for an adapter whose base has no hub id: nobody else could load it.
        DownloadError: when the hub cannot be reached or refuses.
    """
    card = ModelCard.load(folder)
    found = base or base_id(card.base)
    if is_adapter(folder) and found is None and card.base != "nano":
        raise CheckpointError(
            f"{folder}: an adapter over {card.base}, which has no hub id; upload the export (`q-align export {folder} "
            "--output DIR`), or give base='org/name'"
        )
    published = dataclasses.replace(card, base=found or base_name(card.base))
    wanted: dict[str, Path | bytes] = {}
    for path in files:
        name = path.relative_to(folder).as_posix()
        if any(fnmatch(path.name, pattern) for pattern in WANTED):
            wanted[name] = _without_paths(path, published.base) if path.suffix == ".json" else path
    wanted[FILE] = published.to_json().encode()
    written = (folder / PAGE).read_text(encoding="utf-8") if (folder / PAGE).is_file() else MARK
    wanted[PAGE] = (model_page(published, repo=repo) if MARK in written else written).encode()
    return upload_files(wanted, repo, private=private, token=token, message=message)


def _without_paths(path: Path, base: str | None) -> Path | bytes:
    """A settings file, rewritten where it names a folder of this machine."""
    if path.stat().st_size > 1 << 20 and path.name != ADAPTER:  # tokenizers and lists of weights
        return path
    text = path.read_text(encoding="utf-8")
    record = json.loads(text)
    return path if not _clean(record, base) else (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()


def _clean(tree: Any, base: str | None) -> bool:
    """Replaces folders under `PATHS` by the base's name; whether there were any."""
    changed = False
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        if key in PATHS and isinstance(value, str) and (os.path.isabs(value) or Path(value).is_dir()):  # noqa: PTH117
            tree[key] = base if base and key == "base_model_name_or_path" else re.split(r"[\\/]", value.rstrip("/"))[-1]
            changed = True
        elif isinstance(value, (dict, list)):
            changed |= _clean(value, base)
    return changed
