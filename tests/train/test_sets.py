"""The data sets of a run: unused rows are named, validation rows are fixed and listed, bad headers are harmless."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from q_align.config.schema import RunConfig
from q_align.data.image_header import pixel_counts
from q_align.data.label_files import read_labels
from q_align.train.datasets import split_train_val


def test_rows_of_unknown_splits_are_named(tmp_path: Path, messages: Callable[[], list[str]]) -> None:
    splits = ["train", "train", "validation", "", "test"]
    rows = "".join(f"{number}.jpg,{number},{name}\n" for number, name in enumerate(splits, 1))
    (tmp_path / "mine.csv").write_text(f"image,mos,split\n{rows}")
    train, _ = split_train_val(read_labels(tmp_path / "mine.csv", mos_range=(1, 5)), val_share=0)
    assert len(train) == 2
    assert "mine: 2 rows are not used: split '', 'validation' is not train, val or test" in messages()


def contents(tmp_path: Path, count: int) -> Path:
    """Two items of each of so many contents."""
    rows = "".join(f"{name}{take}.png,{1 + name % 4},scene{name}\n" for name in range(count) for take in "ab")
    (tmp_path / f"{count}.csv").write_text(f"image,mos,content\n{rows}")
    return tmp_path / f"{count}.csv"


def test_validation_rows_are_whole_contents_and_the_same_in_every_run(tmp_path: Path) -> None:
    held = {}
    for count in (40, 41):
        train, val = split_train_val(read_labels(contents(tmp_path, count), mos_range=(1, 5)), val_share=0.2)
        assert val is not None and len(val) == 16
        held[count] = set(val.column("content").tolist())
        assert len(held[count]) == 8
        assert not held[count] & set(train.column("content").tolist())
    # one content more changes at most one of those held out
    assert len(held[40] & held[41]) >= 7


def test_a_seed_does_not_move_the_validation_rows_and_they_are_listed(
    settle: Callable[..., RunConfig], rated: Path, tmp_path: Path
) -> None:
    from trained import run

    plain = shutil.copytree(rated.parent, tmp_path / "plain")
    lines = (plain / "labels.csv").read_text().splitlines()
    (plain / "labels.csv").write_text("".join(f"{line.rsplit(',', 1)[0]}\n" for line in lines))  # no column split
    listed = []
    for seed in (0, 1):
        changes = {"data.train": plain / "labels.csv", "train.max_steps": 1, "data.val_share": 0.25}
        output = run(settle(**changes, **{"train.seed": seed, "train.output_dir": tmp_path / f"run{seed}"}))
        again = read_labels(output / "split.csv", mos_range=(1, 5))
        assert len(again) == 24
        assert sorted(Path(path).name for path in again.column("media")) == [f"{i:03d}.png" for i in range(24)]
        assert all(Path(path).is_file() for path in again.column("media"))
        original = dict(
            zip(*(read_labels(plain / "labels.csv", mos_range=(1, 5)).column(c) for c in ("id", "raw_mos")))
        )
        assert dict(zip(again.column("id"), again.column("raw_mos"))) == original
        listed.append(sorted(again.split("val").column("id").tolist()))
    assert len(listed[0]) == 6
    assert listed[0] == listed[1]


def test_sizes_of_pictures_that_cannot_be_opened(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    Image.new("RGB", (8, 6)).save(tmp_path / "small.png")
    names = ["bomb.png", "small.png", "absent.png"]
    assert pixel_counts([tmp_path / name for name in names]).tolist() == [0, 48, 0]
