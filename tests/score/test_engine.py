"""Order, bounded memory and isolation of failures, whatever the workers and the batches."""

from __future__ import annotations

import random
import threading
import time
import weakref
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from q_align.score.engine import Engine, Loaded
from q_align.types import Turn


def size_turn(width: int, frames: int = 1) -> Turn:
    return Turn([Image.new("RGB", (width, 4))] * frames, "?", "is")


def encode(turns: Sequence[Turn]) -> dict[str, Tensor]:
    """Widths as inputs; width 13 cannot be encoded."""
    if any(t.frames[0].width == 13 for t in turns):
        raise ValueError("unlucky")
    return {"x": torch.tensor([[float(t.frames[0].width), len(t.frames)] for t in turns])}


def engine(**settings: object) -> Engine:
    return Engine(encode, lambda batch: lambda: batch["x"], **settings)  # type: ignore[arg-type]


def load(item: int) -> Loaded[int]:
    if item % 7 == 3:
        raise OSError(f"broken {item}")
    time.sleep(random.random() / 500)  # finishes in any order
    return Loaded(item, [size_turn(10 + item % 5, frames=1 + item % 3)])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 70), st.integers(1, 9), st.sampled_from([0, 1, 4]), st.booleans(), st.integers(0, 12))
def test_every_input_once_in_order(count: int, batch_size: int, workers: int, parallel: bool, window: int) -> None:
    made = engine(batch_size=batch_size, workers=workers, parallel=parallel, window=window)
    out = list(made.run(range(count), load))
    assert [one.item for one in out] == list(range(count))
    for one in out:
        if one.item % 7 == 3:
            assert isinstance(one.error, OSError)
        elif one.item % 5 == 3:
            assert isinstance(one.error, ValueError) and str(one.error) == "unlucky"
        else:
            assert one.error is None
            assert one.rows[0].tolist() == [10 + one.item % 5, 1 + one.item % 3]  # type: ignore[union-attr]


@pytest.mark.parametrize("workers", [0, 3])
def test_inputs_are_pulled_as_results_are_taken(workers: int) -> None:
    pulled = []

    def items() -> object:
        for i in range(10_000):
            pulled.append(i)
            yield i

    results = engine(batch_size=4, workers=workers, window=8).run(items(), load)  # type: ignore[arg-type]
    for _ in range(20):
        next(results)
    assert len(pulled) < 20 + 5 * 8
    before = threading.active_count()
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() <= before, "workers end with the stream"


def test_large_inputs_narrow_the_window() -> None:
    held = peak = 0
    lock = threading.Lock()

    def big(item: int) -> Loaded[int]:
        nonlocal held, peak
        with lock:
            held += 1
            peak = max(peak, held)
        return Loaded(item, [size_turn(1000)])

    for one in engine(batch_size=16, workers=4, window=64, max_pixels=8 * 4000).run(range(300), big):
        with lock:
            held -= 1
        if one.item == 64:
            peak = 0
    assert peak <= 3 * 8 + 16


def test_batches_hold_frames_not_inputs() -> None:
    seen = []

    def forward(batch: dict[str, Tensor]) -> object:
        seen.append(int(batch["x"][:, 1].sum()))
        return lambda: batch["x"]

    made = engine(batch_size=8)
    made.forward = forward  # type: ignore[assignment]
    list(made.run(range(40), lambda i: Loaded(i, [size_turn(20, frames=1 + i % 12)])))
    assert all(frames <= 8 for frames in seen if frames not in range(9, 13)) and max(seen) == 12


def test_batches_hold_so_many_pixels() -> None:
    seen = []

    def forward(batch: dict[str, Tensor]) -> object:
        seen.append(batch["x"][:, 0].tolist())
        return lambda: batch["x"]

    made = engine(batch_size=8, batch_pixels=400, window=40)
    made.forward = forward  # type: ignore[assignment]
    out = list(made.run(range(40), lambda i: Loaded(i, [size_turn(20 if i % 2 else 200)])))
    assert [one.item for one in out] == list(range(40))
    assert {len(widths) for widths in seen if widths[0] == 20} == {5}, "five of 20 x 4 pixels"
    assert {len(widths) for widths in seen if widths[0] == 200} == {1}, "one is more than the bound, and passes alone"


