"""Mutation testing: changes one operator, constant or return at a time and reports the changes that no test notices.

    python scripts/mutate.py                      # all groups, 40 mutants of each, about an hour on one core
    python scripts/mutate.py levels losses --sample 0        # every mutant of two groups
    python scripts/mutate.py levels --again                  # only the recorded survivors, after new tests
    python scripts/mutate.py metrics --list                  # only print the mutants

The mutants live in a copy of the repository in a temporary folder. Heavy libraries are imported once; a process forked
for each mutant runs the fast tests of its file and stops at the first failure. Survivors are listed in docs/testing.md.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "scripts/bench/results/mutation.json"
COPIED = (
    "q_align",
    "tests",
    "data",
    "configs",
    "docs",
    "examples",
    "scripts",
    "setup.py",
    "pyproject.toml",
    "README.md",
)
TIMEOUT_FACTOR, TIMEOUT_MIN = 6.0, 60.0
# group -> (files, tests that mirror them); "{stem}" is the file's name
GROUPS: dict[str, tuple[str, list[str]]] = {
    "levels": ("q_align/levels.py", ["tests/test_levels.py"]),
    "losses": ("q_align/losses/*.py", ["tests/losses"]),
    "readout": ("q_align/readout/*.py", ["tests/readout", "tests/models/test_shared_prefix.py"]),
    "samplers": ("q_align/data/*sampler*.py", ["tests/data/test_sampler.py", "tests/data/test_mixture.py"]),
    "averaging": ("q_align/train/averaging*.py", ["tests/train/test_averaging.py"]),
    "calibration": ("q_align/evaluation/calibration.py", ["tests/evaluation/test_calibration.py"]),
    "scale": ("q_align/score/scale.py", ["tests/evaluation/test_calibration.py", "tests/cli/test_calibrate.py"]),
    "metrics": ("q_align/metrics/*.py", ["tests/metrics/test_metrics_{stem}.py"]),
}
SWAPS: dict[type, type] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And},
    **{
        ast.Add: ast.Sub,
        ast.Sub: ast.Add,
        ast.Mult: ast.Div,
        ast.Div: ast.Mult,
        ast.FloorDiv: ast.Div,
        ast.Mod: ast.Mult,
    },
    **{ast.Pow: ast.Mult, ast.MatMult: ast.Mult, ast.BitAnd: ast.BitOr},
}


def mutated(node: ast.AST) -> list[ast.AST]:
    """Every changed copy of one node; its children stay as they are."""
    node = copy.deepcopy(node)
    match node:
        case ast.Compare() if type(node.ops[0]) in SWAPS:
            node.ops[0] = SWAPS[type(node.ops[0])]()
        case ast.BinOp() | ast.BoolOp() | ast.AugAssign() if type(node.op) in SWAPS:
            node.op = SWAPS[type(node.op)]()
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            return [node.operand]
        case ast.Constant(value=bool()):
            node.value = not node.value
        case ast.Constant(value=int() | float()):
            node.value = node.value + 1 if isinstance(node.value, int) or abs(node.value) >= 0.1 else node.value * 100
        case ast.Return(value=ast.AST()) if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            node.value = ast.Constant(None)
        case _:
            return []
    return [node]


def places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Every child of the tree as (parent, field, index), without annotations and the words of messages."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_params") or isinstance(
            value, ast.JoinedStr | ast.Raise
        ):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr | ast.Raise):
                yield node, field, index
                yield from places(child)


def child_of(parent: ast.AST, field: str, index: int | None) -> ast.AST:
    value = getattr(parent, field)
    return value if index is None else value[index]


def mutants(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """("line:column", before, after, whole source) of each mutant of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for parent, field, index in list(places(tree)):
        old = child_of(parent, field, index)
        for new in mutated(old):
            replace(parent, field, index, new)
            source = ast.unparse(tree)
            replace(parent, field, index, old)
            yield (
                f"{getattr(old, 'lineno', 0)}:{getattr(old, 'col_offset', 0)}",
                ast.unparse(old),
                ast.unparse(new),
                source,
            )


def replace(parent: ast.AST, field: str, index: int | None, new: ast.AST) -> None:
    if index is None:
        setattr(parent, field, new)
    else:
        getattr(parent, field)[index] = new


