"""Measures of a scorer against opinions: arrays in, numbers out. Knows no files, models or data sets."""

from __future__ import annotations

from q_align.evaluate.metrics.correlation import krcc, plcc, rmse, srcc
from q_align.evaluate.metrics.logistic import LogisticFit, fit_logistic
from q_align.evaluate.metrics.significance import compare, holm, steiger, williams
from q_align.evaluate.metrics.summary import summary

__all__ = [
    "LogisticFit",
    "compare",
    "fit_logistic",
    "holm",
    "krcc",
    "plcc",
    "rmse",
    "srcc",
    "steiger",
    "summary",
    "williams",
]
