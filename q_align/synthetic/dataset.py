"""Writes a set of generated images and clips with simulated ratings: contents -> distorted copies -> labels.csv.

Every content has a seed of its own, so that the set is the same under any number of workers, and a larger set begins
with the smaller one.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from q_align.errors import QAlignError
from q_align.synthetic.aesthetics import background_and_subject, compose
from q_align.synthetic.clips import FAULTS, make_clip
from q_align.synthetic.damage import damage
from q_align.synthetic.distort import DISTORTIONS, distort
from q_align.synthetic.photos import PHOTOS, TEST_PHOTOS, is_test_photo, photo_crop, photos_in
from q_align.synthetic.raters import Panel
from q_align.synthetic.scenes import SCENES, scene

COLUMNS = ("image", "mos", "std", "split", "task", "content", "source", "distortion", "severity")
LADDER = (0.1, 0.5, 0.9)


@dataclass(frozen=True, slots=True)
class GenerationPlan:
    """How a set is generated.

    Attributes:
        contents: pristine images for the quality task.
        per_content: rated images or clips of each.
        size: side of a image in pixels.
        seed: of everything.
        types: the distortions that occur by themselves.
        photos: share of the contents that are crops of photographs; the others are procedural.
        photo_dir: a folder of photographs to use besides the packaged ones; each is as likely as any other.
        mixtures: share of the images with several distortions at once.
        aesthetics, clips: contents of the two other tasks, as a share of `contents`.
        test: share of the contents in the test split; procedural ones by seed, photographs by name.
    """

    contents: int
    per_content: int
    size: int = 256
    seed: int = 0
    types: tuple[str, ...] = tuple(DISTORTIONS)
    photos: float = 0.4
    mixtures: float = 0.25
    aesthetics: float = 0.1
    clips: float = 0.05
    test: float = 0.15
    photo_dir: str = ""


Row = dict[str, str | float]


def generate_dataset(out_dir: str | Path, plan: GenerationPlan, *, workers: int | None = None) -> Path:
    """Writes media/, ladder/ (one image at three strengths) and labels.csv; returns the path of the labels.

    Args:
        out_dir: a folder that is empty or does not exist.
        plan: what to make.
        workers: processes; None: one per core.

    Raises:
        QAlignError: when the folder holds something, or the plan makes no sense.
    """
    if plan.contents < 2 or plan.per_content < 1 or plan.size < 64 or plan.size % 2:
        raise QAlignError(
            f"need 2 or more contents, 1 or more items of each and an even size from 64, got {plan.contents}, "
            f"{plan.per_content} and {plan.size}"
        )
    unknown = set(plan.types) - set(DISTORTIONS)
    if unknown or not plan.types:
        raise QAlignError(f"unknown distortions {sorted(unknown)}; there are {', '.join(DISTORTIONS)}")
    folder = Path(out_dir)
    if folder.is_dir() and any(folder.iterdir()):
        raise QAlignError(f"{folder}: not empty; name a new folder")
    contents = list(schedule(plan))
    (folder / "media").mkdir(parents=True, exist_ok=True)
    count = workers or os.cpu_count() or 1
    # spawn: a forked copy of a process with threads may hang
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        rows = [row for made in pool.map(partial(make_content, plan, folder), contents, chunksize=4) for row in made]
    write_ladder(plan, folder)
    labels = folder / "labels.csv"
    with labels.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return labels


@dataclass(frozen=True, slots=True)
class Content:
    """One content: which task, which number, from which source, in which split."""

    task: str
    number: int
    source: str
    split: str


def schedule(plan: GenerationPlan) -> Iterator[Content]:
    """Contents of all tasks, in an order that does not depend on how many there are."""
    counts = {
        "iqa": plan.contents,
        "iaa": round(plan.contents * plan.aesthetics),
        "vqa": round(plan.contents * plan.clips),
    }
    names = [*PHOTOS, *(photos_in(plan.photo_dir) if plan.photo_dir else ())]
    photos = {test: [name for name in names if is_test_photo(name, plan.test) == test] for test in (False, True)}
    for code, (task, count) in enumerate(counts.items()):
        for number in range(count):
            rng = np.random.default_rng((plan.seed, code, number))
            test = bool(rng.random() < plan.test)
            if rng.random() < plan.photos and task != "iaa":
                source = str(rng.choice(photos[test]))
            else:
                source = str(rng.choice(list(SCENES)))
            yield Content(task, number, source, "test" if test else "train")


def pristine_image(plan: GenerationPlan, source: str, size: int, rng: np.random.Generator) -> np.ndarray:
    return scene(rng, size, source) if source in SCENES else photo_crop(rng, size, source, plan.photo_dir)


def make_content(plan: GenerationPlan, folder: Path, content: Content) -> list[Row]:
    """All rated images or clips of one content."""
    rng = np.random.default_rng((plan.seed, 1, ("iqa", "iaa", "vqa").index(content.task), content.number))
    return {"iqa": make_images, "iaa": make_compositions, "vqa": make_clips}[content.task](plan, folder, content, rng)


def make_images(plan: GenerationPlan, folder: Path, content: Content, rng: np.random.Generator) -> list[Row]:
    image = pristine_image(plan, content.source, plan.size, rng)
    # types occur about equally often over the set, strengths are spread evenly within a content
    order = rng.permutation(plan.types)
    strengths = (rng.permutation(plan.per_content) + rng.random(plan.per_content)) / plan.per_content
    rows = []
    # the first is flawless: every content has its pristine image
    strengths[0] = 0.0
    for i, strength in enumerate(strengths):
        name = "mixture" if rng.random() < plan.mixtures else str(order[i % len(order)])
        # strengths under a twentieth are invisible: those images are flawless
        name, strength = (name, float(strength)) if strength > 0.05 else ("none", 0.0)
        seed = int(rng.integers(2**32))
        changed = distort(image, name, strength, seed)
        lost = damage(image, changed, name, strength, seed)
        file = f"media/q{content.number:05d}_{i:02d}.jpg"
        save_jpeg(changed, folder / file)
        rows.append(rated_row(plan, content, file, name, strength, 1 - lost, rng))
    return rows


def make_compositions(plan: GenerationPlan, folder: Path, content: Content, rng: np.random.Generator) -> list[Row]:
    back, front = background_and_subject(rng, plan.size)
    rows = []
    for i in range(plan.per_content):
        worth = float(rng.random())
        image = compose(back, front, worth, int(rng.integers(2**32)))
        strength = float(rng.random() ** 2) if rng.random() < 0.3 else 0.0
        name = str(rng.choice([*plan.types, "mixture"])) if strength else "none"
        file = f"media/a{content.number:05d}_{i:02d}.jpg"
        seed = int(rng.integers(2**32))
        changed = distort(image, name, strength, seed)
        save_jpeg(changed, folder / file)
        lost = damage(image, changed, name, strength, seed)
        rows.append(rated_row(plan, content, file, "composition", 1 - worth, worth * (1 - 0.6 * lost), rng))
    return rows


def make_clips(plan: GenerationPlan, folder: Path, content: Content, rng: np.random.Generator) -> list[Row]:
    size = min(plan.size, 160)
    image = pristine_image(plan, content.source, 2 * size, rng)
    rows = []
    for i in range(plan.per_content):
        name, strength = str(rng.choice(list(FAULTS))), float(rng.random())
        file = f"media/v{content.number:05d}_{i:02d}.mp4"
        (folder / file).write_bytes(make_clip(image, name, strength, int(rng.integers(2**32)), size=size))
        rows.append(rated_row(plan, content, file, name, strength, 1 - strength, rng))
    return rows


def rated_row(
    plan: GenerationPlan,
    content: Content,
    file: str,
    name: str,
    strength: float,
    quality: float,
    rng: np.random.Generator,
) -> Row:
    # raters disagree more about aesthetics than about quality
    panel = Panel.draw(plan.seed, vote_noise=0.8 if content.task == "iaa" else 0.5)
    mos, std = panel.vote(quality, rng)
    return {
        "image": file,
        "mos": round(mos, 4),
        "std": round(std, 4),
        "split": content.split,
        "task": content.task,
        "content": f"{content.task}{content.number:05d}" if content.source in SCENES else content.source,
        "source": content.source,
        "distortion": name,
        "severity": round(strength, 4),
    }


def save_jpeg(image: np.ndarray, path: Path) -> None:
    # high quality with full colour: far below what the mildest distortion here leaves, a third of PNG's size
    Image.fromarray(image).save(path, "JPEG", quality=98, subsampling=0)


def write_ladder(plan: GenerationPlan, folder: Path) -> None:
    """One unseen image at three rising strengths, to look at and to score."""
    (folder / "ladder").mkdir(exist_ok=True)
    image = photo_crop(np.random.default_rng((plan.seed, 9)), plan.size, TEST_PHOTOS[0])
    for i, strength in enumerate(LADDER, 1):
        save_jpeg(distort(image, "blur", strength, plan.seed), folder / "ladder" / f"{i}_blur_{strength:.1f}.jpg")
