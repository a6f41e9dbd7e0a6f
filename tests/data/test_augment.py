"""Augmentation keeps pixels as they are, and moves all frames of a medium alike."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from q_align.data.augment import GRID, augment

sizes = st.tuples(st.integers(1, 90), st.integers(1, 90))


def picture(size: tuple[int, int], seed: int = 0) -> Image.Image:
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@given(size=sizes, crop=st.integers(1, 100), seed=st.integers(0, 1000))
def test_a_crop_is_a_piece_of_the_frame(size: tuple[int, int], crop: int, seed: int) -> None:
    frame = picture(size)
    (out,) = augment([frame], np.random.default_rng(seed), flip=False, crop=crop)
    assert out.size == (min(crop, size[0]), min(crop, size[1]))
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(frame), (out.height, out.width, 3))
    assert (windows == np.asarray(out)).all(axis=(-3, -2, -1)).any()


def test_every_offset_on_the_grid_is_drawn_and_some_off_it() -> None:
    # the picture says where each pixel was
    rows, columns = np.mgrid[0:48, 0:40].astype(np.uint8)
    frame = Image.fromarray(np.stack([rows, columns, rows], -1))
    corners = [np.asarray(augment([frame], np.random.default_rng(i), flip=False, crop=16)[0])[0, 0] for i in range(400)]
    tops, lefts = {int(c[0]) for c in corners}, {int(c[1]) for c in corners}
    assert set(range(0, 33, GRID)) <= tops and set(range(0, 25, GRID)) <= lefts
    assert max(tops) <= 32 and max(lefts) <= 24
    on_grid = np.mean([c[0] % GRID == 0 and c[1] % GRID == 0 for c in corners])
    assert 0.65 < on_grid < 0.9


def test_frames_move_together() -> None:
    frame = picture((60, 50))
    first, second = augment([frame, frame], np.random.default_rng(3), crop=32)
    assert np.array_equal(np.asarray(first), np.asarray(second))


def test_half_of_the_media_are_mirrored() -> None:
    frame = picture((8, 8))
    mirrored = np.asarray(frame)[:, ::-1]
    seen = [np.array_equal(np.asarray(augment([frame], np.random.default_rng(i))[0]), mirrored) for i in range(200)]
    assert 0.4 < np.mean(seen) < 0.6
