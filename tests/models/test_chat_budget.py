"""Budgets and native crops: pure arithmetic of sizes."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from q_align.models.chat.pixel_budget import boxes, budget

sides = st.integers(1, 6000)


@given(sides, sides, st.integers(1, 4_000_000), st.integers(0, 12))
def test_views_lie_inside_and_keep_the_budget(width: int, height: int, max_pixels: int, tiles: int) -> None:
    first, *crops = boxes((width, height), max_pixels, tiles)
    assert first == (0, 0, width, height)
    assert len(crops) <= tiles
    for left, top, right, bottom in crops:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert (right - left) * (bottom - top) <= max_pixels
    assert len(set(crops)) == len(crops)
    if width * height < 2 * max_pixels:
        assert not crops


@given(st.integers(2000, 6000), st.integers(2000, 6000), st.integers(1, 12))
def test_crops_are_spread_over_the_frame(width: int, height: int, tiles: int) -> None:
    crops = boxes((width, height), 512 * 512, tiles)[1:]
    assert crops
    centre_x = sum(left + right for left, _, right, _ in crops) / 2 / len(crops)
    centre_y = sum(top + bottom for _, top, _, bottom in crops) / 2 / len(crops)
    assert centre_x == pytest.approx(width / 2, abs=2)
    assert centre_y == pytest.approx(height / 2, abs=2)


PROCESSORS: dict[str, Any] = {
    "tiles": SimpleNamespace(crop_to_patches=True, size={"height": 448, "width": 448}),
    "splits": SimpleNamespace(do_image_splitting=True, max_image_size={"longest_edge": 364}, size={}),
    "area": SimpleNamespace(merge_size=2, size={"shortest_edge": 3136, "longest_edge": 1003520}),
    "fixed": SimpleNamespace(size={"height": 896, "width": 896}),
}


@given(st.sampled_from(sorted(PROCESSORS)), st.integers(100, 10_000_000))
def test_every_kind_of_processor_keeps_the_budget(kind: str, max_pixels: int) -> None:
    options, shrinks = budget(PROCESSORS[kind], max_pixels)
    if kind == "tiles":
        assert options["max_patches"] * 448**2 <= max_pixels or options["max_patches"] == 1
        assert options["crop_to_patches"] == (options["max_patches"] > 1)
        assert shrinks == (max_pixels < 448**2)
    elif kind == "splits":
        count = options["size"]["longest_edge"] / 364
        assert count == int(count)
        assert count * 364 <= math.sqrt(max_pixels) or count == 1
        assert shrinks == (max_pixels < 364**2)
    elif kind == "area":
        assert options["size"]["longest_edge"] == max_pixels >= options["size"]["shortest_edge"]
        assert not shrinks, "one resize only"
    else:
        assert (options, shrinks) == ({}, True)
