"""Repositories of the Hugging Face hub: downloads that resume, copies in the local cache, checksums, uploads.

HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE are respected.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from q_align.errors import DownloadError
from q_align.log import log


def is_offline() -> bool:
    """Whether downloads are forbidden: HF_HUB_OFFLINE=1, which the option --offline sets."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def find_in_cache(repo: str, *, revision: str | None = None, patterns: Sequence[str] | None = None) -> Path | None:
    """The folder of a repository that was downloaded before, None where files are missing; without the network.

    Args:
        repo: hub id.
        revision: branch, tag or commit; None: the main branch as it was then.
        patterns: of the file names that are needed; None: all.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            repo, revision=revision, allow_patterns=_list(patterns), cache_dir=_cache(), local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    return Path(folder)


def download_repo(
    repo: str,
    *,
    revision: str | None = None,
    folder: str | Path | None = None,
    dataset: bool = False,
    patterns: Sequence[str] | None = None,
    verify: bool = True,
) -> Path:
    """Downloads a repository; the same call resumes an interrupted download.

    Args:
        repo: hub id.
        revision: branch, tag or commit; None: the newest.
        folder: where to put it; None: the cache of huggingface_hub (HF_HOME).
        dataset: whether it is a data set rather than a model.
        patterns: of the file names that are wanted; None: all.
        verify: compare each file with the checksum that the hub publishes.

    Returns:
        The folder with the files.

    Raises:
        DownloadError: when the hub cannot be reached, has no such repository, or a file differs from its checksum.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    kind = "dataset" if dataset else "model"
    advice = _advice(repo, dataset=dataset)
    if is_offline():
        raise DownloadError(
            f"{repo}: no such folder, not in the local cache, and downloads are off (HF_HUB_OFFLINE, --offline). "
            f"{advice}"
        )
    try:
        root = Path(
            snapshot_download(
                repo,
                repo_type=kind,
                revision=revision,
                local_dir=folder,
                cache_dir=_cache(),
                allow_patterns=_list(patterns),
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise DownloadError(_reason(repo, kind, error, advice)) from error
    if verify:
        _verify(repo, kind, root, revision=revision, folder=folder, patterns=patterns)
    return root


def upload_files(
    files: Mapping[str, Path | bytes], repo: str, *, private: bool | None = None, token: str | None = None, message: str
) -> str:
    """Creates a model repository where it does not exist, and commits files to it.

    Args:
        files: path in the repository -> file on disk, or content.
        repo: hub id.
        private: visibility of a new repository; None: the account's default.
        token: of the hub; None: the stored one.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        DownloadError: when uploads are forbidden, the hub cannot be reached, or it refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    if is_offline():
        raise DownloadError(f"{repo}: uploads are off (HF_HUB_OFFLINE, --offline)")
    api = HfApi(endpoint=constants.ENDPOINT, token=token)
    operations = [CommitOperationAdd(name, source) for name, source in sorted(files.items())]
    try:
        repo = api.create_repo(repo, private=private, exist_ok=True).repo_id
        done = api.create_commit(repo, operations, commit_message=message)
    except HFValidationError as error:
        raise DownloadError(f"{repo!r}: not a hub id such as 'me/my-model' ({error})") from error
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        text = " ".join(str(error).split())[:300]
        raise DownloadError(f"{repo}: upload failed ({text}); `hf auth login` stores a token that may write") from error
    log.info("%s: %d files uploaded", repo, len(operations))
    return str(done.commit_url)


def _advice(repo: str, *, dataset: bool) -> str:
    name = repo.rsplit("/", 1)[-1]
    fetch = f"On a machine with a network: `q-align data fetch {repo}{' --dataset' if dataset else ''} --folder {name}`"
    return f"{fetch}; copy the folder" + ("" if dataset else f"; `--model path/to/{name}`")


def _reason(repo: str, kind: str, error: Exception, advice: str) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    host = constants.ENDPOINT.split("://")[-1]
    if isinstance(error, GatedRepoError):
        return f"{repo}: {host} asks you to accept its terms and to log in first (`hf auth login`)"
    if isinstance(error, RepositoryNotFoundError):
        return f"{repo}: no such folder, and no such {kind} on {host} (private ones need `hf auth login`)"
    if isinstance(error, RevisionNotFoundError):
        return f"{repo}: no such revision on {host} (branch, tag or commit)"
    if isinstance(error, HfHubHTTPError) or (isinstance(error, OSError) and error.errno is not None):
        text = " ".join(str(error).split())[:300]
        return f"{repo}: download failed ({text}); run the same command again to resume"
    return f"{repo}: no such folder, not in the local cache, and {host} cannot be reached from here. {advice}"


def _verify(
    repo: str,
    kind: str,
    root: Path,
    *,
    revision: str | None,
    folder: str | Path | None,
    patterns: Sequence[str] | None,
) -> None:
    """Compares every file with the hub's own checksum (SHA-256 of large files, git's SHA-1 of small ones)."""
    from huggingface_hub import HfApi

    # in the cache, the snapshot's folder is named after the commit that was downloaded
    commit = root.name if folder is None else revision
    cache = _cache() if folder is None else None
    found = HfApi().verify_repo_checksums(repo, repo_type=kind, revision=commit, local_dir=folder, cache_dir=cache)
    wrong = [item["path"] for item in found.mismatches]
    lost = [p for p in found.missing_paths if patterns is None or any(fnmatch(Path(p).name, w) for w in patterns)]
    if wrong or lost:
        raise DownloadError(
            f"{root}: {len(wrong)} files differ from their checksum and {len(lost)} are missing: "
            f"{', '.join([*wrong, *lost])}; delete them and download again"
        )
    log.info("%s: %d files match their published checksums", repo, found.checked_count)


def _cache() -> str:
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE  # read at the call: it is a default argument nowhere, so tests and callers may set it


def _list(patterns: Sequence[str] | None) -> list[str] | None:
    return None if patterns is None else list(patterns)
