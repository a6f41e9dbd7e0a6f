"""Reading labels: formats, columns, scales, and one clear line for everything that makes no sense."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from q_align.data.convert_labels import write_labels
from q_align.data.label_files import labels_from_table, read_labels
from q_align.data.labels import LevelLabels
from q_align.data.mos_range import log_range
from q_align.errors import LabelError
from q_align.levels import LevelScheme

SCHEME = LevelScheme()
ROWS = [
    {"image": "a.jpg", "mos": 20.0, "std": 5.0, "split": "train", "camera": "x"},
    {"image": "sub/b.jpg", "mos": 60.0, "std": None, "split": "train", "camera": "y"},
    {"image": "/abs/c.jpg", "mos": 100.0, "std": 10.0, "split": "test", "camera": "x"},
]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def write_rows(path: Path) -> Path:
    table = pa.Table.from_pylist(ROWS)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(ROWS))
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in ROWS))
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        lines = [list(ROWS[0])] + [["" if v is None else str(v) for v in row.values()] for row in ROWS]
        path.write_text("\n".join(mark.join(line) for line in lines) + "\n")
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_all_formats_say_the_same(tmp_path: Path, suffix: str) -> None:
    path = write_rows(tmp_path / f"phones_train.{suffix}")
    labels = read_labels(path, mos_range=(0, 100), media_root="root").on(SCHEME)
    assert (len(labels), labels.source, labels.task) == (3, "phones", "iqa")
    assert labels.column("media").tolist() == ["root/a.jpg", "root/sub/b.jpg", "/abs/c.jpg"]
    np.testing.assert_allclose(labels.column("mos"), [1.8, 3.4, 5.0])
    np.testing.assert_allclose(labels.column("std"), [0.2, np.nan, 0.4])
    sample = labels[1]
    assert (sample.media, sample.id, sample.raw_mos, sample.std) == ("root/sub/b.jpg", "sub/b.jpg", 60.0, None)
    assert sample.extra == {"camera": "y"}
    assert [s.id for s in labels.split("test")] == ["/abs/c.jpg"]
    assert [s.id for s in labels.select([2, 0])] == ["/abs/c.jpg", "a.jpg"]


def test_rows_in_memory_are_read_as_those_of_a_file(tmp_path: Path) -> None:
    rows = [{name.upper() if name == "mos" else name: value for name, value in row.items()} for row in ROWS]
    table = pa.Table.from_pylist(rows)
    labels = labels_from_table(table, "my rows", media_root="root", source="phones", mos_range=(0, 100))
    read = read_labels(write_rows(tmp_path / "phones.parquet"), media_root="root", mos_range=(0, 100))
    assert labels.table.equals(read.table) and labels.report == read.report
    with pytest.raises(LabelError, match=r"my rows: row 3: mos is 100\.0, outside 0\.\.80"):
        labels_from_table(table, "my rows", media_root="", source="phones", mos_range=(0, 80))


def test_range_comes_from_the_training_rows_and_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="q_align"):
        labels = read_labels(write_rows(tmp_path / "x.csv")).on(SCHEME)
        log_range(labels)
    assert labels.mos_range == (20.0, 60.0)
    assert labels.report["range_from"] == "training rows"
    assert "20..60 taken from training rows" in caplog.text
    # a test row beyond the range that was merely taken is kept, and keeps its distance
    assert labels.column("mos")[2] == pytest.approx(9.0)


def test_media_are_beside_the_labels_unless_told(tmp_path: Path) -> None:
    path = write(tmp_path / "labels.csv", "path,mos\n0001,1\n0002,5\n")
    labels = read_labels(path)
    assert labels.column("media").tolist() == [f"{tmp_path.as_posix()}/0001", f"{tmp_path.as_posix()}/0002"]
    assert labels.column("id").tolist() == ["0001", "0002"]  # names, not numbers
    assert labels.source == tmp_path.name


def test_tasks_follow_the_medium_the_column_and_the_caller(tmp_path: Path) -> None:
    mixed = write(tmp_path / "m.csv", "media,mos\na.png,1\nb.MP4,5\nc.jpg,2\n")
    assert read_labels(mixed).column("task").tolist() == ["iqa", "vqa", "iqa"]
    assert read_labels(mixed).tasks == ("iqa", "vqa")
    assert read_labels(mixed, task="iaa").tasks == ("iaa",)
    assert read_labels(write(tmp_path / "v.csv", "video,mos\nclips/1,1\nclips/2,5\n")).task == "vqa"
    column = write(tmp_path / "t.csv", "image,mos,task\na.png,1,iaa\nb.png,5,iqa\n")
    assert read_labels(column).column("task").tolist() == ["iaa", "iqa"]


def test_a_users_own_column_never_clashes_with_ours(tmp_path: Path) -> None:
    path = write(tmp_path / "set.csv", "image,mos,source,raw_mos\na,1,web,7\nb,5,phone,8\n")
    labels = read_labels(path).on(SCHEME)
    assert [(s.source, s.raw_mos) for s in labels] == [("set", 1.0), ("set", 5.0)]
    assert labels[1].extra == {"source_in_file": "phone", "raw_mos_in_file": 8}


def test_dmos_is_turned_round_once(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "image,mos,std\na,0,10\nb,100,5\n")
    labels = read_labels(path, mos_range=(0, 100), higher_is_better=False).on(SCHEME)
    np.testing.assert_allclose(labels.column("mos"), [5, 1])
    np.testing.assert_allclose(labels.column("std"), [0.4, 0.2])
    assert labels.column("raw_mos").tolist() == [0, 100]


def test_votes_give_mos_std_and_shares(tmp_path: Path) -> None:
    path = write(tmp_path / "v.csv", 'image,votes\na,"[0, 0, 0, 0, 4, 4, 0, 0, 0, 0]"\nb,0 0 0 0 0 0 0 0 0 7\n')
    labels = read_labels(path, task="iaa").on(SCHEME)
    assert labels.mos_range == (1.0, 10.0)
    np.testing.assert_allclose(labels.column("raw_mos"), [5.5, 10.0])
    np.testing.assert_allclose(labels.column("std"), [0.5 * 4 / 9, 0.0], atol=1e-7)
    np.testing.assert_allclose(labels.column("votes") @ np.array(labels.scheme.values), labels.column("mos"))
    assert labels[1].votes == (1, 0, 0, 0, 0)
    turned = read_labels(path, higher_is_better=False).on(SCHEME)
    np.testing.assert_allclose(turned.column("votes")[1], [0, 0, 0, 0, 1])
    np.testing.assert_allclose(turned.column("votes") @ np.array(labels.scheme.values), turned.column("mos"))


def test_names_that_other_files_use(tmp_path: Path) -> None:
    koniq = write(tmp_path / "k.csv", "image_name,MOS,SD,file\n0001,3,0.5,x\n0002,5,0.2,y\n")
    labels = read_labels(koniq, mos_range=(1, 5)).on(SCHEME)
    assert labels.column("id").tolist() == ["0001", "0002"]
    np.testing.assert_allclose(labels.column("std"), [0.5, 0.2])
    for media, std in (("filename", "mos_std"), ("File_Name", "stddev"), ("file", "sd")):
        labels = read_labels(write(tmp_path / "a.csv", f"{media},mos,{std}\n01,3,0.5\n02,5,0.2\n"))
        assert labels.column("id").tolist() == ["01", "02"] and labels.has("raw_std")
    both = read_labels(write(tmp_path / "b.csv", "image,file,std,sd,mos,dmos\na,x,1,7,2,8\nb,y,1,7,3,9\n")).on(SCHEME)
    assert both.higher_is_better and both[0].extra == {"file": "x", "sd": 7, "dmos": 8}


def test_a_column_dmos_is_lower_is_better_unless_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "d.csv", "image,DMOS\na,0\nb,100\n")
    with caplog.at_level(logging.INFO, logger="q_align"):
        labels = read_labels(path).on(SCHEME)
        log_range(labels)
    assert "d: lower is better, taken from column 'DMOS'" in caplog.text
    assert not labels.higher_is_better and labels.column("mos").tolist() == [5, 1]
    assert read_labels(path, higher_is_better=True).on(SCHEME).column("mos").tolist() == [1, 5]


def test_a_models_training_stands_in_for_what_is_not_declared(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "image,mos,std\na,0,10\nb,120,10\n")
    entry = {"mos_range": [0, 100], "higher_is_better": False}
    labels = read_labels(path).as_trained(entry).on(SCHEME)
    assert (labels.mos_range, labels.higher_is_better) == ((0, 100), False)
    assert labels.report["range_from"] == labels.report["direction_from"] == "the model's training"
    np.testing.assert_allclose(labels.column("mos"), [5, 0.2])  # beyond the training rows: kept, at its distance
    np.testing.assert_allclose(labels.column("std"), [0.4, 0.4])
    np.testing.assert_allclose(read_labels(path).on(SCHEME).as_trained(entry).column("mos"), [5, 0.2])
    declared = read_labels(path, mos_range=(0, 120), higher_is_better=True).as_trained(entry).on(SCHEME)
    assert declared.column("mos").tolist() == [1, 5]
    assert read_labels(path).as_trained({}).on(SCHEME).column("mos").tolist() == [1, 5]


def test_mos_from_votes_moves_with_the_range_of_the_marks(tmp_path: Path) -> None:
    """Marks are spread over the range: another range gives other MOS, and the same place on the level scale."""
    path = write(tmp_path / "v.csv", "image,votes\na,1 0 0 0 3\nb,0 5 0 0 0\n")
    plain = read_labels(path)
    trained = plain.as_trained({"mos_range": [0, 100]})
    fresh = read_labels(path, mos_range=(0, 100))
    for name in ("raw_mos", "raw_std"):
        np.testing.assert_allclose(trained.column(name), fresh.column(name), rtol=1e-12)
    for name in ("mos", "std", "votes"):
        np.testing.assert_allclose(trained.on(SCHEME).column(name), plain.on(SCHEME).column(name), rtol=1e-12)


def test_a_mos_beyond_the_marks_of_its_votes_needs_a_range(tmp_path: Path) -> None:
    path = write(tmp_path / "v.csv", "image,mos,votes\na,20,1 2 3\nb,2,3 2 1\n")
    with pytest.raises(
        LabelError, match=r"v: 1 rows have a MOS outside 1\.\.3, the marks .*/a, mos 20\); declare mos_r"
    ):
        read_labels(path).on(SCHEME)
    declared = read_labels(path, mos_range=(0, 20)).on(SCHEME)
    trained = read_labels(path).as_trained({"mos_range": [0, 20]}).on(SCHEME)
    for name in ("mos", "std", "votes"):
        np.testing.assert_allclose(trained.column(name), declared.column(name), rtol=1e-12)
    with pytest.raises(LabelError, match="row 1: mos is 20"):
        read_labels(path, mos_range=(1, 5))


def test_one_reading_serves_any_levels(tmp_path: Path) -> None:
    """Labels hold the data set's own scale, so models with other levels need no second reading."""
    path = write(tmp_path / "s.csv", "image,mos,std,votes\na,0,10,1 0 0\nb,50,20,0 1 0\nc,100,,0 1 1\n")
    labels = read_labels(path, mos_range=(0, 100))
    three = LevelScheme(words=("good", "fair", "bad"), values=(9, 5, 1))
    np.testing.assert_allclose(labels.on(three).column("mos"), [1, 5, 9])
    np.testing.assert_allclose(labels.on(three).column("std"), [0.8, 1.6, np.nan])
    assert labels.on(three).column("votes").tolist() == [[0, 0, 1], [0, 1, 0], [0.5, 0.5, 0]]
    np.testing.assert_allclose(labels.on(SCHEME).column("mos"), [1, 3, 5])
    again = labels.on(three).on(SCHEME)
    assert again.table.equals(labels.on(SCHEME).table) and again.scheme == SCHEME
    with pytest.raises(LabelError, match="no column 'mos'"):
        labels.column("mos")


