"""The report: what evaluations and training runs wrote -> one self-contained page, with its tables as Markdown and CSV.

Reads result folders only: no model is loaded, nothing is scored, nothing is fetched.
"""

from q_align.evaluate.report.page import write_report

__all__ = ["write_report"]