def run_tests(tests: list[str], limit: float | None) -> tuple[str, float]:
    """Runs pytest in a forked process; ("killed" | "survived" | "timeout", seconds)."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        import pytest

        words = ["-x", "-q", "-p", "no:xdist", "-p", "no:faulthandler", "-m", "not slow", "--hypothesis-seed=0"]
        code = 1
        try:
            code = pytest.main([*words, "-o", "addopts=", "-p", "no:cacheprovider", *tests])
        finally:
            os._exit(int(code))
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        spent = time.monotonic() - start
        if done:
            return ("survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"), spent
        if limit and spent > limit:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "timeout", spent
        time.sleep(0.02)


def preload(tests: list[str]) -> None:
    """Imports every library that the tests import, but nothing of ours."""
    code = (
        "import sys, pytest; pytest.main(['-q', '-p', 'no:xdist', '-o', 'addopts=', '--collect-only', *sys.argv[1:]])\n"
        "print('\\nMODULES', *(m for m in sys.modules if sys.modules[m] is not None))"
    )
    text = subprocess.run([sys.executable, "-c", code, *tests], check=False, capture_output=True, text=True).stdout
    ours = {p.stem for p in Path("tests").rglob("*.py")} | {"q_align", "tests", "conftest", "__main__"}
    for name in text.split("\nMODULES ")[-1].split():
        if name.split(".")[0] not in ours and not name.startswith(("_pytest", "pytest", "xdist")):
            try:
                __import__(name)
            except Exception:  # modules that only exist while another is being imported
                continue


def tests_of(path: Path, names: list[str]) -> list[str]:
    """The test files of a group that exist."""
    found = [name.format(stem=path.stem) for name in names]
    return [name for name in found if Path(name).exists()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", default=[], help=f"of {', '.join(GROUPS)}; default: all")
    parser.add_argument("--sample", type=int, default=40, help="mutants of each group, drawn with --seed; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="only the survivors of the record, which is updated")
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    options = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, Path(folder, name), ignore=shutil.ignore_patterns("__pycache__"))
            elif (ROOT / name).exists():
                shutil.copy(ROOT / name, folder)
        os.chdir(folder)
        os.environ |= {
            "PYTHONPATH": folder,
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        sys.path.insert(0, folder)
        sys.dont_write_bytecode = True
        for group in options.groups or GROUPS:
            if options.again and not record.get(group, {}).get("survivors"):
                continue
            record[group] = run_group(group, options, record.get(group, {}) if options.again else None)
            if not options.list:
                RECORD.write_text(json.dumps(record, indent=1) + "\n")


def run_group(group: str, options: argparse.Namespace, before: dict | None = None) -> dict[str, object]:
    """Runs the mutants of a group, or again the survivors of the record `before`; the new record."""
    pattern, names = GROUPS[group]
    files = [p for p in sorted(Path().glob(pattern)) if tests_of(p, names)]
    found = [(path, *mutant) for path in files for mutant in mutants(path)]
    if before is not None:
        alive = {(one["file"], one["place"], one["old"], one["new"]) for one in before["survivors"]}
        found = [one for one in found if (str(one[0]), *one[1:4]) in alive]
    elif options.sample and len(found) > options.sample:
        found = sorted(
            random.Random(options.seed).sample(found, options.sample), key=lambda m: (m[0], int(m[1].split(":")[0]))
        )
    if options.list:
        print(*(f"{path}:{place}: {old} -> {new}" for path, place, old, new, _ in found), sep="\n")
        return {}
    preload([t for path in files for t in tests_of(path, names)])
    results: list[dict[str, object]] = []
    limits: dict[str, float] = {}
    for path, place, old, new, source in found:
        tests = tests_of(path, names)
        if (key := " ".join(tests)) not in limits:
            outcome, spent = run_tests(tests, None)
            if outcome != "survived":
                raise SystemExit(f"mutate: the tests fail without a mutation: {key}")
            limits[key] = max(TIMEOUT_MIN, TIMEOUT_FACTOR * spent)
        original = path.read_text(encoding="utf-8")
        path.write_text(source, encoding="utf-8")
        outcome, spent = run_tests(tests, limits[key])
        path.write_text(original, encoding="utf-8")
        results.append({"file": str(path), "place": place, "old": old, "new": new, "outcome": outcome})
        print(f"{outcome:9s} {spent:5.1f}s {path}:{place}: {old} -> {new}".replace("\n", " "), flush=True)
    alive = [r for r in results if r["outcome"] == "survived"]
    print(f"mutate: {group}: {len(results) - len(alive)} of {len(results)} killed", flush=True)
    if before is not None:
        return {"mutants": before["mutants"], "killed": before["mutants"] - len(alive), "survivors": alive}
    return {"mutants": len(results), "killed": len(results) - len(alive), "survivors": alive}


if __name__ == "__main__":
    main()
