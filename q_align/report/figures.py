"""Writes the charts of a report as self-contained SVG files with the page's light colours."""

from __future__ import annotations

import re
from pathlib import Path

from markupsafe import Markup

_VARIABLE = re.compile(r"--([\w]+):\s*([^;]+);")


def write_figures(charts: list[tuple[str, Markup]], style: str, folder: Path) -> list[Path]:
    """One file for each (name, drawing).

    Args:
        charts: names become file names.
        style: the page's style sheet; its rules for drawings travel in each file.
        folder: of the files.
    """
    rules = figure_style(style)
    written = []
    for name, svg in charts:
        path = folder / f"{re.sub('[^a-zA-Z0-9]+', '-', name).strip('-').lower()}.svg"
        head, sign, rest = str(svg).partition(">")
        path.write_text(f"{head}{sign}<style>{rules}</style>{rest}\n", encoding="utf-8")
        written.append(path)
    return written


def figure_style(style: str) -> str:
    """The rules for classes of drawings, with the light colours in place of the variables."""
    light = style[style.index(":root {") : style.index("}", style.index(":root {"))]
    colours = dict(_VARIABLE.findall(light))
    rules = style[style.index(".t {") : style.index("@media (max-width")]  # the part for drawings
    filled = re.sub(r"var\(--(\w+)\)", lambda match: colours[match.group(1)], rules)
    return f"text {{ font-family: sans-serif; }}\n{filled.strip()}"
