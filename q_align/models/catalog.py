"""Published checkpoints by name: built-in cards, folders of the Hugging Face cache, and downloads when asked for.

Nothing here touches the network unless `fetch` is called; HF_HUB_OFFLINE and HF_HOME are respected. Programs that a
repository may carry (*.py) are never fetched. Knows no weights.
"""

from __future__ import annotations

import re
from copy import deepcopy
from fnmatch import fnmatch
from functools import lru_cache
from importlib import resources
from pathlib import Path

from q_align.errors import CheckpointError, nearest
from q_align.log import log
from q_align.models.card import ModelCard

# What a model folder may hold for us: weights, tokenizers, settings, texts. No code.
WANTED = ("*.json", "*.safetensors", "*.bin", "*.model", "*.txt", "*.jinja", "*.md", "LICENSE*")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@lru_cache(maxsize=1)
def builtin_cards() -> dict[str, ModelCard]:
    """Hub id -> card, for the published checkpoints that the package knows."""
    root = Path(str(resources.files("q_align.models"))) / "cards"
    cards = [ModelCard.load(folder) for folder in sorted(root.iterdir()) if folder.is_dir()]
    return {card.about["repo"]: card for card in cards}


def hub_id(name: str | Path) -> str | None:
    """The hub id that a name stands for: "org/name" itself, or the last part of a built-in card's id; else None."""
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


def cached(name: str, *, revision: str | None = None) -> Path:
    """The folder of a checkpoint that was fetched before.

    Raises:
        CheckpointError: when it is not on this disk; says how to get it.
    """
    from huggingface_hub import try_to_load_from_cache

    repo = hub_id(name) or name
    # whether all of its weights are there is seen when they are loaded, and said then
    for file in ("config.json", "adapter_config.json"):
        found = try_to_load_from_cache(repo, file, cache_dir=_cache(), revision=revision)
        if isinstance(found, str):
            return Path(found).parent
    hint = "" if repo in builtin_cards() else nearest(repo, builtin_cards())
    raise CheckpointError(
        f"{repo}: not on this disk and nothing is downloaded unasked; run `q-align data fetch {name}`, "
        f"or give the folder that holds it{hint}"
    )


def _cache() -> str:
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE  # read when used: HF_HOME may be set late


def fetch(
    name: str,
    *,
    revision: str | None = None,
    folder: str | Path | None = None,
    dataset: bool = False,
    wanted: tuple[str, ...] | None = None,
    verify: bool = True,
) -> Path:
    """Downloads a repository; a broken download goes on where it stopped.

    Args:
        name: hub id or the short name of a built-in card.
        revision: branch, tag or commit; None: the newest.
        folder: where to put it; None: the shared cache of huggingface_hub (HF_HOME).
        dataset: whether it is a data set rather than a model.
        wanted: patterns of file names; None: everything of a data set, everything but code of a model.
        verify: compare each file with the checksum that the hub publishes.

    Returns:
        The folder with the files.

    Raises:
        CheckpointError: when the name is unknown, the hub cannot be reached, or a file differs from its checksum.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    repo = hub_id(name)
    if repo is None:
        raise CheckpointError(f"{name!r} is neither a hub id (org/name) nor a known card{nearest(name, short_names())}")
    kind = "dataset" if dataset else "model"
    wanted = wanted or (None if dataset else WANTED)
    patterns = None if wanted is None else list(wanted)
    try:
        root = Path(
            snapshot_download(repo, repo_type=kind, revision=revision, local_dir=folder, allow_patterns=patterns)
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        text = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{repo}: cannot fetch ({text}); run the same command again to go on") from error
    if verify:
        _verify(repo, kind, root, revision=revision, folder=folder, wanted=wanted)
    return root


def needs_base(folder: Path) -> bool:
    """Whether a fetched folder holds adapters only."""
    return (folder / "adapter_config.json").is_file()


def short_names() -> list[str]:
    return [repo.split("/")[1] for repo in builtin_cards()]


def _verify(
    repo: str, kind: str, root: Path, *, revision: str | None, folder: str | Path | None, wanted: tuple[str, ...] | None
) -> None:
    """Compares every file with the hub's own checksum (SHA-256 of large files, git's SHA-1 of small ones)."""
    from huggingface_hub import HfApi

    # in the cache, the snapshot's folder is named after the commit that was fetched
    commit = root.name if folder is None else revision
    found = HfApi().verify_repo_checksums(repo, repo_type=kind, revision=commit, local_dir=folder)
    wrong = [item["path"] for item in found.mismatches]
    lost = [p for p in found.missing_paths if wanted is None or any(fnmatch(Path(p).name, w) for w in wanted)]
    if wrong or lost:
        raise CheckpointError(
            f"{root}: {len(wrong)} files differ from their checksum and {len(lost)} are missing: "
            f"{', '.join([*wrong, *lost])}; delete them and fetch again"
        )
    log.info("%s: %d files equal their published checksums", repo, found.checked_count)
