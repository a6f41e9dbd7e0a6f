"""A cheap digest of a model's files: which weights lie behind a path, without reading all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO

from q_align.models.backbone import locate
from q_align.models.card import ModelCard

SUFFIXES = (".json", ".safetensors", ".bin", ".model", ".txt", ".jinja", ".pt")
# written beside a model, no part of it
NO_PART = ("log_history.json", "trainer_state.json", "metrics.json", "matrix.json")
SAMPLE = 4096  # bytes of each tensor
WHOLE = 1 << 20  # a file up to this size is read whole
BLOCKS = 64  # of a file without a header


def model_folders(model: str | Path, card: ModelCard) -> list[Path]:
    """The folder of a model, and that of its base where it is an adapter."""
    folders = [locate(model)]
    if card.base and (folders[0] / "adapter_config.json").is_file():
        folders.append(locate(card.base))
    return folders


def model_parts(folder: Path) -> list[Path]:
    """The files of a folder that decide about a model's scores."""
    files = (path for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES)
    return [path for path in files if not path.name.startswith(NO_PART) and path.is_file()]


def sampled_digest(folders: list[Path]) -> str:
    """SHA-256 over names, sizes, small files, safetensors headers and a piece of every tensor.

    Training changes nearly every number of the tensors that it trains: the pieces differ, though the shapes do not.
    """
    digest = sha256()
    for folder in folders:
        for path in model_parts(folder):
            size = path.stat().st_size
            digest.update(f"{path.name}\0{size}\0".encode())
            with path.open("rb") as file:
                for start, length in _pieces(file, size, tensors=path.suffix == ".safetensors"):
                    file.seek(start)
                    digest.update(file.read(length))
    return digest.hexdigest()[:32]


def _pieces(file: IO[bytes], size: int, *, tensors: bool) -> Iterator[tuple[int, int]]:
    """Start and length of what is read of a file."""
    if size <= WHOLE:
        yield 0, size
    elif tensors:
        body = 8 + int.from_bytes(file.read(8), "little")
        yield 0, body
        file.seek(8)
        header = json.loads(file.read(body - 8))
        spans = sorted(tensor["data_offsets"] for name, tensor in header.items() if name != "__metadata__")
        for start, end in spans:
            length = min(SAMPLE, end - start)
            yield body + start + (end - start - length) // 2, length
    else:
        for block in range(BLOCKS):
            yield (size - SAMPLE) * block // (BLOCKS - 1), SAMPLE
