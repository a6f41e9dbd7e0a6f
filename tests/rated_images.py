"""Rated images made on the spot, and a scorer that needs no model: it answers with the MOS plus known noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from q_align.levels import LevelScheme
from q_align.models.card import ModelCard
from q_align.types import MediaSpec, Score


@pytest.fixture
def rated(tmp_path: Path) -> Path:
    """A folder with 24 small images of 6 contents and labels.csv (MOS 0..100, std, split, content)."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "rated"
    folder.mkdir()
    lines = ["image,mos,std,split,content"]
    for i in range(24):
        Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        lines.append(f"{i}.png,{4 * i + 2},{5 + i % 3},{'train' if i < 4 else 'test'},c{i % 6}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


class FakeScorer:
    """Answers "N.png" with 1 + 4 N / 24 plus noise; names in `broken` fail. Counts what it was asked."""

    device = "cpu"
    spec = MediaSpec()

    def __init__(self, noise: float, seed: int, broken: set[str], trained_on: list[dict[str, Any]]) -> None:
        self.noise, self.seed, self.broken = noise, seed, broken
        self.card = ModelCard("nano", trained_on=trained_on)
        self.asked: list[tuple[str, str, str | None]] = []

    def stream(self, items: Any) -> Iterator[Score]:
        scheme = LevelScheme()
        for item in items:
            self.asked.append((item.media, item.task, item.question))
            name = Path(item.media)
            if name.name in self.broken or not name.is_file():
                yield Score(
                    item.id, error=f"{item.media}: no such file" if not name.is_file() else f"{item.media}: broken"
                )
                continue
            rng = np.random.default_rng([self.seed, int(name.stem)])
            value = float(np.clip(1 + 4 * int(name.stem) / 24 + rng.normal(0, self.noise), 1, 5))
            probs = scheme.soft(value, 0.5)
            yield Score(
                item.id,
                value=float(scheme.expect(probs)),
                level=scheme.words[int(probs.argmax())],
                probs=tuple(map(float, probs)),
                std=float(scheme.std(probs)),
                mass=0.9,
            )


@pytest.fixture
def fake() -> Callable[..., Any]:
    """fake(["a", "b"], noise=..., broken={...}) -> {"a": scorer, "b": scorer}."""

    def make(
        names: Sequence[str] = ("m",),
        *,
        noise: float = 0.3,
        broken: Any = (),
        trained_on: Any = (),
        by_model: dict[str, float] | None = None,
    ) -> dict[str, FakeScorer]:
        levels = {name: (by_model or {}).get(name, noise) for name in names}
        return {n: FakeScorer(level, int(1000 * level), set(broken), list(trained_on)) for n, level in levels.items()}

    return make
