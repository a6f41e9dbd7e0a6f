"""The report: one self-contained page from the results of evaluations and training runs, with tables and figures.

Only result folders are read: no model is loaded, nothing is scored or downloaded.
"""

from q_align.report.page import write_report

__all__ = ["write_report"]