@pytest.mark.parametrize("name", ["scene", "ref", "group", "groups", "reference", "Ref_Img"])
def test_the_column_of_contents_has_other_names_too(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "s.csv", f"image,mos,{name}\na,1,7\nb,5,8\n")
    assert read_labels(path).column("content").tolist() == ["7", "8"]
    both = write(tmp_path / "b.csv", f"image,mos,{name},content\na,1,7,x\nb,5,8,y\n")
    assert read_labels(both).column("content").tolist() == ["x", "y"]


@pytest.mark.parametrize(
    ("rows", "options", "hint"),
    [
        ("a,1.4\nb,4.6\n", {}, True),
        ("a,1.4\nb,4.6\n", {"mos_range": (1, 5)}, False),
        ("a,1\nb,5\n", {}, False),
        ("a,0.4\nb,4.6\n", {}, False),
        ("a,1.4\nb,5.1\n", {}, False),
        ("a,1.1\nb,1.2\n", {}, False),
    ],
)
def test_a_range_from_rows_of_a_five_point_scale_gets_a_hint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rows: str, options: dict, hint: bool
) -> None:
    labels = read_labels(write(tmp_path / "s.csv", f"image,mos\n{rows}"), **options)
    with caplog.at_level(logging.INFO, logger="q_align"):
        log_range(labels)
    assert ("it looks like a 1-5 scale: set mos_range [1, 5]" in caplog.text) == hint


