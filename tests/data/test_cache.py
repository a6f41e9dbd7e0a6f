"""The cache gives the very pixels that opening gives, follows the content, and survives half-written files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from q_align.data.frame_cache import FrameCache
from q_align.errors import MediaError
from q_align.media import open_frames
from q_align.types import MediaSpec

SPEC = MediaSpec(max_pixels=48 * 48)


class Counted:
    """`open_frames` that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return open_frames(*args, **kwargs)


def photo(path: Path, seed: int = 0) -> Path:
    rough = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(rough).resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=90)
    return path


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(one[0], other[0], strict=True))


def test_pixels_are_the_same_and_decoded_once(tmp_path: Path) -> None:
    path, read = photo(tmp_path / "a.jpg"), Counted()
    cache = FrameCache(tmp_path / "cache", read)
    plain = open_frames(path, SPEC, video=False)
    assert same(cache(path, SPEC, video=False), plain)
    assert same(cache(path, SPEC, video=False), plain)
    assert read.calls == 1
    again = FrameCache(tmp_path / "cache", read)  # another process, another run
    assert same(again(path, SPEC, video=False), plain)
    assert read.calls == 1


def test_other_settings_and_other_content_are_opened_anew(tmp_path: Path) -> None:
    path, read = photo(tmp_path / "a.jpg"), Counted()
    cache = FrameCache(tmp_path / "cache", read)
    cache(path, SPEC, video=False)
    cache(path, MediaSpec(max_pixels=24 * 24), video=False)
    cache(path, SPEC, video=False, reduced=True)
    assert read.calls == 3
    before = path.stat()
    photo(path, seed=1)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert same(cache(path, SPEC, video=False), open_frames(path, SPEC, video=False))
    assert read.calls == 4
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(path.read_bytes())
    cache(copy, SPEC, video=False)  # the same bytes under another name
    assert read.calls == 4


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone\.jpg"):
        FrameCache(tmp_path / "cache", open_frames)(tmp_path / "gone.jpg", SPEC, video=False)


def test_reduced_decoding_is_close_and_off_by_default(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg")
    exact = np.asarray(open_frames(path, SPEC, video=False)[0][0]).astype(int)
    reduced = np.asarray(open_frames(path, SPEC, video=False, reduced=True)[0][0]).astype(int)
    assert reduced.shape == exact.shape
    assert 0 < np.abs(reduced - exact).mean() < 4
    whole = np.asarray(open_frames(path, MediaSpec(), video=False, reduced=True)[0][0])
    assert np.array_equal(whole, np.asarray(Image.open(path)))  # no budget: nothing to reduce to


def test_temporary_names_differ_between_machines_of_one_process_id(tmp_path: Path, monkeypatch) -> None:
    """On a shared disk process ids are not unique: two writers of one entry must not write into the same file."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    renamed: list[str] = []
    rename = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (renamed.append(self.name), rename(self, to))[1])
    path = photo(tmp_path / "a.jpg")
    for _ in range(2):
        FrameCache(tmp_path / "cache", open_frames)(path, SPEC, video=False)
        for file in (tmp_path / "cache").rglob("*"):
            file.unlink() if file.is_file() else None
    assert len(renamed) == len(set(renamed)) == 4
