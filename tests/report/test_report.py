"""The report: self-contained, complete, safe, small, and fit to be opened in a browser."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from q_align.errors import ConfigError
from q_align.evaluation.evaluate_models import evaluate_models
from q_align.evaluation.settings import EvaluationSettings
from q_align.report import write_report
from q_align.report.collect import TrainingLog, collect_results
from q_align.report.comparison import comparison_tables
from q_align.report.curves import heat_map, radar, training_curves
from q_align.report.hide_folders import hide_folders
from q_align.report.result_tables import levels_table, summary_table
from q_align.report.svg import ticks

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what the page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values["href"][1:]] if values.get("href", "").startswith("#") else []
        self.outside += [v for k, v in attrs if k in ("src", "srcset", "action") and not v.startswith("data:")]
        self.outside += [values["href"]] if tag != "a" and "href" in values else []

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"


@pytest.fixture
def results(rated: Path, fake: Any, tmp_path: Path) -> Path:
    """Two models on three data sets, one of them with published numbers, and a training run."""
    sets = [f"koniq={rated / 'labels.csv'}", str(rated / "second.csv"), str(rated / "third.csv")]
    for name, factor in (("second", 2), ("third", 3)):
        lines = [f"{i}.png,{factor * i}" for i in range(24)]
        (rated / f"{name}.csv").write_text("image,mos\n" + "\n".join(lines) + "\n")
    models = fake(["a", "b"], by_model={"a": 0.2, "b": 1.2}, broken={"11.png"})
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    history = [{"step": s, "loss": 2 / s, "epoch": 1} for s in range(1, 30)]
    history += [{"step": s, "eval_loss": 2 / s, "eval_srcc": 0.5 + s / 100, "eval_plcc": 0.5} for s in (10, 20, 30)]
    (run / "log_history.json").write_text(json.dumps(history))
    settings = EvaluationSettings(cache=False, resamples=50, mos_range=(0, 100))
    evaluate_models(models, sets, tmp_path / "eval", settings=settings)
    return tmp_path / "eval"


def test_everything_is_on_the_page(results: Path, tmp_path: Path) -> None:
    written = write_report([results, tmp_path / "runs/a"], tmp_path / "page.html", command="q-align report eval")
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert page.outside == [] and "script" not in page.tags  # nothing from elsewhere, nothing that runs
    assert len(page.ids) == len(set(page.ids)) and set(page.links) <= set(page.ids)
    for words in (
        "Score against MOS", "Residuals by level", "Reliability of the level", "Level probabilities", "Levels",
        "Calibration of the score", "Largest errors", "Significance of the differences", "Radar",
        "Every model on every data set", "Training", "a: loss", "a: validation", "OneAlign", "arXiv 2312.17090",
        "1 items have no score", "q-align report eval", "transformers", "KonIQ-10k",
    ):  # fmt: skip
        assert words in text, words
    assert text.count("data:image/jpeg;base64,") == 6 * 12
    assert "prefers-color-scheme: dark" in text and "@media print" in text and "width=device-width" in text
    assert sorted(Path(p).name for p in written) == ["page.html", "page.md", "page_tables"]


def test_charts_are_wellformed_and_within_their_frame(results: Path, tmp_path: Path) -> None:
    write_report([results], tmp_path / "page.html", thumbnails=False)
    pictures = re.findall(r"<svg.*?</svg>", (tmp_path / "page.html").read_text(), flags=re.S)
    assert len(pictures) > 40
    for picture in pictures:
        root = ET.fromstring(picture.replace("&nbsp;", " "))
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        assert root.attrib["role"] == "img" and len(root.attrib["aria-label"]) > 10
        assert "nan" not in picture.lower().replace("finance", "")
        for node in root.iter():
            for key, limit in (("x", width), ("cx", width), ("y", height), ("cy", height)):
                if key in node.attrib:
                    assert -1 <= float(node.attrib[key]) <= limit + 1, ET.tostring(node)


def test_tables_agree_with_the_results(results: Path, tmp_path: Path) -> None:
    write_report([results], tmp_path / "page.html", thumbnails=False)
    with (tmp_path / "page_tables" / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len([r for r in rows if r["model"] in ("a", "b")]) == 6
    for row in rows:
        if row["model"] in ("a", "b"):
            metrics = json.loads((results / row["model"] / row["data"] / "metrics.json").read_text())
            assert float(row["SRCC"]) == metrics["srcc"] and int(row["n"]) == metrics["n"]
    text = (tmp_path / "page.md").read_text()
    assert "| koniq | DeQA-Score [2] | KonIQ |" in text and "## Significance of the differences" in text


def test_the_better_model_is_found_better(results: Path) -> None:
    table, tests = comparison_tables(collect_results([results]))
    assert len(table.rows) == len(tests.rows) == 3 * 4
    column, metric = table.columns.index("result"), table.columns.index("metric")
    better = [row for row in table.rows if row[metric] == "SRCC" or row[:2] == ["koniq", "RMSE"]]
    assert len(better) == 4 and all(re.fullmatch(r"a is better \(p [=<] [\d.]+\)", row[column]) for row in better)
    assert comparison_tables(collect_results([results / "a"])) == []


def test_comparison_matches_items_by_name(results: Path) -> None:
    """Shuffled rows of one model change nothing."""
    before = comparison_tables(collect_results([results]))
    path = results / "b" / "second" / "scores.parquet"
    table = pq.read_table(path)
    pq.write_table(table.take(np.random.default_rng(0).permutation(table.num_rows)), path)
    after = comparison_tables(collect_results([results]))
    assert before[0].shown() == after[0].shown() and before[1].shown() == after[1].shown()


def test_names_cannot_break_the_page(rated: Path, fake: Any, tmp_path: Path) -> None:
    (rated / "<script>alert(1)<").mkdir()
    shutil.copy(rated / "1.png", rated / "<script>alert(1)<" / "1.png")
    labels = rated / "evil.csv"
    labels.write_text('image,mos\n"<script>alert(1)</1.png",1\n2.png,3\n3.png,4\n')
    settings = EvaluationSettings(cache=False, resamples=0)
    evaluate_models(fake(["<b>&model"]), [str(labels)], tmp_path / "out", settings=settings)
    write_report([tmp_path / "out"], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "<script" not in text and "&lt;script&gt;" in text and "&lt;b&gt;&amp;model" in text
    Page(text)


def test_media_that_are_gone_leave_a_reason(results: Path, rated: Path, tmp_path: Path) -> None:
    for path in rated.glob("*.png"):
        path.unlink()
    write_report([results / "a" / "koniq"], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert text.count("no image: ") == 12 and "data:image" not in text


def test_results_without_any_score(rated: Path, fake: Any, tmp_path: Path) -> None:
    models = fake(broken={f"{i}.png" for i in range(24)})
    evaluate_models(models, [str(rated / "labels.csv")], tmp_path / "out", settings=EvaluationSettings(cache=False))
    write_report([tmp_path / "out"], tmp_path / "page.html")
    assert "20 items have no score" in (tmp_path / "page.html").read_text()


def test_training_alone_and_wrong_folders(results: Path, tmp_path: Path) -> None:
    write_report([tmp_path / "runs" / "a"], tmp_path / "page.html")
    assert "a: loss" in (tmp_path / "page.html").read_text()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"neither metrics\.json"):
        write_report([tmp_path / "empty"], tmp_path / "page.html")
    with pytest.raises(ConfigError, match="no such folder"):
        write_report([tmp_path / "nowhere"], tmp_path / "page.html")
    (results / "a" / "koniq" / "metrics.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        write_report([results], tmp_path / "page.html")


def test_records_of_other_programs(results: Path, tmp_path: Path) -> None:
    """A table of scores and the bare contract of metrics.json are enough."""
    path = results / "a" / "second" / "metrics.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({key: whole[key] for key in ("n", "failed", "srcc", "plcc")}))
    write_report([path.parent], tmp_path / "page.html", thumbnails=False)
    found = collect_results([path.parent]).evaluations[0]
    assert (found.model, found.data) == ("a", "second")
    assert found.metrics["logistic4"]["beta"] == pytest.approx(whole["logistic4"]["beta"])
    assert found.metrics["srcc_ci"] == pytest.approx(whole["srcc_ci"], abs=0.05)


def test_same_name_twice_is_distinguished(rated: Path, fake: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        settings = EvaluationSettings(cache=False, resamples=0)
        evaluate_models(fake(), [str(rated / "labels.csv")], tmp_path / name, settings=settings)
    found = collect_results([tmp_path / "one", tmp_path / "two"])
    assert found.models == ["m (one)", "m (two)"] and len(summary_table(found).rows) == 2


def test_same_name_in_folders_of_the_same_name(rated: Path, fake: Any, tmp_path: Path) -> None:
    for run, noise in (("a", 0.1), ("b", 1.0)):
        out, data = tmp_path / run / "eval", [str(rated / "labels.csv")]
        evaluate_models(fake(noise=noise), data, out, settings=EvaluationSettings(cache=False, resamples=50))
    found = collect_results([tmp_path / "a" / "eval", tmp_path / "b" / "eval"])
    assert found.models == ["m (a-eval)", "m (b-eval)"]
    assert len(comparison_tables(found)[0].rows) == 4, "one pair, four metrics"


def test_many_items_stay_small(results: Path, tmp_path: Path) -> None:
    """30000 items: hexagons in place of marks."""
    folder = tmp_path / "big"
    shutil.copytree(results / "a" / "koniq", folder)
    table = pq.read_table(folder / "scores.parquet")
    pq.write_table(table.take(np.random.default_rng(0).integers(0, table.num_rows, 30000)), folder / "scores.parquet")
    write_report([folder], tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 600_000
    assert 'class="hex h5"' in (tmp_path / "page.html").read_text()


def test_ticks_are_round() -> None:
    assert ticks(1, 5) == [1, 2, 3, 4, 5]
    assert ticks(0, 0.31) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert ticks(-1, 1, about=4) == pytest.approx([-1, -0.5, 0, 0.5, 1])
    assert ticks(2, 2) == [2]


def test_radar_and_heat_map_with_gaps() -> None:
    assert "SRCC 0.900" in radar(["x", "y", "z"], {"m": [0.9, None, 0.5], "n": [0.1, 0.2, -0.3]})
    table = {"models": ["m"], "sets": ["x", "y"], "srcc": [[None, 0.95]], "own": [[False, True]]}
    assert "0.950*" in heat_map(table)


def test_title_range_and_contents_are_shown(results: Path, tmp_path: Path) -> None:
    write_report([results / "a" / "koniq"], tmp_path / "page.html", thumbnails=False)
    text = (tmp_path / "page.html").read_text()
    assert re.search(r"<h1>a on koniq \(task iqa, \d{4}-\d\d-\d\d\)</h1>", text)
    assert "MOS 0 to 100 (declared) are the ends of the level scale; task iqa." in text
    table = summary_table(collect_results([results / "a" / "koniq"]))
    row = dict(zip(table.columns, table.rows[0]))
    assert (row["contents"], row["MOS range"], row["n"], row["failed"]) == (6, "0 to 100", 19, 1)
    assert row["RMSE in MOS"] == pytest.approx(25 * row["RMSE"]) and "vs first" not in table.columns
    both = summary_table(collect_results([results]))
    second = next(dict(zip(both.columns, r)) for r in both.rows if r[:2] == ["koniq", "b"])
    first = next(dict(zip(both.columns, r)) for r in both.rows if r[:2] == ["koniq", "a"])
    assert float(second["vs first"]) == pytest.approx(second["SRCC"] - first["SRCC"], abs=6e-4)
    assert first["vs first"] is None


def test_two_ranges_of_one_set_are_not_compared_by_rmse(rated: Path, fake: Any, tmp_path: Path) -> None:
    """Evaluated apart with different ranges: correlations can be compared, RMSE and levels cannot."""
    for name, ends in (("a", (0, 100)), ("b", (0, 200))):
        settings = EvaluationSettings(cache=False, resamples=0, mos_range=ends)
        evaluate_models(fake([name]), [str(rated / "labels.csv")], tmp_path / name, settings=settings)
    table, _ = comparison_tables(collect_results([tmp_path / "a", tmp_path / "b"]))
    results = {row[table.columns.index("metric")]: row[table.columns.index("result")] for row in table.rows}
    assert results["RMSE"] == results["level accuracy"] == "not comparable: the MOS ranges differ"
    assert "comparable" not in results["SRCC"]


def test_models_of_one_call_share_their_axes(rated: Path, fake: Any, tmp_path: Path) -> None:
    """Also where an item failed for one of them."""
    data, settings = [str(rated / "labels.csv")], EvaluationSettings(cache=False, resamples=0)
    trained = [{"source": "rated", "mos_range": [20, 60]}]  # the highest MOS lie beyond
    models = fake(["a"], trained_on=trained) | fake(["b"], noise=0.9, broken={"23.png"})
    evaluate_models(models, data, tmp_path / "out", settings=settings)
    write_report([tmp_path / "out"], tmp_path / "page.html", thumbnails=False)
    figures = [ET.parse(path) for path in sorted((tmp_path / "page_tables").glob("*score-against-mos.svg"))]
    labels = [
        [t.text for t in f.iter() if t.tag.endswith("text") and not (t.text or "").startswith("n =")] for f in figures
    ]
    assert len(labels) == 2 and labels[0] == labels[1]


def test_figures_and_latex_stand_alone(results: Path, tmp_path: Path) -> None:
    write_report([results], tmp_path / "page.html", thumbnails=False)
    folder = tmp_path / "page_tables"
    figures = sorted(folder.glob("*.svg"))
    assert len(figures) == 6 * 6 + 2
    for path in figures:
        text = path.read_text()
        root = ET.fromstring(text)
        assert (
            root.tag == "{http://www.w3.org/2000/svg}svg" and "var(" not in text and ".fit {" in text.replace("  ", " ")
        )
    latex = (folder / "summary.tex").read_text()
    assert latex.count(r"\\") == 1 + len(summary_table(collect_results([results])).rows)
    assert r"\toprule" in latex and "95\\% interval" in latex and "_" not in latex.replace(r"\_", "")


def test_small_groups_are_not_overstated(results: Path, tmp_path: Path) -> None:
    """A level of fewer than five items has a count and no accuracy; thin bars of the reliability chart are pale."""
    found = collect_results([results / "a" / "koniq"]).evaluations[0]
    table = levels_table(found)
    rows = {row[0]: dict(zip(table.columns, row)) for row in table.rows}
    assert {w: r["n"] for w, r in rows.items()} == {
        w: e["n"] for w, e in found.metrics["levels"]["per_level"].items()
    } | {"all": 19, "at most one level off": 19}
    few = [row for row in rows.values() if row["n"] < 5]
    assert few and all(row["accuracy"] is None and row["correct"] is not None for row in few if row["n"])
    write_report([results / "a" / "koniq"], tmp_path / "page.html", thumbnails=False)
    reliability = (tmp_path / "page_tables" / "a-koniq-reliability-of-the-level.svg").read_text()
    assert reliability.count('class="bar-b few"') == sum(0 < n < 10 for n in found.metrics["reliability"]["n"]) > 0


def test_equal_series_are_drawn_once() -> None:
    history = [{"step": s, "eval_srcc": s / 40, "eval_mine_srcc": s / 40, "eval_plcc": s / 50} for s in (10, 20, 30)]
    ((_, svg),) = training_curves(TrainingLog("run", history))
    assert svg.count('class="line s') == 2 and "srcc = mine_srcc" in svg


def test_folders_of_this_machine_are_hidden(results: Path, rated: Path, tmp_path: Path) -> None:
    write_report([results], tmp_path / "page.html", command=f"q-align report {results}")
    assert str(tmp_path) not in (tmp_path / "page.html").read_text()
    write_report([results], tmp_path / "page.html", command=f"q-align report {results}", paths=True)
    assert f"q-align report {results}" in (tmp_path / "page.html").read_text()
    assert hide_folders("/home/me/a b/c.png: broken") == ".../a b/c.png: broken"
    assert hide_folders("see https://host/some/page and runs/a/b") == "see https://host/some/page and runs/a/b"
    assert hide_folders("--data=/x/y/z.csv '/x/y/z.csv'") == "--data=.../z.csv '.../z.csv'"


def test_rows_of_the_training_data_are_marked(rated: Path, fake: Any, tmp_path: Path) -> None:
    models = fake(trained_on=[{"source": "rated", "mos_range": [0, 100]}])
    settings = EvaluationSettings(cache=False, resamples=0, split="all")
    evaluate_models(models, [str(rated / "labels.csv")], tmp_path / "out", settings=settings)
    write_report([tmp_path / "out"], tmp_path / "page.html", thumbnails=False)
    text = (tmp_path / "page.html").read_text()
    assert "4 of these rows were used to train or validate the model: this is not a test." in text
    assert summary_table(collect_results([tmp_path / "out"])).rows[0][1] == "m *"


def test_a_model_without_levels_has_a_report(results: Path, tmp_path: Path) -> None:
    """Scores without level probabilities, as of a model that predicts numbers."""
    folder = results / "a" / "second"
    table = pq.read_table(folder / "scores.parquet")
    empty = pa.nulls(len(table), table.schema.field("probs").type)
    pq.write_table(table.set_column(table.column_names.index("probs"), "probs", empty), folder / "scores.parquet")
    metrics = json.loads((folder / "metrics.json").read_text())
    kept = {key: metrics[key] for key in ("n", "failed", "srcc", "model_name", "data_name", "mos_range")}
    (folder / "metrics.json").write_text(json.dumps(kept))
    write_report([results / "a" / "second", results / "b" / "second"], tmp_path / "page.html", thumbnails=False)
    text = (tmp_path / "page.html").read_text()
    Page(text)
    assert text.count("Reliability of the level") == 1
    table = comparison_tables(collect_results([results / "a" / "second", results / "b" / "second"]))[0]
    assert {row[1] for row in table.rows} == {"SRCC", "PLCC", "RMSE"}


@pytest.mark.slow
def test_in_a_real_browser(results: Path, tmp_path: Path) -> None:
    """Chromium lays the page out without a sideways scrollbar, at phone and desktop width, and shows every picture."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here (scripts/test.sh installs it in CI)")
    write_report([results], tmp_path / "page.html")
    # a window cannot be narrower than 500 pixels, a frame can; a script reports what the layouts came to
    widths = (390, 1280)
    probe = (
        "onload=()=>{document.title=[...document.querySelectorAll('iframe')].map(f=>{"
        "const d=f.contentDocument,e=d.documentElement;return [e.scrollWidth-e.clientWidth,"
        "d.querySelectorAll('svg').length,[...d.images].filter(i=>i.complete&&i.naturalWidth===0).length].join(' ')"
        "}).join(' ')}"
    )
    frames = "".join(f'<iframe src="page.html" style="border:0;width:{w}px;height:900px"></iframe>' for w in widths)
    (tmp_path / "probe.html").write_text(f"<body>{frames}<script>{probe}</script>")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    more = "--disable-component-update --disable-sync --allow-file-access-from-files --virtual-time-budget=5000"
    command = [browser, *flags.split(), *more.split(), f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    command += ["--window-size=1400,900", f"file://{tmp_path / 'probe.html'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    title = re.search(r"<title>([-\d ]+)</title>", done.stdout)
    assert title, done.stdout[-300:] + done.stderr[-300:]
    numbers = list(map(int, title.group(1).split()))
    for width, sideways, pictures, broken in zip(widths, numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        assert sideways <= 0, f"at {width} pixels the page is {sideways} pixels too wide"
        assert pictures > 40 and broken == 0


@pytest.mark.parametrize("url", ["javascript:alert(1)", " JavaScript:alert(1)", "data:text/html,x", "vbscript:x"])
def test_only_web_addresses_become_links(results: Path, tmp_path: Path, url: str) -> None:
    path = results / "a" / "second" / "metrics.json"
    record = json.loads(path.read_text()) | {"card": {"cite": "someone", "url": url}}
    path.write_text(json.dumps(record))
    write_report([path.parent], tmp_path / "page.html", thumbnails=False)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert url in text
    assert f'href="{url}' not in text
    path.write_text(json.dumps(record | {"card": {"cite": "someone", "url": "https://a.test/x"}}))
    write_report([path.parent], tmp_path / "page.html", thumbnails=False)
    assert 'href="https://a.test/x"' in (tmp_path / "page.html").read_text(encoding="utf-8")
