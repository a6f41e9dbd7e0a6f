"""Scores the items of several test sets with one model: each item once, cached scores not again."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from q_align.data.labels import Labels
from q_align.data.questions import in_pool, question_kind
from q_align.evaluation.score_cache import ScoreCache, item_key, model_fingerprint, score_cache_folder
from q_align.evaluation.settings import EvaluationSettings
from q_align.log import log
from q_align.types import Item, Score

if TYPE_CHECKING:
    from q_align.score.scorer import Scorer

# What decodes, scales and computes: another version may give another score.
VERSIONS = ("torch", "transformers", "tokenizers", "numpy", "pillow", "decord", "av", "peft", "bitsandbytes", "torchao")


class Request(NamedTuple):
    """What a score depends on besides model and settings; `question` is None for the model's own."""

    media: str
    task: str
    question: str | None


def requests_of(labels: Labels) -> list[Request]:
    """One request per row; a question is asked as the labels have it, unless it only paraphrases the task's own."""
    names, tasks = labels.column("media").tolist(), labels.column("task").tolist()
    found = question_kind(labels)
    if found.kind == "items":
        questions = [question or None for question in labels.column("question").tolist()]
    else:
        own = {task: text for task, text in found.of_task.items() if not in_pool(task, [text])}
        questions = [own.get(task) for task in tasks]
    return [Request(*row) for row in zip(names, tasks, questions)]


def score_sets(
    scorer: Any, sets: Sequence[Labels], cache: ScoreCache
) -> tuple[list[list[dict[str, Any]]], dict[str, Any]]:
    """Scores of every set's items; each request once."""
    asked = [requests_of(labels) for labels in sets]
    wanted = dict.fromkeys(request for requests in asked for request in requests)
    keys = {request: item_key(*request) for request in wanted}
    found: dict[Request, dict[str, Any]] = {}
    for request, key in keys.items():
        known = cache.get(key)
        if known is not None:
            found[request] = known
    remaining = [request for request in wanted if request not in found]
    if found:
        log.info("%d of %d scores loaded from the cache (%s)", len(found), len(wanted), cache.folder)
    began = time.perf_counter()
    try:
        for request, score in zip(remaining, _stream(scorer, remaining), strict=True):
            row = {name: getattr(score, name) for name in Score.__slots__}  # asdict copies deeply: ten times slower
            found[request] = row
            cache.add(keys[request], row)
    finally:
        cache.flush()
    seconds = time.perf_counter() - began
    timing = {"scored": len(remaining), "cached": len(wanted) - len(remaining), "score_s": seconds}
    if remaining:
        timing["items_per_s"] = len(remaining) / max(seconds, 1e-9)
    return [[found[request] for request in requests] for requests in asked], timing


def open_cache(model: Any, scorer: Scorer, settings: EvaluationSettings) -> ScoreCache:
    """The cache for one model; without a folder where caching is off, or the model is not the files of a folder."""
    from q_align.score.model_digest import model_folders

    if settings.cache is False or not isinstance(model, (str, Path)):
        return ScoreCache(None, "", {})
    folder = Path(str(settings.cache)) if settings.cache not in (None, True) else score_cache_folder()
    return ScoreCache(folder, model_fingerprint(model_folders(model, scorer.card)), score_settings(scorer, settings))


def score_settings(scorer: Any, settings: EvaluationSettings) -> dict[str, Any]:
    """Everything but model files and item that a score depends on: the settings under which cached scores hold."""
    import q_align

    config = getattr(getattr(scorer, "model", None), "config", None)
    versions = {"q_align": q_align.__version__}
    for name in VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an optional part that is not installed
    given = {name: settings.loading.get(name) for name in ("dtype", "quantize", "attn", "compile", "device_map")}
    return {
        **given,
        "weights": str(getattr(scorer, "dtype", None)),
        "attention": getattr(config, "_attn_implementation", None),
        "device": device_name(scorer),
        "spec": str(scorer.spec),
        "limits": str(getattr(scorer, "limits", None)),
        "card": str(scorer.card),
        "versions": versions,
    }


def device_name(scorer: Any) -> str:
    """Kind and name of the device: "cpu (Xeon ...)", "cuda (NVIDIA H100 80GB HBM3)"."""
    device = str(getattr(scorer, "device", "cpu"))
    kind = device.partition(":")[0]
    if kind == "cuda":
        import torch

        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{kind} ({_processor()})"


def _processor() -> str:
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def _stream(scorer: Any, requests: Sequence[Request]) -> Iterator[Any]:
    from tqdm import tqdm

    items = (Item(r.media, r.media, r.task, r.question) for r in requests)
    return iter(tqdm(scorer.stream(items), total=len(requests), unit="item", disable=None, file=sys.stderr))
