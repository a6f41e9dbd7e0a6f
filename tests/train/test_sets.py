"""The sets of a run: rows that take no part are said, headers that cannot be read are no end of a run."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from PIL import Image

from q_align.data.image_header import pixel_counts
from q_align.data.label_files import read_labels
from q_align.train.datasets import split


def test_rows_of_unknown_splits_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = ["train", "train", "validation", "", "test"]
    rows = "".join(f"{number}.jpg,{number},{name}\n" for number, name in enumerate(splits, 1))
    (tmp_path / "mine.csv").write_text(f"image,mos,split\n{rows}")
    monkeypatch.setattr(logging.getLogger("q_align"), "propagate", True)
    train, _ = split(read_labels(tmp_path / "mine.csv", mos_range=(1, 5)), val_share=0, seed=0)
    assert len(train) == 2
    assert "mine: 2 rows take no part: split '', 'validation' is not train, val or test" in caplog.messages


def test_sizes_of_pictures_that_cannot_be_opened(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    Image.new("RGB", (8, 6)).save(tmp_path / "small.png")
    names = ["bomb.png", "small.png", "absent.png"]
    assert pixel_counts([tmp_path / name for name in names]).tolist() == [0, 48, 0]
