"""Published checkpoints by name: their built-in cards, and their folders in the local cache or from the hub.

Programs that a repository may carry (*.py) are never downloaded.
"""

from __future__ import annotations

import re
from copy import deepcopy
from functools import lru_cache
from importlib import resources
from pathlib import Path

from q_align.errors import DownloadError, nearest
from q_align.hub import download_repo, find_in_cache
from q_align.models.card import ModelCard

# What is downloaded of a model: weights, tokenizers, settings, texts. No code.
WANTED = ("*.json", "*.safetensors", "*.bin", "*.model", "*.txt", "*.jinja", "*.md", "LICENSE*")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@lru_cache(maxsize=1)
def builtin_cards() -> dict[str, ModelCard]:
    """Hub id -> card, for the published checkpoints that the package knows."""
    root = Path(str(resources.files("q_align.models"))) / "cards"
    cards = [ModelCard.load(folder) for folder in sorted(root.iterdir()) if folder.is_dir()]
    return {card.about["repo"]: card for card in cards}


def hub_id(name: str | Path) -> str | None:
    """The hub id of a name: "org/name" itself, or the last part of a built-in card's id; else None."""
    text = str(name)
    if _HUB_ID.fullmatch(text) and not text.startswith("."):
        return text
    return next((repo for repo in builtin_cards() if repo.split("/")[1].lower() == text.lower()), None)


def builtin_card(name: str | Path) -> ModelCard | None:
    """The built-in card of a hub id, a short name, or a folder called like one (also inside the hub's cache)."""
    path = Path(name)
    # models--q-future--one-align/snapshots/<commit>
    cache = [part.removeprefix("models--").replace("--", "/", 1) for part in path.parts if part.startswith("models--")]
    for candidate in (hub_id(name), hub_id(path.name), *cache):
        if candidate in builtin_cards():
            return deepcopy(builtin_cards()[candidate])
    return None


def fetch_checkpoint(
    name: str, *, revision: str | None = None, folder: str | Path | None = None, verify: bool = True
) -> Path:
    """Downloads a checkpoint, without the programs that its repository may carry.

    Args:
        name: hub id, or the short name of a built-in card.
        revision, folder, verify: see `q_align.hub.download_repo`.

    Returns:
        The folder with the files.

    Raises:
        DownloadError: when the name is unknown, the hub cannot be reached, or a file differs from its checksum.
    """
    repo = hub_id(name)
    if repo is None:
        raise DownloadError(
            f"{name!r}{nearest(name, short_names())}: neither a hub id (org/name) nor a known checkpoint"
        )
    return download_repo(repo, revision=revision, folder=folder, patterns=WANTED, verify=verify)


@lru_cache(maxsize=64)
def find_checkpoint(name: str) -> Path:
    """The folder of a published checkpoint: its copy in the local cache, else a download with progress bars.

    A copy in the cache is used as it is; `q-align data fetch` brings a newer one.

    Raises:
        DownloadError: when it is not in the cache and cannot be downloaded.
    """
    repo = hub_id(name) or name
    return find_in_cache(repo, patterns=WANTED) or fetch_checkpoint(name)


def needs_base(folder: Path) -> bool:
    """Whether a downloaded folder holds adapters only."""
    return (folder / "adapter_config.json").is_file()


def short_names() -> list[str]:
    return [repo.split("/")[1] for repo in builtin_cards()]