def test_splits_are_read_in_lower_case(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "image,mos,split\na,1,Train\nb,5, TRAIN\nc,9,Test\nd,3,\n")
    labels = read_labels(path)
    assert labels.column("split").tolist() == ["train", "train", "test", None]
    assert labels.mos_range == (1, 5) and len(labels.split("Train")) == 2
    other = read_labels(write(tmp_path / "o.csv", "image,mos,split\na,1,training\nb,5,testing\n"))
    with pytest.raises(LabelError, match=r"'train' is empty; splits are training, testing; .* whose split is 'train'"):
        other.split("train")


BAD = {
    "no_mos": ("image,score\na,1\n", r"missing column mos \(or votes\); columns found: image, score; rename"),
    "no_media": ("Img,mos\na,1\n", r"missing column one of image\|video\|media\|path; columns found: Img, mos; rename"),
    "semicolons": ("image;mos\na;3,5\nb;4,5\n", "separated by semicolons; save it with commas .*or as .tsv"),
    "comma": ('image,mos\na,"3,5"\nb,4\n', "the number '3,5' has a decimal comma; save it with commas .*points"),
    "comma_dmos": ('image,dmos\na,"3,5"\nb,4\n', "column 'mos' holds no numbers: the number '3,5' has a decimal comma"),
    "nan": ("image,mos\na,1\nb,nan\nc,\n", r"row 2: mos is nan; every row needs a finite MOS \(and 1 more rows\)"),
    "infinite": ("image,mos\na,1\nb,2\nc,inf\n", "row 3: mos is inf"),
    "text": ("image,mos\na,1\nb,high\n", r"[Rr]ow #3.*high"),
    "outside": ("image,mos\na,1\nb,5.5\n", r"row 2: mos is 5\.5, outside 1\.\.5"),
    "std": ("image,mos,std\na,1,0.1\nb,5,-0.2\n", r"row 2: std is -0\.2; a standard deviation is finite and >= 0"),
    "task": ("image,mos,task\na,1,iqa\nb,5,iqq\n", r"row 2: task is 'iqq'; tasks are iqa, iaa, vqa"),
    "media": ("image,mos\na,1\n,5\n", "row 2: image is empty"),
    "empty": ("", "the file is empty"),
    "rows": ("image,mos\n", "no rows"),
    "ragged": ("image,mos\na,1,7\n", "cannot be read as csv"),
    "votes": ('image,votes\na,1 2 3\nb,"1 2"\n', "row 2: votes has 2 bins, the first row has 3"),
    "negative": ("image,votes\na,1 2 3\nb,1 -2 3\n", "row 2: votes must be finite, >= 0"),
    "no_votes": ("image,votes\na,0 0 0\n", "row 1: votes must be finite, >= 0, and not all zero"),
    "word": ("image,votes\na,many\n", "row 1: votes is not a list"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_clear_line(tmp_path: Path, name: str) -> None:
    text, problem = BAD[name]
    with pytest.raises(LabelError, match=problem) as caught:
        read_labels(write(tmp_path / f"{name}.csv", text), mos_range=None if "votes" in text else (1, 5))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / f"{name}.csv") in str(caught.value)


def test_other_bad_input(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "x.csv")
    for call, problem in (
        (lambda: read_labels(tmp_path / "none.csv"), "no such labels file"),
        (lambda: read_labels(write(tmp_path / "x.xlsx", "x")), "unknown labels format '.xlsx'; use .csv"),
        (lambda: read_labels(write(tmp_path / "y.json", "{")), "cannot be read as json"),
        (lambda: read_labels(write(tmp_path / "y.json", '{"a": 1}')), "list of records, got dict"),
        (lambda: read_labels(write(tmp_path / "y.parquet", "text")), "cannot be read as parquet"),
        (lambda: read_labels(path, mos_range=(5, 1)), r"mos_range is \(lowest, highest\), got \(5, 1\)"),
        (lambda: read_labels(path, task="iqq"), "unknown task 'iqq' .did you mean 'iqa'"),
        (lambda: read_labels(path).split("val"), "split 'val' is empty; splits are train, test"),
        (lambda: read_labels(path).column("mss"), "no column 'mss'; columns are media"),
        (lambda: read_labels(write(tmp_path / "c.csv", "image,mos\na,2\nb,2\n")), "every MOS is 2, so no range"),
    ):
        with pytest.raises(LabelError, match=problem):
            call()


@given(
    mos=st.lists(st.floats(0, 100), min_size=2, max_size=20),
    levels=st.integers(2, 7),
    better=st.booleans(),
    suffix=st.sampled_from([".csv", ".parquet"]),
)
@settings(max_examples=25, deadline=None)
def test_conversion_reads_back(
    tmp_path_factory: pytest.TempPathFactory, mos: list[float], levels: int, better: bool, suffix: str
) -> None:
    folder = tmp_path_factory.mktemp("again")
    rows = [{"image": f"{i:03d}", "mos": m, "std": i / 7, "votes": [i, 1, 2], "k": i} for i, m in enumerate(mos)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    scheme = LevelScheme(words=tuple("abcdefg"[:levels]), values=tuple(range(levels, 0, -1)))

    def read(path: Path) -> LevelLabels:
        found = read_labels(path, mos_range=(0, 100), higher_is_better=better, media_root="", source="s")
        return found.on(scheme)

    first = read(folder / "a.parquet")
    assert write_labels(first, folder / f"b{suffix}") == len(mos)
    second = read(folder / f"b{suffix}")
    for name in ("mos", "std", "votes", "raw_mos"):
        np.testing.assert_allclose(second.column(name), first.column(name), atol=1e-12)
    for name in ("media", "id", "task", "k"):
        assert second.column(name).tolist() == first.column(name).tolist()


def test_columns_stay_columns(tmp_path: Path) -> None:
    """A row costs bytes, not objects: a quarter of a million rows fit in a few dozen MB of columns."""
    rows = 250_000
    table = pa.table({"image": [f"folder/{i:08d}.jpg" for i in range(rows)], "mos": np.linspace(1, 5, rows)})
    pq.write_table(table, tmp_path / "many.parquet")
    labels = read_labels(tmp_path / "many.parquet", mos_range=(1, 5))
    assert labels.table.nbytes / rows < 200 + len(str(tmp_path))
    assert labels.on(SCHEME)[rows - 1].mos == 5.0
