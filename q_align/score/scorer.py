"""The public face of scoring: media in, scores out. Everything that scores goes through `Scorer.stream`.

Knows how a score is made of level log-probabilities (Q-Align, section 3.4); no tables of results, no command line.
"""

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
from q_align.models.backbone import PACKAGED, Backbone, locate
from q_align.models.device import check_precision, cores, find_device, resolve_dtype, warn_of_emulation
from q_align.models.families import to_open
from q_align.models.numeric import ANSWERS, NUMBERS, NumberEncoder
from q_align.models.quantize import warm_up_quantized_layers
from q_align.score.engine import Engine, Loaded
from q_align.score.forward import Forward, bounds
from q_align.score.result import to_score
from q_align.tasks import get_task
from q_align.types import Item, Media, MediaSpec, Score, Turn

AUTO = "auto"
_said: set[str] = set()  # what is worth saying once per process


class Scorer:
    """Rates images and videos with one model.

    Args:
        backbone: model, encoder and card.
        device: "cuda", "mps", "cpu" ...; None takes the best one that is there.
        batch_size: frames per forward pass; scores do not depend on it. None: 16, and on a processor up to 8, as long
            as they are small: each worker runs the model there, and larger batches only fall out of its cache.
        batch_tokens: tokens per forward pass, padding included, for models whose sequences follow the size of their
            media; a longer sequence passes alone. 0: any number; None: a bound where batch_size is None too.
        workers: threads that decode and encode; None: one per processor core, at most 16; 0: none.
        spec: how media are looked at; None repeats what the model was trained with.
        limits: what is refused (see `q_align.media.Limits`).
        compile: run the model through `torch.compile`; for long runs with media of one size on a GPU;
            on a processor it is left out, with a warning.
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
        compile: bool = False,
    ) -> None:
        if workers is not None and workers < 0:
            raise ConfigError(f"workers must be 0 or more, got {workers}")
        self.backbone = backbone
        self.card = backbone.card
        self.encoder: Any = backbone.encoder
        self.numbers = self.card.about.get(ANSWERS) == NUMBERS
        if self.numbers:
            self.encoder = NumberEncoder(backbone.encoder, self.card.levels)
        self.workers = min(16, cores()) if workers is None else workers
        self.spec = spec or to_open(backbone.card.family, backbone.card.media)
        self.limits = limits
        self.model: Any = backbone.model.eval()
        if getattr(self.model, "hf_device_map", None) is None:  # spread over devices already
            self.model = self.model.to(find_device(device))
        self.device = next(self.model.parameters()).device
        warm_up_quantized_layers(self.model)
        self.length = getattr(backbone.encoder, "length", None)
        self.bounds = bounds(self.device, self.length, batch_size, batch_tokens, answers=self._answers())
        self.dtype = next((p.dtype for p in self.model.parameters() if p.is_floating_point()), torch.float32)
        warn_of_emulation(self.device, str(self.dtype).removeprefix("torch."), "dtype")
        if compile and self.device.type == "cpu":
            log.warning("compile: left out on a processor, where it takes minutes and gains next to nothing")
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
            path: a model folder, or "nano" for the embedded one.
            device: see `Scorer`.
            dtype: "float32", "bfloat16", "float16" or "auto" (`q_align.models.device.resolve_dtype`); the softmax is
                float32 in any case.
            batch_size: see `Scorer`.
            workers: see `Scorer`.
            options: `batch_tokens`, `spec`, `limits`, `compile` for `Scorer`; others (`attn`, `device_map`, `quantize`)
                for the loader.

        Raises:
            CheckpointError: when it cannot be loaded.
        """
        locate(path)  # a model that is not there is the first thing to report
        dtype = resolve_dtype(dtype, device, "float32" if str(path) in PACKAGED else None)
        check_precision(options.get("attn"), dtype, "dtype")
        own = {name: options.pop(name) for name in ("batch_tokens", "spec", "limits", "compile") if name in options}
        spread = options.get("device_map") is not None
        if options.get("quantize") and not spread and (device := find_device(device)).type == "cuda":
            options["device_map"] = {"": str(device)}  # else every process would quantise on the first GPU
        backbone = Backbone.from_pretrained(path, dtype=dtype, only_score=True, **options)
        if str(path) in PACKAGED:
            _once(log.info, f"{path} is the embedded model: its scores are a demonstration, not a measurement")
        if spread and device is None:
            device = next(backbone.model.parameters()).device  # where the map has put it
        return cls(backbone, device=device, batch_size=batch_size, workers=workers, **own)

    def _answers(self) -> int:
        """Sequences that one question about one medium becomes."""
        return len(self.encoder.numbers) if self.numbers else 1

    def score(self, media: Media, task: str = "iqa") -> Score:
        """Rates one medium.

        Raises:
            ConfigError: for an unknown task.
            MediaError: when it cannot be read.
        """
        if task != AUTO:
            get_task(task)
        return next(self._stream([media], task, "raise", workers=0))

    def stream(
        self,
        items: Iterable[Media | Item],
        task: str | Sequence[str] | None = None,
        on_error: str = "row",
        *,
        per_frame: bool = False,
    ) -> Iterator[Score]:
        """Rates any number of media, in their order, in bounded memory.

        Args:
            items: media, or `Item`s that carry an id and perhaps a task of their own.
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
            raise ConfigError(f"stream takes a list of media, got one {type(items).__name__}; use score for one medium")
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
        encoder = self.encoder
        engine = Engine(
            encoder,
            Forward(self.model, encoder, self.device, self.dtype, self.card.levels if self.numbers else None),
            batch_size=self.bounds.frames,
            batch_pixels=self.bounds.pixels,
            batch_tokens=self.bounds.tokens,
            length=self.length,
            workers=workers,
            parallel=self.device.type == "cpu",
            # several tasks of one medium: its frames are looked at once
            share=encoder.share if getattr(encoder, "shares", False) else None,
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
        """Opens a medium once, and asks about it once per task; runs in a worker thread."""
        item, tasks = asked
        media = read_once(item.media, self.limits)
        video = is_video(media)
        names = [("vqa" if video else "iqa") if name == AUTO else name for name in tasks]
        for name in names:
            get_task(name)
            if name not in self.card.tasks:
                _once(log.warning, f"this model was trained for {', '.join(self.card.tasks)}, not for {name}")
        frames, warning = open_frames(media, self.spec, video=video, limits=self.limits)
        views = [frames, *([frame] for frame in frames if video and per_frame)]
        turns: list[Turn | None] = [
            Turn(view, self.card.question(name), self.card.stem(name), video=video) for view in views for name in names
        ]
        return Loaded(asked, turns, warning=warning, note=names)

    def _scores(self, loaded: Loaded[tuple[Item, tuple[str, ...]]]) -> Iterator[Score]:
        item, tasks = loaded.item
        if loaded.error is not None:
            for name in loaded.note or tasks:
                yield Score(item.id, error=one_line(loaded.error), task=None if name == AUTO else name)
            return
        made = [to_score(item.id, row, self.card.levels) for row in loaded.rows if row is not None]
        for number, name in enumerate(loaded.note):
            # rows come view by view, the whole video first; each view has one per task
            score, *frames = made[number :: len(loaded.note)]
            score.task, score.warning = name, loaded.warning
            if frames:
                score.frames = tuple(frame.value for frame in frames)
            yield score


def _names(task: str | Sequence[str] | None) -> tuple[str, ...]:
    return (AUTO,) if task is None else (task,) if isinstance(task, str) else tuple(task)


def _item(media: Any, number: int, task: str | Sequence[str] | None) -> tuple[Item, tuple[str, ...]]:
    if not isinstance(media, Item):
        named = isinstance(media, (str, os.PathLike))
        media = Item(os.fspath(media) if named else str(number), media)
    return media, (media.task,) if media.task else _names(task)


def _once(say: Callable[[str], None], message: str) -> None:
    if message not in _said:
        _said.add(message)
        say(message)
