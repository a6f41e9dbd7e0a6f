"""Imports point strictly down the layers of docs/architecture.md, lazy imports included."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "q_align"
LAYERS = [
    ["types", "errors", "log", "file_modes"],
    ["registry"],
    ["hub", "levels", "tasks"],
    ["config", "media", "losses", "metrics"],
    ["readout"],
    ["models"],
    ["data"],
    ["synthetic", "score"],
    ["train", "evaluation", "cluster"],
    ["report"],
    ["cli"],
]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}


def group(module: str) -> str | None:
    """The longest entry of LAYERS that a module (without "q_align.") belongs to."""
    parts = module.split(".")
    names = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((name for name in names if name in LAYER), None)


def imports(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("q_align."):
            base = node.module.removeprefix("q_align.")
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "q_align":
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(node.lineno, a.name.removeprefix("q_align.")) for a in node.names if "q_align." in a.name]
    return found


def test_imports_point_down() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if module in ("__init__", "__main__"):
            continue
        here = group(module)
        assert here is not None, f"{path} belongs to no layer; add it to LAYERS and docs/architecture.md"
        for line, target in imports(path):
            there = group(target)
            if there is not None and there != here and LAYER[there] >= LAYER[here]:
                wrong.append(f"{path}:{line}: {here} (layer {LAYER[here]}) imports {there} (layer {LAYER[there]})")
    assert not wrong, "\n".join(wrong)
