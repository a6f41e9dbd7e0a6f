"""How bad a distorted picture is meant to be: by strength alone, and of a mixture by what is left to see."""

from __future__ import annotations

import numpy as np
import pytest

from q_align.data.generate.damage import DEPTH, damage, difference, gradient, together
from q_align.data.generate.distort import DISTORTIONS, distort, recipe
from q_align.data.generate.photos import piece

for _package in ("av", "skimage", "sklearn"):
    pytest.importorskip(_package)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return piece(np.random.default_rng(0), 160, "astronaut")


def chain(picture: np.ndarray, parts: list[tuple[str, float, int]]) -> np.ndarray:
    for name, strength, seed in parts:
        picture = distort(picture, name, strength, seed)
    return picture


def judged(picture: np.ndarray, *parts: tuple[str, float, int]) -> float:
    return together(picture, chain(picture, list(parts)), parts)


@pytest.mark.parametrize("name", DISTORTIONS)
def test_a_single_distortion_is_as_bad_as_its_strength(picture, name):
    assert damage(picture, picture, name, 0.4, 1) == pytest.approx(0.4 * DEPTH.get(name, 1.0))
    assert damage(picture, picture, "none", 0.0, 1) == 0


@pytest.mark.parametrize("name", ["blur", "noise", "jpeg", "rescale", "grain", "webp", "haze"])
def test_a_mixture_of_one_is_that_one(picture, name):
    for strength in (0.2, 0.5, 0.8):
        # straight lines between the strengths that are tried
        assert judged(picture, (name, strength, 3)) == pytest.approx(strength * DEPTH.get(name, 1.0), abs=0.06)


def test_two_blurs_are_one_blur_of_their_common_width(picture):
    # blur's width is 0.4 * 16.25 ** strength pixels; squares of widths add
    width = 0.4 * 16.25**0.5
    both = np.log(width * 2**0.5 / 0.4) / np.log(16.25)
    found = judged(picture, ("blur", 0.5, 1), ("blur", 0.5, 2))
    assert found == pytest.approx(both, abs=0.05)
    assert found < 1 - 0.5 * 0.5


def test_what_is_taken_away_again_hardly_counts(picture):
    alone = judged(picture, ("rescale", 0.7, 2))
    noisy = ("noise", 0.4, 1)
    assert judged(picture, noisy, ("rescale", 0.7, 2)) < alone + 0.05
    # noise after the shrinking stays
    late = judged(picture, ("rescale", 0.3, 2), ("noise", 0.6, 1))
    assert late > judged(picture, ("noise", 0.6, 1), ("rescale", 0.3, 2))


def test_colour_that_a_grey_picture_does_not_have_says_nothing():
    grey = np.repeat(piece(np.random.default_rng(0), 160, "astronaut").mean(-1, keepdims=True), 3, -1).astype(np.uint8)
    blurred = ("blur", 0.5, 1)
    assert judged(grey, ("saturation", 0.5, 2), blurred) == pytest.approx(judged(grey, blurred), abs=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_stronger_mixtures_are_worse_and_stay_in_range(picture, seed):
    found = []
    for strength in (0.0, 0.15, 0.5, 0.95):
        changed = distort(picture, "mixture", strength, seed)
        found.append(damage(picture, changed, "mixture", strength, seed))
    assert found[0] == 0
    assert found == sorted(found)
    assert found[1] > 0 and found[-1] <= 1
    assert 2 <= len(recipe(0.5, np.random.default_rng(seed))) <= 4


def test_difference_by_hand(picture):
    assert difference(gradient(picture), gradient(picture)) == 0
    flat = np.full((6, 12, 3), 128, np.uint8)
    edge = flat.copy()
    edge[:, 6:] = 255
    # two of the six columns of the halved picture see the edge, their gradient is 127 / 255
    lost = 1 - 0.0026 / ((127 / 255) ** 2 + 0.0026)
    assert difference(gradient(flat), gradient(edge)) == pytest.approx(2 / 6 * lost, rel=1e-5)
