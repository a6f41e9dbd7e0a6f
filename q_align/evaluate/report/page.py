"""Puts the report together: collects, draws, fills the template, writes page and tables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from q_align.evaluate.report import charts
from q_align.evaluate.report.collect import Collected, Evaluation, collect
from q_align.evaluate.report.curves import heat_map, radar, training_curves
from q_align.evaluate.report.result_tables import Table, comparison_table, details_table, levels_table, summary_table
from q_align.evaluate.report.worst import Disagreement, disagreements

_BUDGET = 300  # thumbnails on one page, about 5 kB each


@dataclass(slots=True)
class Chart:
    """A picture with its title and one line on how to read it."""

    title: str
    svg: Markup
    about: str


@dataclass(slots=True)
class Section:
    """One result on the page."""

    anchor: str
    result: Evaluation
    charts: list[Chart]
    tables: list[Table]
    worst: list[Disagreement]


def write_report(
    folders: list[str | Path],
    output: str | Path,
    *,
    title: str | None = None,
    worst: int = 12,
    thumbnails: bool = True,
    command: str = "",
) -> list[str]:
    """Writes OUTPUT (HTML), OUTPUT with .md, and a folder OUTPUT_tables with one CSV per table.

    Args:
        folders: what `q-align evaluate` or `q-align train` wrote; folders of such folders are looked through.
        output: the page.
        title: its heading; default: models and data sets.
        worst: disagreements shown per result.
        thumbnails: whether to open the media of these.
        command: how the report was made, for the page.

    Returns:
        The written paths.

    Raises:
        ConfigError: when a folder holds no results.
    """
    found = collect(folders)
    output = Path(output)
    overview = [table for table in (summary_table(found), comparison_table(found)) if table is not None and table.rows]
    worst = min(worst, max(1, _BUDGET // max(1, len(found.evaluations))))
    sections = [_section(result, worst, thumbnails) for result in found.evaluations]
    page = _template().render(
        title=title or _title(found),
        style=Markup(resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8")),
        overview=overview,
        pictures=_overview(found),
        training=[Chart(name, svg, "") for run in found.trainings for name, svg in training_curves(run)],
        sections=sections,
        found=found,
        command=command,
        made=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8")
    return [str(output), *_write_tables(output, title or _title(found), overview, sections)]


def _section(result: Evaluation, worst: int, thumbnails: bool) -> Section:
    pictures = [
        Chart(
            "Scores against opinions", charts.scatter(result), "Each mark is an item; the curve is the fitted logistic."
        ),
        Chart("Levels", charts.level_histogram(result), "Items per level: by their MOS, and as the model says."),
        Chart("Residuals by level", charts.residuals(result), "Box: middle half; line: median; whisker: 5% to 95%."),
        Chart("Reliability of the level", charts.reliability(result), "On the diagonal, 70% sure means right in 70%."),
        Chart("Calibration of the score", charts.calibration(result), "On the diagonal, a score means that MOS."),
        Chart(
            "Level probabilities", charts.level_probabilities(result), "What the model says about items of each level."
        ),
    ]
    anchor = re.sub(r"[^a-zA-Z0-9]+", "-", f"{result.model}-{result.data}").strip("-").lower()
    found = disagreements(result, worst, thumbnails=thumbnails)
    return Section(anchor, result, pictures, [levels_table(result), details_table(result)], found)


def _overview(found: Collected) -> list[Chart]:
    models, sets = found.models, found.sets
    pictures = []
    if len(sets) > 1:
        values = [[_value(found.cell(m, d), "srcc") for d in sets] for m in models]
        own = [[_own(found.cell(m, d)) for d in sets] for m in models]
        table = {"models": models, "sets": sets, "srcc": values, "own": own}
        about = "SRCC; the shade repeats the number. *: trained on this set or another part of it."
        pictures.append(Chart("Every model on every data set", heat_map(table), about))
    if len(sets) > 2:
        series = {m: [_value(found.cell(m, d), "srcc") for d in sets] for m in models}
        published = _published(found)
        about = "SRCC; farther out is better." + (" Published: as their papers say." if published else "")
        if any(v is not None for row in series.values() for v in row):
            pictures.append(Chart("Radar", radar(sets, series | published), about))
    return pictures


def _published(found: Collected) -> dict[str, list[float | None]]:
    """SRCC of the published models that have a number for at least three of the sets; at most two of them."""
    rows: dict[str, dict[str, float]] = {}
    for result in found.evaluations:
        for entry in result.metrics.get("published") or []:
            rows.setdefault(f"{entry['model']} (published)", {})[result.data] = entry["srcc"]
    full = {name: cells for name, cells in rows.items() if len(cells) > 2}
    best = sorted(full, key=lambda name: -len(full[name]))[:2]
    return {name: [full[name].get(d) for d in found.sets] for name in best}


def _value(result: Evaluation | None, measure: str) -> float | None:
    return None if result is None else result.metrics.get(measure)


def _own(result: Evaluation | None) -> bool:
    return result is not None and result.data in (result.metrics.get("trained_on") or [])


def _title(found: Collected) -> str:
    if not found.evaluations:
        return "Training " + ", ".join(run.name for run in found.trainings)
    return f"{', '.join(found.models)} on {', '.join(found.sets)}"


def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("q_align.evaluate.report", ".")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True).get_template(
        "page.html"
    )


def _write_tables(output: Path, title: str, overview: list[Table], sections: list[Section]) -> list[str]:
    tables = [*overview, *(table for section in sections for table in section.tables)]
    text = output.with_suffix(".md")
    text.write_text("\n".join([f"# {title}", "", *(table.markdown() for table in tables)]), encoding="utf-8")
    folder = output.with_name(f"{output.stem}_tables")
    folder.mkdir(exist_ok=True)
    for table in tables:
        table.write_csv(folder)
    return [str(text), str(folder)]
