"""Cache of decoded frames on disk, as they enter the encoder: every epoch after the first decodes nothing.

Keyed by the bytes of the file and the settings it is opened with. Frames are stored exactly (raw pixels), so that a
cached run trains on the same numbers.
"""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, __version__

from q_align.media.packed import file_of, place_of, read_packed
from q_align.types import MediaSpec

Opened = tuple[list[Image.Image], str | None]


class FrameCache:
    """`open_frames` with a cache; safe to share between processes, machines and runs, and to delete at any time."""

    def __init__(self, folder: str | Path, read: Callable[..., Opened]) -> None:
        """Args:
        folder: of the cached frames; a 448 x 448 frame takes 0.6 MB.
        read: opens an image or a video: (media, spec, video=, **settings) -> frames and a warning.
        """
        self.folder = Path(folder)
        self.read = read

    def __call__(self, media: Any, spec: MediaSpec, *, video: bool, **settings: Any) -> Opened:
        """Frames of an image or a video; a damaged or missing file is opened anew each time."""
        path = Path(media)
        if not file_of(path).is_file():
            return self.read(media, spec, video=video, **settings)  # raises the error that fits
        key = hashlib.blake2b(digest_size=16)
        # Pillow's version: another one may decode and scale to other pixels
        key.update(f"{self._content(path)} {spec} {video} {sorted(settings.items())} {__version__}".encode())
        name = key.hexdigest()
        place = self.folder / name[:2] / f"{name}.npy"
        if place.is_file():
            return [Image.fromarray(frame) for frame in np.load(place)], None
        frames, warning = self.read(media, spec, video=video, **settings)
        if warning is None and len({frame.size for frame in frames}) == 1:
            self._store(place, np.stack([np.asarray(frame) for frame in frames]))  # (T, H, W, 3) uint8
        return frames, warning

    def _content(self, path: Path) -> str:
        """Digest of a file's bytes, cached by path, size and time of change: the second time no bytes are read."""
        state = file_of(path).stat()
        state_key = f"{path.resolve()} {state.st_size} {state.st_mtime_ns}".encode()
        name = hashlib.blake2b(state_key, digest_size=16).hexdigest()
        place = self.folder / "known" / name[:2] / name
        if place.is_file():
            return place.read_text()
        packed = place_of(path)
        digest = hashlib.blake2b(digest_size=16)
        with io.BytesIO(read_packed(packed, str(path))) if packed else path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
        found = digest.hexdigest()
        fresh = self._temporary(place)
        fresh.write_text(found)
        fresh.replace(place)
        return found

    def _store(self, place: Path, pixels: np.ndarray) -> None:
        fresh = self._temporary(place)
        with fresh.open("wb") as file:
            np.save(file, pixels)
        fresh.replace(place)  # a reader never sees half a file

    def _temporary(self, place: Path) -> Path:
        place.parent.mkdir(parents=True, exist_ok=True)
        # not the process id: two machines that share the disk may have the same
        return place.with_name(f"{place.name}.{uuid.uuid4().hex}")
