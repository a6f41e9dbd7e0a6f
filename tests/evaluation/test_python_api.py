"""Evaluation from Python: any kind of labels, results like a dict, comparison, scores in the data set's own units."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import q_align
from q_align import compare, evaluate
from q_align.cli.main import main
from q_align.data.label_files import read_labels
from q_align.errors import ConfigError, LabelError
from q_align.evaluation.calibration import fit_calibration
from q_align.metrics import rmse, srcc
from q_align.models.nano import build
from q_align.report import write_report
from q_align.score.scorer import Scorer

QUICK: dict[str, Any] = {"cache": False, "resamples": 50, "workers": 0}


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(build(seed=0), workers=0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_names_of_the_package() -> None:
    """`from q_align import evaluate` is the function, also after its modules were imported."""
    assert callable(q_align.evaluate) and callable(q_align.compare) and q_align.Evaluation.__name__ == "Evaluation"


def test_every_kind_of_labels_gives_the_same_result(rated: Path, scorer: Scorer, tmp_path: Path) -> None:
    pandas, datasets = pytest.importorskip("pandas"), pytest.importorskip("datasets")
    frame = pandas.read_csv(rated / "labels.csv")
    rows = frame.to_dict("records")
    images = [{**row, "image": Image.open(rated / row["image"])} for row in rows]
    paths = [str(rated / row["image"]) for row in rows]
    features = datasets.Features(
        {"image": datasets.Image(), "mos": datasets.Value("float64"), "split": datasets.Value("string")}
    )
    columns = {"image": paths, "mos": frame["mos"].tolist(), "split": frame["split"].tolist()}
    kinds = {
        "file": (rated / "labels.csv", {}),
        "Labels": (read_labels(rated / "labels.csv", mos_range=(0, 100)), {}),
        "DataFrame": (frame, {"media_root": rated}),
        "test rows": (frame[frame.split == "test"], {"media_root": rated}),
        "dicts": (rows, {"media_root": rated}),
        "PIL images": (images, {}),
        "arrays": ([{**row, "image": np.asarray(image["image"])} for row, image in zip(rows, images)], {}),
        "bytes": ([{**row, "image": Path(path).read_bytes()} for row, path in zip(rows, paths)], {}),
        "Dataset": (datasets.Dataset.from_dict(columns, features=features), {}),
        "arrow": (pa.Table.from_pandas(frame), {"media_root": rated}),
        "columns": (columns, {}),
    }
    values = {}
    for name, (data, options) in kinds.items():
        result = evaluate(scorer, data, mos_range=(0, 100), **options, **QUICK)
        assert (result["n"], result["failed"]) == (20, 0), name
        values[name] = (result.column("value").tolist(), result.column("mos").tolist(), result["srcc"])
    assert all(found == values["file"] for found in values.values())


def test_a_result_is_a_dict_with_rows(rated: Path, scorer: Scorer, tmp_path: Path) -> None:
    result = evaluate(scorer, rated / "labels.csv", mos_range=(0, 100), output=tmp_path / "out", **QUICK)
    assert result["srcc"] == result.metrics["srcc"] == srcc(result.column("mos"), result.column("value"))
    assert "srcc" in result and dict(result)["n"] == 20 and len(result.rows) == 20
    assert repr(result).startswith("Evaluation(rated: n 20, failed 0, srcc ")
    written = json.loads((tmp_path / "out/metrics.json").read_text())
    assert written["srcc"] == result["srcc"] and result.folder == tmp_path / "out"
    frame = result.to_pandas()
    assert frame["id"].tolist()[0] == result.rows[0]["id"] and len(frame) == 20
    write_report([tmp_path / "out"], tmp_path / "page.html", thumbnails=False)
    assert "task iqa, 20" in (tmp_path / "page.html").read_text()


def test_images_from_memory_are_written_once(rated: Path, scorer: Scorer, tmp_path: Path) -> None:
    image = Image.open(rated / "5.png")
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG")
    rows = [{"image": image, "mos": 1}, {"image": buffer.getvalue(), "mos": 2}, {"image": image.copy(), "mos": 3}]
    first = evaluate(scorer, rows, mos_range=(1, 5), **QUICK)
    files = sorted((tmp_path / "cache/q_align/images").iterdir())
    times = [file.stat().st_mtime_ns for file in files]
    assert [file.suffix for file in files].count(".jpg") == 1 and len(files) == 2
    again = evaluate(scorer, rows, mos_range=(1, 5), **QUICK)
    assert [file.stat().st_mtime_ns for file in files] == times and again["n"] == first["n"] == 3
    assert first.rows[0]["id"] == str(rated / "5.png")  # the file that PIL read


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (3, "labels are a path, a DataFrame, a datasets.Dataset, a pyarrow table, or a list of dicts; got int"),
        ([], "got an empty list"),
        ([{"image": "a.png"}], "missing column mos"),
        ([{"picture": "a.png", "mos": 1}], "missing column one of image"),
        ([{"image": 3, "mos": 1}], "row 1: an item is a path, a PIL image, an array or bytes, got int"),
        (
            [{"image": np.zeros((4, 4)), "mos": 1}],
            r"row 1: an array is .* uint8, got \(4, 4\) float64",
        ),
        ([{"image": b"text", "mos": 1}], "row 1: the bytes are no image that can be opened"),
        ([{"image": "a.png", "mos": 1}, {"image": "b.png", "mos": None}], "data: row 2: mos is nan"),
    ],
)
def test_what_are_no_labels(data: Any, words: str, scorer: Scorer) -> None:
    with pytest.raises(LabelError, match=words) as error:
        evaluate(scorer, data, **QUICK)
    assert "/tmp" not in str(error.value)


def test_compare_two_results(rated: Path, scorer: Scorer) -> None:
    other = Scorer(build(seed=1), workers=0)
    first = evaluate(scorer, rated / "labels.csv", mos_range=(0, 100), **QUICK)
    second = evaluate(other, rated / "labels.csv", mos_range=(0, 100), **QUICK)
    record = compare(first, second, resamples=100)
    assert record["models"] == ("first", "second") and record["n"] == 20 and record["unit"] == "content"
    assert record["srcc"]["difference"] == pytest.approx(first["srcc"] - second["srcc"])
    assert record["rmse_raw"]["a"] == pytest.approx(first["rmse_raw"])
    assert record["level_accuracy"]["b"] == pytest.approx(second["level_accuracy"])
    moved = evaluate(other, rated / "labels.csv", mos_range=(0, 200), **QUICK)
    with pytest.raises(ConfigError, match=r"different MOS .* evaluate both with one mos_range"):
        compare(first, moved)


def test_errors_in_the_units_of_the_data_set(rated: Path, tmp_path: Path) -> None:
    """By the MOS range, by a calibration, in the direction of the MOS; axes of the report likewise."""
    lines = (rated / "labels.csv").read_text().splitlines()[1:]
    (rated / "down.csv").write_text("image,dmos\n" + "".join(f"{i}.png,{98 - 4 * i}\n" for i in range(len(lines))))
    backbone = build(seed=0)
    scorer = Scorer(backbone, workers=0)
    by_range = evaluate(scorer, rated / "down.csv", mos_range=(0, 100), **QUICK)
    level, value = by_range.column("value"), by_range.column("value_mos")
    np.testing.assert_allclose(value, 100 - 25 * (level - 1))
    assert by_range["rmse_mos"] == pytest.approx(rmse(by_range.column("raw_mos"), value))
    assert by_range["rmse_mos"] == pytest.approx(25 * by_range["rmse_raw"])
    assert by_range["mae_mos"] == pytest.approx(25 * by_range["mae"])
    assert by_range["mos_scale"] == {"name": "mos:down", "origin": "range", "kind": "affine", "fitted_on": None}
    np.testing.assert_allclose(by_range.column("std_mos"), 25 * by_range.column("std"))

    fit = fit_calibration(level, 10 + 3 * level, kind="affine")
    backbone.card.calibration["down"] = fit | {"split": "val"}
    fitted = evaluate(scorer, rated / "down.csv", mos_range=(0, 100), output=tmp_path / "out", **QUICK)
    np.testing.assert_allclose(fitted.column("value_mos"), 10 + 3 * level)
    assert fitted["mos_scale"]["origin"] == "calibration" and fitted["srcc"] == by_range["srcc"]
    assert set(fitted.column("scale")) == {"mos:down"} and fitted["rmse_raw"] == by_range["rmse_raw"]
    other = evaluate(scorer, rated / "labels.csv", mos_range=(0, 100), scale="mos:down", **QUICK)
    assert other["mos_scale"]["name"] == "mos:down"
    none = evaluate(scorer, rated / "labels.csv", mos_range=(0, 100), scale="level", **QUICK)
    assert "rmse_mos" not in none and set(none.column("scale")) == {None}
    with pytest.raises(ConfigError, match="unknown scale 'mos:dwn'"):
        evaluate(scorer, rated / "labels.csv", scale="mos:dwn", **QUICK)
    with pytest.raises(ConfigError, match="takes mos:SOURCE"):
        evaluate(scorer, rated / "labels.csv", scale="percent", **QUICK)
    for units, words in (("levels", "level scale"), ("mos", "MOS of the data set")):
        write_report([tmp_path / "out"], tmp_path / f"{units}.html", thumbnails=False, units=units)
        assert f"predicted score ({words})" in (tmp_path / f"{units}.html").read_text()


def test_a_calibration_on_the_evaluated_rows_is_warned_of(
    rated: Path, scorer: Scorer, caplog: pytest.LogCaptureFixture
) -> None:
    record = {"kind": "affine", "slope": 1.0, "offset": 0.0}
    for split, warned in (("val", False), ("test", True)):
        caplog.clear()
        backbone = build(seed=0)
        backbone.card.calibration["rated"] = record | {"split": split}
        evaluate(Scorer(backbone, workers=0), rated / "labels.csv", mos_range=(0, 100), **QUICK)
        assert ("was fitted on rows that are evaluated" in caplog.text) == warned


def test_undefined_metrics_are_none_everywhere(
    rated: Path, scorer: Scorer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two items have no correlation: NaN in Python, null in the file, a dash in the report, nothing in the line."""
    rows = [{"image": str(rated / f"{i}.png"), "mos": i} for i in (4, 20)]
    result = evaluate(scorer, rows, mos_range=(0, 24), output=tmp_path / "out", **QUICK)
    assert all(math.isnan(result[name]) for name in ("srcc", "plcc", "krcc", "plcc_logistic"))
    written = json.loads((tmp_path / "out/metrics.json").read_text())
    assert written["srcc"] is None and written["rmse_raw"] is not None
    assert "0.0000" not in result.line() and "nan" not in result.line()
    assert main(["report", str(tmp_path / "out"), "--output", str(tmp_path / "page.html"), "--no-thumbnails"]) == 0
    table = (tmp_path / "page.md").read_text().splitlines()
    header = next(line for line in table if "| SRCC |" in line).split(" | ")
    cells = table[table.index(" | ".join(header)) + 2].split(" | ")
    assert cells[header.index("SRCC")] == "–"