def test_out_of_memory_halves_the_batch() -> None:
    def forward(batch: dict[str, Tensor]) -> object:
        if len(batch["x"]) > 3 or 21.0 in batch["x"]:
            raise torch.OutOfMemoryError("too much")
        return lambda: batch["x"]

    made = engine(batch_size=16)
    made.forward = forward  # type: ignore[assignment]
    out = list(made.run(range(40), lambda i: Loaded(i, [size_turn(21 if i == 5 else 20)])))
    assert [one.item for one in out] == list(range(40))
    assert [one.item for one in out if one.error] == [5]
    assert made.batch_size < 16


@pytest.mark.parametrize("workers", [0, 4])
def test_memory_that_was_too_little_is_free_before_the_next_try(workers: int) -> None:
    alive: weakref.WeakSet[object] = weakref.WeakSet()
    sizes: list[int] = []
    kept: list[int] = []

    class Tensors:
        pass

    def forward(batch: dict[str, Tensor]) -> object:
        kept.append(len(alive))
        mine = Tensors()
        alive.add(mine)
        sizes.append(len(batch["x"]))
        if len(batch["x"]) > 12:
            raise torch.OutOfMemoryError("too much")
        return lambda: batch["x"]

    made = engine(batch_size=16, workers=workers)
    made.forward = forward  # type: ignore[assignment]
    assert len(list(made.run(range(400), lambda i: Loaded(i, [size_turn(20)])))) == 400
    assert set(kept) == {0}
    assert made.batch_size == 8 and min(sizes) >= 8, "batches that were cut before do not narrow it further"


def test_a_fault_of_the_model_is_not_hidden_in_rows() -> None:
    def forward(batch: dict[str, Tensor]) -> object:
        raise RuntimeError("shapes do not fit")

    for workers in (0, 2):
        for parallel in (False, True):
            made = engine(workers=workers, parallel=parallel)
            made.forward = forward  # type: ignore[assignment]
            with pytest.raises(RuntimeError, match="do not fit"):
                list(made.run(range(5), lambda i: Loaded(i, [size_turn(20)])))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(14, 900), min_size=1, max_size=60),
    st.integers(1, 9),
    st.integers(1, 4000),
    st.sampled_from([0, 3]),
    st.booleans(),
)
def test_batches_hold_so_many_padded_tokens(
    widths: list[int], batch_size: int, budget: int, workers: int, parallel: bool
) -> None:
    seen: list[list[float]] = []

    def forward(batch: dict[str, Tensor]) -> object:
        seen.append(batch["x"][:, 0].tolist())
        return lambda: batch["x"]

    made = engine(
        batch_size=batch_size,
        batch_tokens=budget,
        length=lambda turn: turn.frames[0].width,
        workers=workers,
        parallel=parallel,
    )
    made.forward = forward  # type: ignore[assignment]
    out = list(made.run(widths, lambda width: Loaded(width, [size_turn(width)])))
    assert [one.item for one in out] == widths
    assert [one.rows[0][0] for one in out] == widths  # type: ignore[index]
    assert sorted(width for batch in seen for width in batch) == sorted(widths), "each goes through the model once"
    for batch in seen:
        assert len(batch) == 1 or (len(batch) <= batch_size and len(batch) * max(batch) <= budget)


def test_a_length_that_cannot_be_told_is_the_inputs_error() -> None:
    def length(turn: Turn) -> int:
        if turn.frames[0].width == 21:
            raise ValueError("no grid")
        return 5

    out = list(engine(batch_tokens=20, length=length).run(range(9), lambda i: Loaded(i, [size_turn(20 + i % 3)])))
    assert [one.item for one in out if one.error] == [1, 4, 7]
