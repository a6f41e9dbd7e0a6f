"""Scoring the items of several data sets with one model: each medium once, kept scores not again. Knows no measures."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q_align.data.labels import Labels
from q_align.evaluate.score_cache import ScoreCache, default_folder, fingerprint, medium_key
from q_align.log import log
from q_align.types import Item, Score

if TYPE_CHECKING:
    from q_align.models.card import ModelCard
    from q_align.score.scorer import Scorer


@dataclass(frozen=True, slots=True)
class Settings:
    """How to evaluate; the defaults are those of the command line (`q-align evaluate --help`)."""

    split: str | None = None
    labels_root: str | None = None
    mos_range: tuple[float, float] | None = None
    higher_is_better: bool | None = None
    task: str | None = None
    loading: Mapping[str, Any] = field(default_factory=dict)  # options of `Scorer.from_pretrained`
    cache: str | bool | None = None  # folder of kept scores; None: the user's cache folder; False: keep nothing
    resamples: int = 1000
    seed: int = 0


def taught_by(card: ModelCard) -> dict[str, dict[str, Any]]:
    """Source -> range and direction that the model was taught for it; the last training counts."""
    return {str(entry["source"]): entry for entry in card.trained_on if entry.get("source")}


def score_sets(
    scorer: Any, sets: Sequence[Labels], kept: ScoreCache
) -> tuple[list[list[dict[str, Any]]], dict[str, Any]]:
    """Scores of every set's items; each (medium, task) once."""
    asked = [list(zip(s.column("media").tolist(), s.column("task").tolist())) for s in sets]
    wanted = dict.fromkeys(pair for pairs in asked for pair in pairs)
    keys = {pair: medium_key(*pair) for pair in wanted}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for pair, key in keys.items():
        known = kept.get(key)
        if known is not None:
            found[pair] = known
    left = [pair for pair in wanted if pair not in found]
    if found:
        log.info("%d of %d scores were kept from an earlier run (%s)", len(found), len(wanted), kept.folder)
    began = time.perf_counter()
    try:
        for pair, score in zip(left, _stream(scorer, left), strict=True):
            row = {name: getattr(score, name) for name in Score.__slots__}  # asdict copies deeply: ten times slower
            found[pair] = row
            kept.add(keys[pair], row)
    finally:
        kept.flush()
    seconds = time.perf_counter() - began
    timing = {"scored": len(left), "kept": len(wanted) - len(left), "score_s": seconds}
    if left:
        timing["items_per_s"] = len(left) / max(seconds, 1e-9)
    return [[found[pair] for pair in pairs] for pairs in asked], timing


def _stream(scorer: Any, pairs: Sequence[tuple[str, str]]) -> Iterator[Any]:
    from tqdm import tqdm

    items = (Item(media, media, task) for media, task in pairs)
    return iter(tqdm(scorer.stream(items), total=len(pairs), unit="media", disable=None, file=sys.stderr))


def load_scorer(model: str, settings: Settings, load: Callable[..., Scorer] | None) -> Any:
    if load is None:
        from q_align.score.scorer import Scorer

        load = Scorer.from_pretrained
    return load(model, **settings.loading)


def open_cache(model: str, scorer: Any, settings: Settings) -> ScoreCache:
    if settings.cache is False:
        return ScoreCache(None, "", {})
    import q_align
    from q_align.models.backbone import locate

    folders = [locate(model)]
    if scorer.card.base and (folders[0] / "adapter_config.json").is_file():
        folders.append(locate(scorer.card.base))
    depends = {
        "q_align": q_align.__version__,
        "dtype": settings.loading.get("dtype", "float32"),
        "quantize": settings.loading.get("quantize"),
        "device": str(scorer.device).split(":")[0],
        "spec": str(scorer.spec),
        "card": str(scorer.card),
    }
    folder = Path(str(settings.cache)) if settings.cache not in (None, True) else default_folder()
    return ScoreCache(folder, fingerprint(folders), depends)
