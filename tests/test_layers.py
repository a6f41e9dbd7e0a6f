"""Imports point strictly down the layers of docs/architecture.md, lazy imports included."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

NAME = re.compile(r"q_align(\.\w+)+")
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
    """The package or single module, of those in LAYERS, that a module (without "q_align.") belongs to."""
    name = module.split(".", maxsplit=1)[0]
    return name if name in LAYER else None


def imports(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, module) of every import of ours: at the top, in functions, for type checking, or named in a string."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            if base.startswith("."):
                found.append((node.lineno, base))
            elif base.split(".")[0] == "q_align":
                found += [(node.lineno, f"{base}.{alias.name}".removeprefix("q_align.")) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [
                (node.lineno, a.name.removeprefix("q_align.")) for a in node.names if a.name.startswith("q_align.")
            ]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value):
            name = node.value.removeprefix("q_align.")
            found += [(node.lineno, name)] if group(name) else []  # others are files and groups of entry points
    return found


def wrong_imports(module: str, tree: ast.AST) -> list[str]:
    here = group(module)
    assert here is not None, f"{module} belongs to no layer; add it to LAYERS and docs/architecture.md"
    wrong = []
    for line, target in imports(tree):
        there = group(target)
        if target == "__version__":
            continue
        if there is None:
            wrong.append(f"{module}:{line}: import {target} from the module that defines it")
        elif there != here and LAYER[there] >= LAYER[here]:
            wrong.append(f"{module}:{line}: {here} (layer {LAYER[here]}) imports {there} (layer {LAYER[there]})")
    return wrong


def test_imports_point_down() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if module not in ("__init__", "__main__"):
            wrong += wrong_imports(module, ast.parse(path.read_text(encoding="utf-8")))
    assert not wrong, "\n".join(wrong)


def test_layers_are_whole_packages() -> None:
    """Each package and each module beside them is in one layer, and nothing else is."""
    here = {
        p.name if p.is_dir() else p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    assert sorted(name for names in LAYERS for name in names) == sorted(here - {"__init__", "__main__"})


@pytest.mark.parametrize(
    "text",
    [
        "from q_align.score.scorer import Scorer",
        "import q_align.score",
        "from q_align import score",
        "from q_align import Scorer",
        "def f():\n    from q_align.score import scorer",
        "if TYPE_CHECKING:\n    from q_align.score.scorer import Scorer",
        "import_module('q_align.score.scorer')",
        "from . import score",
    ],
)
def test_every_way_to_import_upwards_is_found(text: str) -> None:
    assert wrong_imports("models.card", ast.parse(text))
    assert not wrong_imports("models.card", ast.parse("from q_align.errors import ConfigError"))
