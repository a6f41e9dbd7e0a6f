"""README.md of a model folder, the model card of the Hugging Face hub: made from q_align.json alone."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from q_align.models.card import BUILT_IN, ModelCard

PAGE = "README.md"
MARK = "<!-- written by q_align from q_align.json; a page without this line is never overwritten -->"
RATES = {
    "iqa": "the quality of images (IQA)",
    "iaa": "the aesthetics of images (IAA)",
    "vqa": "the quality of videos (VQA)",
}
TAGS = {
    "iqa": "image-quality-assessment",
    "iaa": "image-aesthetics-assessment",
    "vqa": "video-quality-assessment",
}
# Licences by the identifiers of the hub; any other one is "other" there.
LICENCES = {
    "llama 2": "llama2",  # first: cards name the licence of the authors' programs, too
    "apache-2.0": "apache-2.0",
    "mit": "mit",
    "cc-by-4.0": "cc-by-4.0",
    "cc-by-nc-4.0": "cc-by-nc-4.0",
}
_CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def save_card(card: ModelCard, folder: str | Path) -> None:
    """Writes q_align.json and, before it, the page that describes it: the two always agree."""
    write_model_page(card, folder)
    card.save(folder)


def write_model_page(card: ModelCard, folder: str | Path) -> None:
    """Writes README.md, unless there is one that somebody wrote by hand."""
    path = Path(folder) / PAGE
    if not _is_replaceable(path):
        return
    fresh = path.with_name(f"{PAGE}.new")  # renamed: the page of a run is a hard link to that of its checkpoint
    fresh.write_text(model_page(card), encoding="utf-8")
    fresh.replace(path)


def model_page(card: ModelCard, *, repo: str | None = None) -> str:
    """The page of a model.

    Args:
        card: of the model.
        repo: hub id that it is published under; None: the lines of code name the folder.
    """
    name = repo or str(card.about.get("name") or "a q_align model")
    parts = [
        f"---\n{yaml.safe_dump(front_matter(card), sort_keys=False, allow_unicode=True)}---",
        MARK,
        f"# {name.rsplit('/', 1)[-1]}",
        _summary(card),
        _usage(card, repo or f"path/to/{name}"),
        "## How it answers\n\n" + _answers(card),
        _training(card),
        _validation(card),
        _calibration(card),
        "## Limits\n\n" + _bullets(_limits(card)),
        "## Licence\n\n" + _licence(card),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def front_matter(card: ModelCard) -> dict[str, Any]:
    """The metadata that the hub reads."""
    tasks = [task for task in card.tasks if task in TAGS]
    licence = str(card.about.get("licence", ""))
    known = next(
        (code for text, code in LICENCES.items() if re.search(rf"\b{re.escape(text)}\b", licence.lower())),
        "other" if licence else None,
    )
    base = base_id(card.base)
    record = {
        "library_name": "q_align",
        "pipeline_tag": "video-text-to-text" if tasks == ["vqa"] else "image-text-to-text",
        "base_model": base,
        "license": known,
        "tags": ["q-align", "mos", *(TAGS[task] for task in tasks)],
    }
    return {key: value for key, value in record.items() if value is not None}


def base_id(base: str | None) -> str | None:
    """The hub id of a base: itself, or of a copy in the hub's cache; None for another folder."""
    if base is None:
        return None
    cached = _CACHED.search(base)
    if cached:
        return f"{cached[1]}/{cached[2]}"
    return base if _HUB_ID.fullmatch(base) and not Path(base).is_dir() else None


def base_name(base: str | None) -> str | None:
    """What a base is called away from this machine: its hub id, or the last part of its folder."""
    return base_id(base) or (Path(base).name if base else None)


