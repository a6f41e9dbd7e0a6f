"""The public face of scoring: images and videos in, scores out. Everything that scores goes through `Scorer.stream`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from q_align.errors import ConfigError, MediaError
from q_align.log import log
from q_align.media import LIMITS, Limits, is_video, open_frames
from q_align.media.image import one_line
from q_align.media.source import read_once
from q_align.models.backbone import PACKAGED, Backbone, read_card
from q_align.models.device import check_precision, cores, find_device, resolve_dtype, warn_of_emulation
from q_align.models.prompting import build_turn
from q_align.models.quantize import warm_up_quantized_layers
from q_align.score.engine import Engine, Loaded
from q_align.score.forward import Forward, bounds
from q_align.score.pooling import MODEL, check_pooling, pool_frames
from q_align.score.scale import LEVEL, find_scale
from q_align.tasks import get_task
from q_align.types import Item, Media, MediaSpec, Score, Turn

AUTO = "auto"
OWN = ("batch_tokens", "spec", "limits", "compile", "scale")  # options of `Scorer` that its loader takes too
_logged: set[str] = set()  # messages that are logged once per process


class Scorer:
    """Scores images and videos with one model.

    Args:
        backbone: model, encoder, card and readout.
        device: "cuda", "mps", "cpu" ...; None takes the best one that is there.
        batch_size: frames per forward pass; scores do not depend on it. None: 16, and on a CPU up to 8, as long as they
            are small: each worker runs the model there, and larger batches only fall out of its cache.
        batch_tokens: tokens per forward pass, padding included, for models whose sequences grow with the size of the
            image; a longer sequence runs alone. 0: no limit; None: a limit where batch_size is None too.
        workers: threads that decode and encode; None: one per CPU core, at most 16; 0: none.
        spec: how images and videos are opened; None repeats what the model was trained with.
        limits: what is refused (see `q_align.media.Limits`).
        scale: of the scores: "level" (1..5 for the default levels), "unit" (0..1), "percent" (0..100), or "mos:SOURCE",
            the own MOS of a data set that the model was calibrated for or trained on (docs/scales.md).
        compile: run the model through `torch.compile`; for long runs with images of one size on a GPU; ignored on a
            CPU, with a warning.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        device: str | torch.device | None = None,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        workers: int | None = None,
        spec: MediaSpec | None = None,
        limits: Limits = LIMITS,
        scale: str = LEVEL,
        compile: bool = False,
    ) -> None:
        if workers is not None and workers < 0:
            raise ConfigError(f"workers must be 0 or more, got {workers}")
        self.backbone = backbone
        self.card, self.encoder, self.readout = backbone.card, backbone.encoder, backbone.readout
        self.workers = min(16, cores()) if workers is None else workers
        self.spec = spec or self.encoder.opens
        check_pooling(self.spec.pool)
        self.limits = limits
        self.scale = find_scale(scale, self.card)
        self.model: Any = backbone.model.eval()
        if getattr(self.model, "hf_device_map", None) is None:  # spread over devices already
            self.model = self.model.to(find_device(device))
        self.device = next(self.model.parameters()).device
        warm_up_quantized_layers(self.model)
        self.length: Callable[[Turn], int] | None = getattr(self.encoder, "length", None)
        self.bounds = bounds(self.device, self.length, batch_size, batch_tokens)
        self.dtype = next((p.dtype for p in self.model.parameters() if p.is_floating_point()), torch.float32)
        warn_of_emulation(self.device, str(self.dtype).removeprefix("torch."), "dtype")
        if compile and self.device.type == "cpu":
            log.warning("compile: ignored on a CPU, where it takes minutes and gains next to nothing")
        elif compile:
            self.model = torch.compile(self.model, dynamic=True)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path = "nano",
        *,
        device: str | torch.device | None = None,
        dtype: str = "auto",
        batch_size: int | None = None,
        workers: int | None = None,
        **options: Any,
    ) -> Scorer:
        """Loads a checkpoint for scoring.

        Args:
            path: a model folder, a hub id ("q-future/one-align") or its short name, which are downloaded where they
                are not in the cache, or "nano" for the embedded model.
            device: see `Scorer`.
            dtype: "float32", "bfloat16", "float16" or "auto" (`q_align.models.device.resolve_dtype`); the softmax is
                float32 in any case.
            batch_size: see `Scorer`.
            workers: see `Scorer`.
            options: `batch_tokens`, `spec`, `limits`, `compile`, `scale` for `Scorer`; others (`attn`, `device_map`,
                `quantize`) for the loader.

        Raises:
            CheckpointError: when it cannot be loaded.
        """
        card = options.get("card") or read_card(path)  # a model that is not there is the first thing to report
        dtype = resolve_dtype(dtype, device, card.dtype)
        check_precision(options.get("attn"), dtype, "dtype")
        own = {
            name: options.pop(name)
            for name in ("batch_tokens", "spec", "limits", "compile", "scale")
            if name in options
        }
        spread = options.get("device_map") is not None
        if options.get("quantize") and not spread and (device := find_device(device)).type == "cuda":
            options["device_map"] = {"": str(device)}  # else every process would quantise on the first GPU
        backbone = Backbone.from_pretrained(path, dtype=dtype, only_score=True, **options)
        if str(path) in PACKAGED:
            _once(log.info, f"{path} is the embedded model: its scores are a demonstration, not a measurement")
        if spread and device is None:
            device = next(backbone.model.parameters()).device  # where the map has put it
        return cls(backbone, device=device, batch_size=batch_size, workers=workers, **own)

    def score(self, media: Media, task: str = "iqa", *, question: str | None = None) -> Score:
        """Scores one image or video.

        Args:
            media: a path, bytes, a PIL image, an (H, W, 3) uint8 array, or a list of the frames of one video.
            task: "iqa", "iaa", "vqa", or another task of the model; "auto": vqa for a video, iqa for an image.
            question: asked in place of the task's own.

        Raises:
            ConfigError: for an unknown task.
            MediaError: when it cannot be read.
        """
        if task != AUTO:
            get_task(task)
        item = _item(media, 0, task)[0]
        return next(self._stream([item._replace(question=question)], task, "raise", workers=0))

    def stream(
        self,
        items: Iterable[Media | Item],
        task: str | Sequence[str] | None = None,
        on_error: str = "row",
        *,
        per_frame: bool = False,
    ) -> Iterator[Score]:
        """Scores any number of images and videos, in their order, in bounded memory.

        Args:
            items: images and videos, or `Item`s that carry an id and perhaps a task and a question of their own.
            task: "iqa", "iaa", "vqa"; several for one score each; None or "auto": vqa for a video, iqa for an image.
            per_frame: score each frame of a video by itself too (`Score.frames`).
            on_error: "row" yields a `Score` with `error`; "raise" stops at the first failure.

        Yields:
            One `Score` per item and task; a failure is one too.

        Raises:
            ConfigError: for an unknown task.
            MediaError: with on_error="raise".
        """
        if isinstance(items, (str, bytes, os.PathLike)):
            raise ConfigError(
                f"stream takes a list of items, got one {type(items).__name__}; use score for a single item"
            )
        if on_error not in ("row", "raise"):
            raise ConfigError(f"on_error must be 'row' or 'raise', got {on_error!r}")
        for name in _names(task):
            if name != AUTO:
                get_task(name)
        return self._stream(items, task, on_error, per_frame=per_frame, workers=self.workers)

    def _stream(
        self,
        items: Iterable[Any],
        task: str | Sequence[str] | None,
        on_error: str,
        *,
        per_frame: bool = False,
        workers: int,
    ) -> Iterator[Score]:
        engine = Engine(
            self.readout.encode,
            Forward(self.model, self.readout, self.device, self.dtype),
            batch_size=self.bounds.frames,
            batch_pixels=self.bounds.pixels,
            batch_tokens=self.bounds.tokens,
            length=self.length,
            workers=workers,
            parallel=self.device.type == "cpu",
            # several tasks of one item: its frames are encoded once
            share=self.readout.share if self.readout.shares else None,
        )
        named = (_item(media, number, task) for number, media in enumerate(items))
        for loaded in engine.run(named, partial(self._load, per_frame=per_frame)):
            for score in self._scores(loaded):
                if score.error is not None and on_error == "raise":
                    if isinstance(loaded.error, MediaError):
                        raise loaded.error
                    raise MediaError(f"{score.id}: {score.error}") from loaded.error
                yield score

    def _load(self, asked: tuple[Item, tuple[str, ...]], *, per_frame: bool) -> Loaded[tuple[Item, tuple[str, ...]]]:
        """Opens an item once, and asks about it once per task; runs in a worker thread."""
        item, tasks = asked
        media = read_once(item.media, self.limits)
        video = is_video(media)
        names = [("vqa" if video else "iqa") if name == AUTO else name for name in tasks]
        for name in names:
            get_task(name)
            if not self.card.tasks:
                _once(log.warning, "this model has not been fine-tuned for rating; its scores are meaningless")
            elif name not in self.card.tasks:
                _once(log.warning, f"this model was trained for {', '.join(self.card.tasks)}, not for {name}")
        frames, warning = open_frames(media, self.spec, video=video, limits=self.limits)
        views = [frames] if not video or self.spec.pool == MODEL else []
        views += [[frame] for frame in frames if video and (per_frame or self.spec.pool != MODEL)]
        turns: list[Turn | None] = [
            build_turn(self.card, name, view, question=item.question, video=video) for view in views for name in names
        ]
        return Loaded(asked, turns, warning=warning, note=(names, video and self.spec.pool != MODEL, per_frame))

    def _scores(self, loaded: Loaded[tuple[Item, tuple[str, ...]]]) -> Iterator[Score]:
        item, tasks = loaded.item
        if loaded.error is not None:
            for name in loaded.note[0] if loaded.note else tasks:
                yield Score(item.id, error=one_line(loaded.error), task=None if name == AUTO else name)
            return
        names, pooled, per_frame = loaded.note
        made = [self.readout.to_score(item.id, row) for row in loaded.rows if row is not None]
        for number, name in enumerate(names):
            # rows come view by view, the whole video first; each view has one per task
            mine = made[number :: len(names)]
            frames = mine if pooled else mine[1:]
            score = pool_frames(mine, self.spec.pool, self.card.levels) if pooled else mine[0]
            score.task, score.warning = name, loaded.warning
            if frames and per_frame:
                score.frames = tuple(frame.value for frame in frames)
            yield self.scale.score(score)


def _names(task: str | Sequence[str] | None) -> tuple[str, ...]:
    return (AUTO,) if task is None else (task,) if isinstance(task, str) else tuple(task)


def _item(media: Any, number: int, task: str | Sequence[str] | None) -> tuple[Item, tuple[str, ...]]:
    if not isinstance(media, Item):
        named = isinstance(media, (str, os.PathLike))
        media = Item(os.fspath(media) if named else str(number), media)
    return media, (media.task,) if media.task else _names(task)


def _once(say: Callable[[str], None], message: str) -> None:
    if message not in _logged:
        _logged.add(message)
        say(message)
