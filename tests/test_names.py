"""One name, one meaning: modules, public functions and classes; the words of the field; files of one purpose."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "q_align"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 260  # as docs/architecture.md states

# names of modules that play one role in several packages, with that role
MODULE_ROLES = {
    "__init__": "the package itself",
    "base": "the record and the registry of a package's kinds (losses, readouts)",
    "encoder": "turns -> model inputs: the protocol in readout, one implementation per family",
    "configuration": "a family's configuration class, under transformers' name for it",
    "vision": "a family's vision encoder",
}
# names of functions that play one role in several modules, with that role
FUNCTION_ROLES = {
    "add_parser": ("cli", "adds a command's parser"),
    "run": ("cli", "runs a command; train.run.run is the run that `q-align train` starts"),
    "load": ("models", "a family's loader, which `Backbone` finds by its name"),
    "published": ("models", "a family's reader of published checkpoints, found by its name"),
    "opens": ("models", "how a family opens images and videos, found by its name"),
    "open_video": ("media", "the two video readers, of one signature"),
}
# words that the field has others for
OLD_WORDS = {
    "syllabus": "loss",
    "gone on with": "resumed",
    "goes on with": "resumes",
    "go on with": "resume",
    "in good order": "sorted",
    "told apart": "distinguished",
    "tell apart": "distinguish",
    "dear": "expensive",
    "dearer": "more expensive",
    "picture": "image",
    "pictures": "images",
}
# vocabulary of questions and generated sentences, which is data
WORD_LISTS = ("models/nano/tokenizer.py", "tasks.py", "data/questions.py")


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_no_file_is_longer_than_the_page_says() -> None:
    page = (PACKAGE.parent / "docs/architecture.md").read_text(encoding="utf-8")
    assert re.search(rf"\b{MAX_LINES}\b", page), "docs/architecture.md states another limit"
    counts = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: lines for name, lines in counts.items() if lines > MAX_LINES} == {}


def test_a_module_name_has_one_meaning() -> None:
    """Commands are named after the package that they front; otherwise a name occurs once or names a role."""
    places = defaultdict(list)
    for path in [*FILES, *(path.parent for path in FILES if path.name == "__init__.py" and path.parent != PACKAGE)]:
        if path.parent != PACKAGE / "cli" and path.parent.name != path.stem:
            places[path.stem].append(name_of(path))
    twice = {stem: found for stem, found in places.items() if len(found) > 1 and stem not in MODULE_ROLES}
    assert twice == {}
    assert {stem for stem in MODULE_ROLES if len(places[stem]) < 2} == set(), "roles that nothing needs"


def test_a_public_name_has_one_meaning() -> None:
    places = defaultdict(list)
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name_of(path))
    twice = {name: found for name, found in places.items() if len(found) > 1}
    for name, (package, _) in FUNCTION_ROLES.items():
        outside = [path for path in twice.pop(name, []) if not path.startswith(f"{package}/")]
        assert outside in ([], ["train/run.py"] if name == "run" else []), f"{name} in {outside}"
    assert twice == {}
    assert [name for name in FUNCTION_ROLES if name not in places] == [], "roles that nothing needs"


def test_the_words_are_those_of_the_field() -> None:
    pattern = re.compile(rf"(?<![^\W_])({'|'.join(map(re.escape, OLD_WORDS))})(?![^\W_])", re.IGNORECASE)
    found = []
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix not in (".py", ".yaml", ".html") or name_of(path) in WORD_LISTS:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for match in pattern.finditer(line):
                word = match[1].lower()
                found.append(f"{name_of(path)}:{number}: {word} (write: {OLD_WORDS[word]})")
    assert found == [], "\n".join(found)
