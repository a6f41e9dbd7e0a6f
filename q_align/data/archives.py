"""Downloads the published archives of a data set: resumes, verifies checksums, unpacks safely."""

from __future__ import annotations

import http.client
import shutil
import tarfile
import urllib.request
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

from q_align.data.dataset_card import Archive
from q_align.errors import MediaError
from q_align.log import log

BLOCK = 1 << 20
TIMEOUT = 60  # seconds without a byte


def download(archive: Archive, folder: str | Path) -> Path:
    """Downloads an archive into a folder; a partial download is resumed.

    Args:
        archive: address, size in bytes and SHA-256.
        folder: where it is saved; created if it is missing.

    Returns:
        The verified file.

    Raises:
        MediaError: when the server cannot be reached, breaks off, or sends something else than what was published.
    """
    target = Path(folder) / Path(urlsplit(archive.url).path).name
    if target.is_file():
        archive.verify(target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    have = part.stat().st_size if part.is_file() else 0
    if have > archive.bytes:
        have = 0
    if have < archive.bytes:
        try:
            _append(archive.url, part, have)
        except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors too
            done = part.stat().st_size if part.is_file() else 0
            raise MediaError(
                f"{archive.url}: stopped at {done} of {archive.bytes} bytes ({error}); run it again to resume"
            ) from error
    try:
        archive.verify(part)
    except MediaError:
        if part.stat().st_size >= archive.bytes:
            part.unlink()  # complete but wrong: cannot be resumed
        raise
    part.replace(target)
    log.info("%s: equals the published checksum", target)
    return target


def _append(url: str, part: Path, have: int) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "q_align", "Range": f"bytes={have}-"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        # 200: the server sends everything from the start, whatever was asked
        mode = "ab" if response.status == 206 else "wb"
        with part.open(mode) as file:
            while block := response.read(BLOCK):
                file.write(block)


def unpack(archive: Path, folder: str | Path) -> None:
    """Unpacks a zip or tar archive; members that would leave the folder are refused.

    Raises:
        MediaError: when it is neither, or holds such members.
    """
    folder = Path(folder)
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            outside = [n for n in packed.namelist() if not (folder / n).resolve().is_relative_to(folder.resolve())]
            if outside:
                raise MediaError(f"{archive}: member {outside[0]} leads out of the folder; not unpacked")
            packed.extractall(folder)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as packed_tar:
            try:
                packed_tar.extractall(folder, filter="data")
            except tarfile.FilterError as error:
                raise MediaError(f"{archive}: {error}; not unpacked") from error
    else:
        raise MediaError(f"{archive}: neither a zip nor a tar archive")


def free(folder: str | Path) -> int:
    """Free bytes on the disk of a folder, or of its nearest existing parent."""
    path = Path(folder).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
