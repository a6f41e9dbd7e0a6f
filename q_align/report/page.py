"""Builds the report: reads results, draws charts, fills the template, writes page, tables and figures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from q_align.errors import ConfigError
from q_align.evaluation.record import Evaluation
from q_align.report import charts, level_charts
from q_align.report.collect import ResultSet, collect_results
from q_align.report.comparison import comparison_tables
from q_align.report.curves import heat_map, radar, training_curves
from q_align.report.figures import write_figures
from q_align.report.hide_folders import hide_folders
from q_align.report.result_tables import ReportTable, details_table, levels_table, mos_range_text, summary_table
from q_align.report.units import LEVELS, MOS
from q_align.report.worst import LargeError, largest_errors

_BUDGET = 300  # thumbnails on one page, about 5 kB each


@dataclass(slots=True)
class Chart:
    """A chart with its title and one line on how to read it."""

    title: str
    svg: Markup
    about: str


@dataclass(slots=True)
class Section:
    """One result on the page."""

    anchor: str
    result: Evaluation
    charts: list[Chart]
    tables: list[ReportTable]
    worst: list[LargeError]


def write_report(
    folders: list[str | Path],
    output: str | Path,
    *,
    title: str | None = None,
    worst: int = 12,
    thumbnails: bool = True,
    units: str = LEVELS,
    paths: bool = False,
    command: str = "",
) -> list[str]:
    """Writes OUTPUT (HTML), OUTPUT with .md, and OUTPUT_tables: tables as CSV, summary.tex, charts as SVG.

    Args:
        folders: what `q-align evaluate` or `q-align train` wrote; folders of such folders are looked through.
        output: the page.
        title: its heading; default: models, data sets, task and date.
        worst: items with the largest error shown per result.
        thumbnails: whether to open these items.
        units: "levels", or "mos" for charts in the units of each data set.
        paths: whether the page may show absolute paths of this machine.
        command: how the report was made, for the page.

    Returns:
        The written paths.

    Raises:
        ConfigError: when a folder holds no results.
    """
    if units not in (LEVELS, MOS):
        raise ConfigError(f"units of a report are {LEVELS} or {MOS}, got {units!r}")
    found = collect_results(folders)
    output = Path(output)
    made = datetime.now(timezone.utc).isoformat(timespec="seconds")
    heading = title or _title(found, made)
    compared = comparison_tables(found)
    overview = [table for table in (summary_table(found), *compared[:1]) if table.rows]
    worst = min(worst, max(1, _BUDGET // max(1, len(found.evaluations))))
    sections = [_section(result, worst, thumbnails, units) for result in found.evaluations]
    across = _overview(found)
    training = [Chart(name, svg, "") for run in found.trainings for name, svg in training_curves(run)]
    style = resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    page = _template(paths).render(
        title=heading,
        style=Markup(style),
        overview=overview,
        tests=compared[1:],
        across=across,
        training=training,
        sections=sections,
        found=found,
        command=command,
        made=made,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8")
    tables = [*overview, *compared[1:], *(table for section in sections for table in section.tables)]
    drawn = [(chart.title, chart.svg) for chart in (*across, *training)]
    drawn += [(f"{s.anchor} {chart.title}", chart.svg) for s in sections for chart in s.charts]
    return [str(output), *_write_tables(output, heading, tables, drawn, style)]


def _section(result: Evaluation, worst: int, thumbnails: bool, units: str) -> Section:
    drawn = [
        Chart(
            "Score against MOS",
            charts.scatter_chart(result, units),
            "Each mark is an item; the curve is the fitted logistic.",
        ),
        Chart(
            "Residuals by level",
            charts.residual_chart(result, units),
            "Box: middle half; line: median; whisker: 5% to 95%.",
        ),
        Chart(
            "Calibration of the score",
            charts.calibration_chart(result, units),
            "On the diagonal, the mean score equals the mean MOS.",
        ),
    ]
    if (result.metrics.get("levels") or {}).get("accuracy") is not None:
        drawn += [
            Chart(
                "Levels",
                level_charts.level_histogram_chart(result),
                "Items per level: by their MOS, and by the model's most probable level.",
            ),
            Chart(
                "Reliability of the level",
                level_charts.reliability_chart(result),
                "On the diagonal, levels predicted with probability 0.7 are correct 70% of the time. "
                "Numbers: items; pale bars hold fewer than 10.",
            ),
            Chart(
                "Level probabilities",
                level_charts.level_probability_chart(result),
                "Mean predicted level distribution, by ground-truth level.",
            ),
        ]
    anchor = re.sub(r"[^a-zA-Z0-9]+", "-", f"{result.model}-{result.data}").strip("-").lower()
    found = largest_errors(result, worst, thumbnails=thumbnails, units=units)
    return Section(anchor, result, drawn, [levels_table(result), details_table(result)], found)


def _overview(found: ResultSet) -> list[Chart]:
    models, sets = found.models, found.sets
    drawn = []
    if len(sets) > 1:
        values = [[_value(found.cell(m, d), "srcc") for d in sets] for m in models]
        own = [[_own(found.cell(m, d)) for d in sets] for m in models]
        table = {"models": models, "sets": sets, "srcc": values, "own": own}
        about = "SRCC; the shade repeats the number. *: trained on this set or another part of it."
        drawn.append(Chart("Every model on every data set", heat_map(table), about))
    if len(sets) > 2:
        series = {m: [_value(found.cell(m, d), "srcc") for d in sets] for m in models}
        published = _published(found)
        about = "SRCC; farther out is better." + (" Published: as in their papers." if published else "")
        if any(v is not None for row in series.values() for v in row):
            drawn.append(Chart("Radar", radar(sets, series | published), about))
    return drawn


def _published(found: ResultSet) -> dict[str, list[float | None]]:
    """SRCC of the published models that have a number for at least three of the sets; at most two of them."""
    rows: dict[str, dict[str, float]] = {}
    for result in found.evaluations:
        for entry in result.metrics.get("published") or []:
            rows.setdefault(f"{entry['model']} (published)", {})[result.data] = entry["srcc"]
    full = {name: cells for name, cells in rows.items() if len(cells) > 2}
    best = sorted(full, key=lambda name: -len(full[name]))[:2]
    return {name: [full[name].get(d) for d in found.sets] for name in best}


def _value(result: Evaluation | None, metric: str) -> float | None:
    return None if result is None else result.metrics.get(metric)


def _own(result: Evaluation | None) -> bool:
    return result is not None and result.data in (result.metrics.get("trained_on") or [])


def _title(found: ResultSet, made: str) -> str:
    if not found.evaluations:
        return "Training " + ", ".join(run.name for run in found.trainings)
    tasks = list(dict.fromkeys(str(e.metrics["task"]) for e in found.evaluations if e.metrics.get("task")))
    dates = [str((e.metrics.get("environment") or {}).get("date") or made)[:10] for e in found.evaluations]
    about = ", ".join([*([f"task {', '.join(tasks)}"] if tasks else []), max(dates)])
    return f"{', '.join(found.models)} on {', '.join(found.sets)} ({about})"


def _template(paths: bool) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("q_align.report", ".")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["path"] = (lambda text: text) if paths else lambda text: hide_folders(str(text))
    # a foreign result may hold any text: "javascript:" as a link would run
    environment.tests["web_address"] = lambda text: str(text).lower().startswith(("http://", "https://"))
    environment.filters["range"] = mos_range_text
    return environment.get_template("page.html")


def _write_tables(
    output: Path, title: str, tables: list[ReportTable], drawn: list[tuple[str, Markup]], style: str
) -> list[str]:
    text = output.with_suffix(".md")
    text.write_text("\n".join([f"# {title}", "", *(table.markdown() for table in tables)]), encoding="utf-8")
    folder = output.with_name(f"{output.stem}_tables")
    folder.mkdir(exist_ok=True)
    for table in tables:
        table.write_csv(folder)
    for table in tables[:1]:
        (folder / f"{table.name}.tex").write_text(table.latex(), encoding="utf-8")
    write_figures(drawn, style, folder)
    return [str(text), str(folder)]
