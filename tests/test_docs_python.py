"""docs/python.md: its code blocks run, one after another, in a folder with a small rated set."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

PAGE = Path(__file__).parents[1] / "docs/python.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """photos/ of 24 images, and labels.csv with four rows of each ten for validation and test."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    lines = ["image,mos,split"]
    for i in range(24):
        strength = i / 23
        frame = np.linspace(60, 190, 24)[None, :, None] + rng.normal(0, 90 * strength, (24, 24, 3))
        Image.fromarray(frame.clip(0, 255).astype(np.uint8)).save(tmp_path / f"photos/{i}.png")
        lines.append(f"{i}.png,{5 - 4 * strength:.3f},{('train', 'val', 'train', 'test')[i % 4]}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.slow
def test_every_block_runs(folder: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) > 8
    names: dict[str, Any] = {"__name__": "docs"}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)
    assert names["run"].metrics and (folder / "runs/theirs/model.safetensors").is_file()
