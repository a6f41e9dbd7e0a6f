"""Tables of the differences between models on the same items, with their significance."""

from __future__ import annotations

import math
from typing import Any

from q_align.evaluation.evaluate import align_results, comparison_columns, same_mos
from q_align.metrics import compare_scores
from q_align.report.collect import ResultSet
from q_align.report.result_tables import ReportTable

ALPHA = 0.05
METRICS = {"srcc": "SRCC", "plcc": "PLCC", "rmse_raw": "RMSE", "level_accuracy": "level accuracy"}
_RESAMPLES = 2000
_FEWER = 200  # resamples of very large sets: their intervals are narrow anyhow
_LARGE = 20_000


def comparison_tables(found: ResultSet) -> list[ReportTable]:
    """Pairs of models, as a table to read and one with every test; nothing for a single model."""
    rows: list[list[Any]] = []
    tests: list[list[Any]] = []
    units = set()
    for data in found.sets:
        results = [e for e in found.evaluations if e.data == data]
        if len(results) < 2:
            continue
        sides = {e.model: comparison_columns(e) for e in results}
        comparable = same_mos(list(sides.values()))
        mos, scores, content, correct = align_results(sides, [e.scheme for e in results])
        resamples = _FEWER if len(mos) > _LARGE else _RESAMPLES
        for pair in compare_scores(mos, scores, content, correct=correct, resamples=resamples):
            units.add(pair["unit"])
            a, b = pair["models"]
            for key, title in METRICS.items():
                if key not in pair:
                    continue
                r = pair[key]
                if key in ("rmse_raw", "level_accuracy") and not comparable:
                    rows.append([data, title, a, b, "not comparable: the MOS ranges differ", *[None] * 4, pair["n"]])
                    continue
                values = [r["a"], r["b"], r["difference"], r["difference_ci"]]
                rows.append([data, title, a, b, significance(r, (a, b)), *values, pair["n"]])
                p = [p_value(r.get(name, math.nan)) for name in ("bootstrap_p", "holm_p", "williams_p", "steiger_p")]
                tests.append([data, title, a, b, *p, pair["n"]])
    if not rows:
        return []
    drawn = "contents" if units == {"content"} else "items" if units == {"item"} else "contents, or items where unknown"
    note = (
        f"Paired bootstrap over {drawn}; p is corrected for the number of pairs of a data set (Holm), alpha {ALPHA}. "
        "RMSE in levels, without a fit: lower is better."
    )
    more = "Bootstrap: as above, before and after Holm's correction. Williams and Steiger assume independent items."
    head = ["data", "metric", "A", "B"]
    return [
        ReportTable(
            "comparison",
            "Significance of the differences",
            [*head, "result", "A's", "B's", "A - B", "95% interval", "n"],
            rows,
            note=note,
        ),
        ReportTable(
            "comparison_tests",
            "All tests of the differences",
            [*head, "p bootstrap", "p Holm", "p Williams", "p Steiger", "n"],
            tests,
            note=more,
        ),
    ]


def significance(record: dict[str, Any], models: tuple[str, str]) -> str:
    """ "mine is better (p = 0.003)", "not significant (p = 0.45, alpha 0.05)" or "undefined"."""
    p = record["holm_p"]
    if not math.isfinite(p):
        return "undefined"
    shown = "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
    if p >= ALPHA:
        return f"not significant ({shown}, alpha {ALPHA})"
    better = (record["difference"] > 0) == record["higher_is_better"]
    return f"{models[0] if better else models[1]} is better ({shown})"


def p_value(p: float) -> str | None:
    if not math.isfinite(p):
        return None
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
