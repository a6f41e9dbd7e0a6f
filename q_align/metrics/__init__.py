"""Agreement of predicted scores with human ratings: arrays in, numbers out."""

from __future__ import annotations

from q_align.metrics.compute import compute_metrics
from q_align.metrics.correlation import krcc, plcc, rmse, srcc, within_content_srcc
from q_align.metrics.logistic import LogisticFit, fit_logistic
from q_align.metrics.significance import compare_scores, holm, steiger, williams

__all__ = [
    "LogisticFit",
    "compare_scores",
    "fit_logistic",
    "holm",
    "krcc",
    "plcc",
    "rmse",
    "srcc",
    "steiger",
    "compute_metrics",
    "williams",
    "within_content_srcc",
]
