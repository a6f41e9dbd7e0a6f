"""The scoring engine: load -> encode -> batch -> model -> results in the order of the inputs, in bounded memory.

Loading and encoding run in threads (Pillow, decord and torch release the interpreter's lock while they work). On an
accelerator the model runs in the caller's thread; on a processor it runs in the workers too, one core for each, which
beats one batch spread over all cores. Inputs are taken in chunks; within a chunk, items of similar length share a
batch. `load` brings turns, `forward` takes a batch and gives one row per turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import torch

from q_align.log import log
from q_align.score.engine.batching import Batch, EncodingError, Forward, Loaded, Part, Rows, T, parts_of, store_rows
from q_align.score.engine.threads import worker_pool
from q_align.types import Turn

Submit = Callable[..., Future[Any]]


@dataclass(slots=True)
class Engine:
    """How the work is cut up.

    Attributes:
        encode: turns -> model inputs.
        forward: see `Forward`.
        batch_size: frames per forward pass (an image is one frame); a longer video passes alone.
        batch_pixels: a batch holds at most so many, or one item; 0: any number. A processor is fastest with what
            stays in its caches.
        batch_tokens: the same in tokens, padding included; needs `length`.
        length: turn -> about how many tokens it becomes, from the sizes of its frames alone.
        workers: threads that load and encode; 0 does all in the caller's thread.
        parallel: the workers run the model too.
        share: (turns, questions) -> model inputs of several questions about the same frames; `forward` then gives
            (B, n, R).
        window: inputs per chunk, and inputs loaded ahead; 0 means four batches, and two inputs per worker at least.
        max_pixels: of decoded frames that wait for the encoder (4 bytes each in Pillow), for a chunk and again for what
            is loaded ahead.
    """

    encode: Callable[[Sequence[Turn]], Batch]
    forward: Forward
    batch_size: int = 16
    batch_pixels: int = 0
    batch_tokens: int = 0
    length: Callable[[Turn], int] | None = None
    workers: int = 0
    parallel: bool = False
    share: Callable[[Sequence[Turn], Sequence[tuple[str, str]]], Batch] | None = None
    window: int = 0
    max_pixels: int = 2**27
    _largest: int = field(default=2**20, init=False)  # pixels of an input, as far as seen

    def run(self, items: Iterable[T], load: Callable[[T], Loaded[T]]) -> Iterator[Loaded[T]]:
        """Yields every input once, in order, with its rows or its error; nothing is dropped.

        Args:
            items: any number of them; pulled only as fast as results are taken.
            load: called in a worker thread; an exception in it becomes the input's `error`.
        """
        if self.workers == 0:
            yield from self._pump(items, load, _inline)
            return
        pool = worker_pool(self.workers, one_core_each=self.parallel)
        try:
            yield from self._pump(items, load, pool.submit)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _pump(self, items: Iterable[T], load: Callable[[T], Loaded[T]], submit: Submit) -> Iterator[Loaded[T]]:
        order: deque[Loaded[T]] = deque()
        running: tuple[list[Part], Rows] | None = None
        for parts, work in self._ahead(self._batches(self._loaded(items, load, submit), order), submit):
            for started in self._start(parts, work.result):
                if running:  # the device works on the batch just started while this one's rows are taken
                    store_rows(*running)
                running = started
            while order and order[0].done:
                yield order.popleft()
        if running:
            store_rows(*running)
        yield from order

    def _room(self) -> int:
        """Inputs per chunk: fewer when they are large."""
        window = self.window or max(4 * self.batch_size, 2 * self.workers)
        return max(1, min(window, self.max_pixels // self._largest))

    def _loaded(self, items: Iterable[T], load: Callable[[T], Loaded[T]], submit: Submit) -> Iterator[Loaded[T]]:
        """Loads ahead, hands out in order."""
        source = iter(items)
        waiting: deque[Future[Loaded[T]]] = deque()
        while True:
            ahead = self._room() if self.workers else 1
            waiting.extend(submit(self._load, load, item) for item in islice(source, max(0, ahead - len(waiting))))
            if not waiting:
                return
            loaded = waiting.popleft().result()
            # a slow decay: one huge input does not narrow the window for good
            self._largest = max(loaded.pixels, self._largest - self._largest // 64, 1)
            yield loaded

    def _load(self, load: Callable[[T], Loaded[T]], item: T) -> Loaded[T]:
        try:
            loaded = load(item)
            if self.length is not None:
                loaded.lengths = [self.length(turn) for turn in loaded.turns if turn is not None]
            return loaded
        except Exception as error:  # recorded in the input's row
            return Loaded(item, error=error)

    def _batches(self, loaded: Iterator[Loaded[T]], order: deque[Loaded[T]]) -> Iterator[list[Part]]:
        """Cuts chunks into batches of like size; notes the order of the inputs on the way."""
        chunk: list[Part] = []
        count = 0
        for one in loaded:
            order.append(one)
            count += 1
            if one.error is None:
                one.rows = [None] * len(one.turns)
                chunk += parts_of(one, joint=self.share is not None)
            if count >= self._room():
                yield from self._cut(chunk)
                chunk, count = [], 0
        yield from self._cut(chunk)

    def _cut(self, chunk: list[Part]) -> Iterator[list[Part]]:
        batch: list[Part] = []
        frames = pixels = 0
        for part in sorted(chunk, key=lambda p: (p.questions, p.size)):
            tokens, weight, area, _ = part.size
            # parts come by rising length: this one is what the others would be padded to
            full = (
                frames + weight > self.batch_size
                or 0 < self.batch_pixels < pixels + area
                or 0 < self.batch_tokens < (len(batch) + 1) * tokens
            )
            if batch and (full or part.questions != batch[0].questions):
                yield batch
                batch, frames, pixels = [], 0, 0
            batch.append(part)
            frames += weight
            pixels += area
        if batch:
            yield batch
        elif not chunk:
            yield []  # a chunk of failures only: lets them out

    def _ahead(
        self, batches: Iterator[list[Part]], submit: Submit
    ) -> Iterator[tuple[list[Part], Future[Batch | Rows]]]:
        """Keeps a few batches under way before the one that is waited for."""
        depth = self.workers + 1 if self.parallel else min(self.workers, 4)
        waiting: deque[tuple[list[Part], Future[Batch | Rows]]] = deque()
        for parts in batches:
            waiting.append((parts, submit(self._prepare, parts)))
            if len(waiting) > depth:
                yield waiting.popleft()
        yield from waiting

    def _prepare(self, parts: list[Part]) -> Batch | Rows:
        """A worker's share of a batch: model inputs, or rows where the workers run the model."""
        if not parts:
            return {}
        try:
            turns = [part.turn for part in parts]
            questions = parts[0].questions
            inputs = self.share(turns, questions) if self.share and questions else self.encode(turns)
        except Exception as error:
            raise EncodingError from error
        return self.forward(inputs) if self.parallel else inputs

    def _start(self, parts: list[Part], made: Callable[[], Batch | Rows]) -> Iterator[tuple[list[Part], Rows]]:
        """Starts the model on a batch; one that fails is halved until the input at fault is alone."""
        if not parts:
            return
        fault: BaseException | None = None
        ready: Batch | Rows | None = None
        try:
            ready = made()
            rows = ready if callable(ready) else self.forward(ready)
        except EncodingError as error:
            fault = error.__cause__
        except torch.OutOfMemoryError as error:
            # the traceback holds the frames, and they the tensors of this attempt: the next one needs their memory
            fault = torch.OutOfMemoryError(str(error))
        if fault is not None:
            ready = None
            if isinstance(fault, torch.OutOfMemoryError):
                self._shrink(parts)
            yield from self._halve(parts, fault)
            return
        for part in parts:
            for number in part.numbers:
                part.owner.turns[number] = None  # frees the frames
        yield parts, rows

    def _shrink(self, parts: list[Part]) -> None:
        """Bounds the batches still to be cut by half of one that did not fit; those cut before change nothing."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(parts) == 1:
            return
        frames = max(1, sum(part.size[1] for part in parts) // 2)
        if frames < self.batch_size:
            self.batch_size = frames
            log.warning("out of memory with %d items; continuing with batches of %d frames", len(parts), frames)
        if self.batch_tokens:
            self.batch_tokens = max(1, min(self.batch_tokens, len(parts) * max(part.size[0] for part in parts) // 2))

    def _halve(self, parts: list[Part], error: BaseException | None) -> Iterator[tuple[list[Part], Rows]]:
        if len(parts) == 1:
            parts[0].owner.error = error
            return
        middle = len(parts) // 2
        for half in (parts[:middle], parts[middle:]):
            yield from self._start(half, partial(self._prepare, half))


def _inline(work: Callable[..., Any], *args: Any) -> Future[Any]:
    done: Future[Any] = Future()
    try:
        done.set_result(work(*args))
    except Exception as error:  # raised again by result()
        done.set_exception(error)
    return done