def stated_licence(folder: Path) -> str | None:
    """The licence that a model folder's README.md states in its metadata."""
    path = folder / PAGE
    if not path.is_file():
        return None
    found = re.match(r"---\n(.*?)\n---", path.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        record = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return None
    licence = record.get("license") if isinstance(record, dict) else None
    return None if licence in (None, "other", "unknown") else str(licence)


def _is_replaceable(path: Path) -> bool:
    """Nothing, a page of ours, or the empty template that the peft library writes beside adapters."""
    if not path.is_file():
        return True
    text = path.read_text(encoding="utf-8", errors="replace")
    return MARK in text or ("library_name: peft" in text and "[More Information Needed]" in text)


def _summary(card: ModelCard) -> str:
    low, high = card.levels.low, card.levels.high
    if not card.tasks:
        return "Not fine-tuned for rating: a base for training. Its scores are meaningless."
    rated = _listed([RATES.get(task, f"the task {task!r}") for task in card.tasks])
    base = base_name(card.base)
    return (
        f"Rates {rated} with a score from {low:g} to {high:g}; higher is better."
        + (f" Fine-tuned from {base} with q_align." if base and card.trained_on else "")
        + " The score predicts the mean opinion score (MOS) of human raters."
    )


def _usage(card: ModelCard, path: str) -> str:
    task = next((task for task in BUILT_IN if task in card.tasks), next(iter(card.tasks), "iqa"))
    file = "clip.mp4" if task == "vqa" else "photo.jpg"
    return (
        "```python\nfrom q_align import Scorer\n\n"
        f'scorer = Scorer.from_pretrained("{path}")\n'
        f'print(scorer.score("{file}", task="{task}").value)\n```'
    )


def _answers(card: ModelCard) -> str:
    pairs = ", ".join(f"{word} = {value:g}" for word, value in zip(card.levels.words, card.levels.values))
    kinds = {
        "levels": f"The score is the probability-weighted mean of the values of the level words: {pairs}.",
        "numbers": f"The model writes a number; the level names are {pairs}.",
        "head": f"A regression head reads the last hidden state; the level names are {pairs}.",
    }
    lines = [kinds.get(card.readout.kind, f"Readout {card.readout.kind}; levels {pairs}.")]
    for task in card.tasks:
        lines.append(f"- {task}: “{card.question(task)}” “{card.stem(task)} ...”")
    return lines[0] + ("\n\n" + "\n".join(lines[1:]) if lines[1:] else "")


def _training(card: ModelCard) -> str:
    if not card.trained_on:
        return ""
    rows = ["| data set | task | rows | MOS range | better |", "|---|---|---:|---|---|"]
    for entry in card.trained_on:
        ends = entry.get("mos_range")
        shown = f"{ends[0]:g} to {ends[1]:g}" if ends else "not recorded"
        better = "higher" if entry.get("higher_is_better", True) else "lower"
        rows.append(
            f"| {entry.get('source', '')} | {entry.get('task', '')} | {entry.get('rows', '')} | {shown} | {better} |"
        )
    return "## Training data\n\n" + "\n".join(rows) + _about_data(card)


def _about_data(card: ModelCard) -> str:
    """What the card says of its data besides their names."""
    data = str(card.about.get("data", ""))
    return f"\n\nData: {data}." if data and not data.startswith("trained with q_align") else ""


def _validation(card: ModelCard) -> str:
    found = {name: value for name, value in card.validation.items() if math.isfinite(value)}
    names = [name.removesuffix("srcc").rstrip("_") for name in found if name.endswith("srcc")]
    sets = [name for name in names if name]
    if not names:
        return "## Validation\n\nNot measured: the training had no validation rows." if card.trained_on else ""
    rows = ["| rows | SRCC | PLCC |", "|---|---:|---:|"]
    # of a single set, its own values are those of the whole
    for name in ["", *(sets if len(sets) > 1 else [])]:
        prefix = f"{name}_" if name else ""
        cells = [f"{found[prefix + key]:.4f}" if prefix + key in found else "–" for key in ("srcc", "plcc")]
        rows.append(f"| {name or ('mean of the sets' if len(sets) > 1 else 'all')} | {' | '.join(cells)} |")
    n, failed = int(found.get("n", 0)), int(found.get("failed", 0))
    count = f"{n} validation rows" + (f" ({failed} more could not be scored)" if failed else "") if n else "The rows"
    return (
        "## Validation\n\n"
        + "\n".join(rows)
        + f"\n\n{count}. They may have chosen the checkpoint, so they are no test."
    )


def _calibration(card: ModelCard) -> str:
    if not card.calibration:
        return ""
    lines = [
        f'- `scale="mos:{source}"`: {record.get("kind")}, fitted on split {record.get("split", "unknown")}'
        for source, record in card.calibration.items()
    ]
    return (
        "## Calibration\n\n`Scorer.from_pretrained(..., scale=...)` gives scores in a data set's own units:\n\n"
        + "\n".join(lines)
    )


def _limits(card: ModelCard) -> list[str]:
    media = card.media
    limits = [str(card.about["limits"])] if card.about.get("limits") else []
    if card.trained_on:
        sources = _listed(list(dict.fromkeys(f"`{entry.get('source')}`" for entry in card.trained_on)))
        limits.append(f"Trained on {sources}; agreement with raters on other kinds of data is unknown until measured.")
    missing = [task for task in BUILT_IN if task not in card.tasks]
    if card.tasks and missing:
        limits.append(f"Not trained for {_listed(missing)}.")
    if media.max_pixels:
        tiles = f", with up to {media.tiles} crops at native resolution" if media.tiles else ""
        limits.append(f"Images and frames are scaled down to {media.max_pixels} pixels{tiles}.")
    if "vqa" in card.tasks:
        limits.append(f"Of a video at most {media.max_frames} frames are read.")
    return [*limits, "Scores are predictions of a mean opinion; they say nothing about a single rater."]


def _licence(card: ModelCard) -> str:
    licence, base = card.about.get("licence"), base_name(card.base)
    origin = f"the base ({base})" if base else "the weights"
    return f"Licence of {origin}: {licence or 'not recorded; see its own page'}. Data sets have their own terms."


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
