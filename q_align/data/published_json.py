"""The label files that Q-Align's authors published, with their faults repaired or counted.

Records hold `conversations` of one question and one answer, `gt_score` or an id "name->mos".
Known faults: two questions joined in one string (a missing comma in the authors' list), answers that are no level word,
records without a score, and one placeholder per frame in the question.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from q_align.data.table_files import from_records

# One placeholder per image or frame; text after the first run of them is a second question.
PLACEHOLDERS = re.compile(r"(?:\s*<\|image\|>)+")


def is_published(columns: Sequence[str]) -> bool:
    return "gt_score" in columns or "conversations" in columns


def from_published(table: pa.Table) -> tuple[pa.Table, dict[str, Any]]:
    """Published records -> a table of media, mos, id, question, level, and what was repaired.

    Args:
        table: the file as read.

    Returns:
        The usable rows (`level`: the file's own answer, null where it has none), and a report with the counts
        `repaired` and `without_score`, and the names behind the latter.
    """
    rows, lost, repaired = [], [], 0
    for record in table.to_pylist():
        name = record.get("image") or record.get("img_path") or record.get("video")
        ident, _, tail = str(record.get("id") or "").rpartition("->")
        mos = _number(record.get("gt_score"))
        mos = _number(tail) if mos is None else mos
        question, level, joined = None, None, False
        if record.get("conversations"):
            question, joined = one_question(record["conversations"][0]["value"])
            level = answer_level(record["conversations"][-1]["value"])
        if mos is None or not name:
            lost.append(str(name))
            continue
        repaired += joined
        row = {"media": name, "mos": mos, "id": ident or name, "question": question, "level": level}
        if joined:
            row["repair"] = "two questions in one string"
        rows.append(row)
    return from_records(rows), {"repaired": repaired, "without_score": len(lost), "without_score_rows": lost}


def one_question(text: str) -> tuple[str, bool]:
    """The first question of a published turn, without placeholders, and whether a second one was joined to it."""
    questions = [part.strip() for part in PLACEHOLDERS.split(text) if part.strip()]
    return (questions[0] if questions else ""), len(questions) > 1


def answer_level(text: str) -> str:
    """ "The quality of the image is good." -> "good"; the whole answer where it has another form."""
    return text.strip().rstrip(".").rpartition(" is ")[2].strip().lower()


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
