"""How bad a distorted image is: by its strength, and by what changed in it."""

from __future__ import annotations

import numpy as np
import pytest

from q_align.synthetic.damage import (
    DEPTH,
    STRENGTHS,
    USUAL,
    damage,
    gradient_difference,
    gradient_magnitudes,
    mixture_strength,
)
from q_align.synthetic.distort import DISTORTIONS, distort, recipe
from q_align.synthetic.photos import photo_crop
from q_align.synthetic.scenes import scene

for _package in ("av", "skimage", "sklearn"):
    pytest.importorskip(_package)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return photo_crop(np.random.default_rng(0), 160, "astronaut")


def chain(image: np.ndarray, parts: list[tuple[str, float, int]]) -> np.ndarray:
    for name, strength, seed in parts:
        image = distort(image, name, strength, seed)
    return image


def judged(image: np.ndarray, *parts: tuple[str, float, int]) -> float:
    return mixture_strength(image, chain(image, list(parts)), parts)


@pytest.mark.parametrize("name", sorted(set(DISTORTIONS) - set(USUAL)))
def test_a_single_distortion_is_as_bad_as_its_strength(image, name):
    assert damage(image, image, name, 0.4, 1) == pytest.approx(0.4)
    assert damage(image, image, "none", 0.0, 1) == 0


@pytest.mark.parametrize("name", sorted(USUAL))
def test_a_third_of_some_is_what_is_seen(image, name):
    # nothing seen, and as much as there can be
    assert damage(image, image, name, 0.6, 1) == pytest.approx(2 / 3 * 0.6 * DEPTH.get(name, 1.0))
    other = np.random.default_rng(0).integers(0, 256, image.shape, np.uint8)
    assert damage(image, other, name, 0.6, 1) == pytest.approx((1 + 2 * 0.6) / 3 * DEPTH.get(name, 1.0), abs=0.01)
    found = [damage(image, distort(image, name, s, 1), name, s, 1) for s in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert found == sorted(found)


@pytest.mark.parametrize("name", sorted(USUAL))
def test_usual_changes_are_those_of_scenes(name):
    found = []
    for seed in range(16):
        whole = scene(np.random.default_rng(seed), 224)
        plain = gradient_magnitudes(whole)
        found.append(
            [gradient_difference(plain, gradient_magnitudes(distort(whole, name, s, seed))) for s in STRENGTHS[2::2]]
        )
    # sixteen scenes, not two hundred pictures: the order of magnitude, and that it rises
    assert np.median(found, 0) == pytest.approx(np.array(USUAL[name][2::2]), rel=0.5)
    assert list(USUAL[name]) == sorted(USUAL[name])


def test_what_a_picture_hides_is_milder(image):
    grain = np.random.default_rng(1).integers(0, 256, image.shape, np.uint8)
    smooth = np.broadcast_to(np.linspace(60, 200, 160, dtype=np.uint8)[:, None, None], image.shape).copy()
    lost = [damage(x, distort(x, "grain", 0.5, 2), "grain", 0.5, 2) for x in (grain, smooth)]
    assert lost[0] < lost[1] - 0.1


@pytest.mark.parametrize("name", ["blur", "noise", "jpeg", "rescale", "grain", "webp", "haze"])
def test_a_mixture_of_one_is_that_one(image, name):
    for strength in (0.2, 0.5, 0.8):
        # straight lines between the strengths that are tried
        assert judged(image, (name, strength, 3)) == pytest.approx(strength * DEPTH.get(name, 1.0), abs=0.06)


def test_two_blurs_are_one_blur_of_their_common_width(image):
    # blur's width is 0.4 * 16.25 ** strength pixels; squares of widths add
    width = 0.4 * 16.25**0.5
    both = np.log(width * 2**0.5 / 0.4) / np.log(16.25)
    found = judged(image, ("blur", 0.5, 1), ("blur", 0.5, 2))
    assert found == pytest.approx(both, abs=0.05)
    assert found < 1 - 0.5 * 0.5


def test_what_is_taken_away_again_hardly_counts(image):
    alone = judged(image, ("rescale", 0.7, 2))
    noisy = ("noise", 0.4, 1)
    assert judged(image, noisy, ("rescale", 0.7, 2)) < alone + 0.05
    # noise after the shrinking stays
    late = judged(image, ("rescale", 0.3, 2), ("noise", 0.6, 1))
    assert late > judged(image, ("noise", 0.6, 1), ("rescale", 0.3, 2))


def test_colour_that_a_grey_picture_does_not_have_says_nothing():
    grey = np.repeat(photo_crop(np.random.default_rng(0), 160, "astronaut").mean(-1, keepdims=True), 3, -1).astype(
        np.uint8
    )
    blurred = ("blur", 0.5, 1)
    assert judged(grey, ("saturation", 0.5, 2), blurred) == pytest.approx(judged(grey, blurred), abs=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_a_mixture_is_half_what_is_seen_and_half_its_strongest_part(image, seed):
    parts = recipe(0.6, np.random.default_rng(seed))
    changed = distort(image, "mixture", 0.6, seed)
    strongest = max(strength * DEPTH.get(name, 1.0) for name, strength, _ in parts)
    expected = (mixture_strength(image, changed, parts) + strongest) / 2
    assert damage(image, changed, "mixture", 0.6, seed) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
def test_stronger_mixtures_are_worse_and_stay_in_range(image, seed):
    found = []
    for strength in (0.0, 0.15, 0.5, 0.95):
        changed = distort(image, "mixture", strength, seed)
        found.append(damage(image, changed, "mixture", strength, seed))
    assert found[0] == 0
    assert found == sorted(found)
    assert found[1] > 0 and found[-1] <= 1
    assert 2 <= len(recipe(0.5, np.random.default_rng(seed))) <= 4


def test_difference_by_hand(image):
    assert gradient_difference(gradient_magnitudes(image), gradient_magnitudes(image)) == 0
    flat = np.full((12, 24, 3), 128, np.uint8)
    edge = flat.copy()
    edge[:, 12:] = 255
    # two columns see the edge at each scale: of 24, of 12 and of 6; their gradient is 127 / 255
    lost = 1 - 0.0026 / ((127 / 255) ** 2 + 0.0026)
    shares = (2 / 24 + 2 / 12 + 2 / 6) / 3
    assert gradient_difference(gradient_magnitudes(flat), gradient_magnitudes(edge)) == pytest.approx(
        shares * lost, rel=1e-5
    )


def test_odd_sides_lose_their_last_row():
    assert [g.shape for g in gradient_magnitudes(np.zeros((7, 10, 3), np.uint8))] == [(3, 7, 10), (3, 3, 5), (3, 1, 2)]
