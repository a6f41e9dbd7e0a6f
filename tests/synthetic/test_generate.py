"""Generated sets: the same by seed, split by content, worse by strength, with sensible ratings."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from q_align.errors import MediaError, QAlignError
from q_align.synthetic import PRESETS, GenerationPlan, generate_dataset
from q_align.synthetic.dataset import schedule
from q_align.synthetic.distort import DISTORTIONS, distort
from q_align.synthetic.photos import PHOTOS, TEST_PHOTOS, is_test_photo, packaged_photo, photo_crop, photos_in
from q_align.synthetic.pixels import share_strength
from q_align.synthetic.raters import Panel
from q_align.synthetic.scene_parts import colourfulness
from q_align.synthetic.scenes import SCENES, scene

for _package in ("av", "skimage", "sklearn"):
    pytest.importorskip(_package)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return generate_dataset(tmp_path_factory.mktemp("tiny") / "set", PRESETS["tiny"], workers=1).parent


def rows_of(folder):
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_set_is_whole(tiny):
    rows = rows_of(tiny)
    assert {row["task"] for row in rows} == {"iqa", "iaa", "vqa"}
    assert sorted(p.name for p in (tiny / "media").iterdir()) == sorted(row["image"].split("/")[1] for row in rows)
    for row in rows:
        assert 1 <= float(row["mos"]) <= 5
        assert 0 <= float(row["std"]) <= 2
        if row["image"].endswith(".jpg"):
            with Image.open(tiny / row["image"]) as image:
                assert image.size == (PRESETS["tiny"].size,) * 2


def test_the_same_seed_makes_the_same_files_under_any_number_of_workers(tiny, tmp_path):
    generate_dataset(tmp_path / "again", PRESETS["tiny"], workers=2)
    for path in sorted(p for p in tiny.rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tiny)).read_bytes(), path.name


def test_no_content_is_in_both_splits():
    plan = PRESETS["pretrain"]
    jobs = list(schedule(plan))
    names = {
        s: {j.source if j.source in PHOTOS else (j.task, j.number) for j in jobs if j.split == s}
        for s in ("train", "test")
    }
    assert names["train"] and names["test"]
    assert not names["train"] & names["test"]
    assert {n for n in names["test"] if isinstance(n, str)} == set(TEST_PHOTOS)


def test_a_larger_set_begins_with_the_smaller_one():
    small, large = (
        [j for j in schedule(GenerationPlan(contents=n, per_content=2)) if j.task == "iqa"] for n in (10, 20)
    )
    assert large[:10] == small


def test_ratings_follow_strength(tiny):
    rows = [row for row in rows_of(tiny) if row["task"] == "iqa"]
    severity, mos = ([float(row[name]) for row in rows] for name in ("severity", "mos"))
    assert spearmanr(severity, mos)[0] < -0.95


@pytest.mark.parametrize("name", [*DISTORTIONS, "mixture"])
def test_ladders_fall(name):
    picture = photo_crop(np.random.default_rng(0), 96, "astronaut")
    steps = [distort(picture, name, s, seed=3) for s in (0.0, 0.15, 0.5, 0.95)]
    assert all(step.shape == picture.shape and step.dtype == np.uint8 for step in steps)
    far = [np.abs(step.astype(float) - picture).mean() for step in steps]
    assert far[0] == 0
    assert far[1] < far[2] < far[3]
    assert np.array_equal(steps[2], distort(picture, name, 0.5, seed=3))


@pytest.mark.parametrize("name", ["exposure", "saturation"])
def test_wrong_tones_end_alike_whatever_the_picture(name):
    """At full strength a dark or pale picture is as wrong as a light or colourful one."""
    seed = next(s for s in range(9) if np.random.default_rng(s).random() > 0.5)  # of exposure: the dark end
    look = {"exposure": np.mean, "saturation": colourfulness}[name]
    plain = photo_crop(np.random.default_rng(1), 96, "coffee").astype(np.float32) / 255
    faint = {"exposure": plain**1.6, "saturation": (plain + plain.mean(-1, keepdims=True)) / 2}[name]
    ends = [look(distort((x * 255).astype(np.uint8), name, 1.0, seed).astype(np.float32) / 255) for x in (plain, faint)]
    assert abs(ends[0] - ends[1]) < 0.05 * abs(look(plain) - look(faint))


@pytest.mark.parametrize("kind", SCENES)
def test_scenes_come_from_their_seed_and_are_well_exposed(kind):
    a, b, other = (scene(np.random.default_rng(s), 64, kind) for s in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, other)
    assert 50 < a.mean() < 190
    assert a.std() > 10


@pytest.mark.parametrize("name", PHOTOS)
def test_photographs_are_where_their_packages_keep_them(name):
    assert min(packaged_photo(name).size) >= 300
    assert photo_crop(np.random.default_rng(0), 64, name).shape == (64, 64, 3)


@pytest.fixture
def own(tmp_path) -> Path:
    """A folder with photographs of different sizes, some below others, and something else."""
    rng = np.random.default_rng(5)
    folder = tmp_path / "own"
    (folder / "below").mkdir(parents=True)
    for i, (width, height) in enumerate([(300, 200), (90, 400), (640, 480), (320, 320), (500, 260), (2000, 1400)]):
        picture = Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).resize((width, height))
        picture.save(folder / ("below" if i % 2 else ".") / f"p{i}.{'png' if i < 3 else 'jpg'}")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_own_photographs_are_used_beside_the_packaged_ones_and_stay_in_their_split(own):
    plan = GenerationPlan(
        contents=400, per_content=1, photos=1.0, aesthetics=0.0, clips=0.1, test=0.4, photo_dir=str(own)
    )
    jobs = list(schedule(plan))
    mine = {"p0.png", "below/p1.png", "p2.png", "below/p3.jpg", "p4.jpg", "below/p5.jpg"}
    assert {j.source for j in jobs} == {*PHOTOS, *mine}
    for job in jobs:
        assert (job.split == "test") == is_test_photo(job.source, 0.4)
    assert {j.split for j in jobs if j.source in mine} == {"train", "test"}


@pytest.mark.parametrize("name", ["p0.png", "below/p1.png", "below/p5.jpg"])
def test_pieces_of_own_photographs_of_any_size(own, name):
    pieces = [photo_crop(np.random.default_rng(seed), 128, name, str(own)) for seed in (0, 0, 1)]
    assert all(p.shape == (128, 128, 3) and p.dtype == np.uint8 for p in pieces)
    assert np.array_equal(pieces[0], pieces[1])
    assert not np.array_equal(pieces[0], pieces[2])


def test_a_folder_without_photographs_and_a_broken_one_say_so(own, tmp_path):
    (tmp_path / "empty").mkdir()
    plan = GenerationPlan(contents=2, per_content=1, size=64, photo_dir=str(tmp_path / "empty"))
    with pytest.raises(QAlignError, match="no photographs"):
        generate_dataset(tmp_path / "out", plan)
    assert not (tmp_path / "out").exists()
    with pytest.raises(MediaError, match="absent: cannot be read"):
        photos_in(tmp_path / "absent")
    (own / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(MediaError, match=r"broken\.jpg: "):
        photo_crop(np.random.default_rng(0), 64, "broken.jpg", str(own))


def test_shared_strengths_add_up_to_the_whole():
    parts = share_strength(0.7, [0.2, 0.3, 0.5])
    assert np.prod([1 - p for p in parts]) == pytest.approx(0.3)


def test_a_panel_agrees_with_the_quality_and_not_with_itself():
    panel = Panel.draw(0)
    votes = np.array([panel.vote(q, np.random.default_rng(i)) for i, q in enumerate(np.linspace(0, 1, 60))])
    assert spearmanr(votes[:, 0], np.linspace(0, 1, 60))[0] > 0.97
    assert 0.3 < votes[20:40, 1].mean() < 1.0
    assert votes[:, 0].min() >= 1 and votes[:, 0].max() <= 5


def test_a_full_folder_is_refused(tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(QAlignError, match="not empty"):
        generate_dataset(tmp_path, PRESETS["tiny"])
    with pytest.raises(QAlignError, match="contents"):
        generate_dataset(tmp_path / "new", GenerationPlan(contents=1, per_content=1))
