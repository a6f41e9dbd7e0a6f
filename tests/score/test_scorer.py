"""A score depends on the medium and the model, on nothing else; what cannot be scored says why."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from q_align.errors import ConfigError, MediaError
from q_align.media import Limits
from q_align.models.backbone import Backbone
from q_align.readout.base import score_levels
from q_align.score.compat import QAlignScorer
from q_align.score.scorer import Scorer
from q_align.types import Item, Score, Turn


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of many sizes; some in modes that are not RGB."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    made = []
    for i in range(14):
        width, height = rng.integers(20, 180, 2)
        image = Image.fromarray(rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8))
        image = image.resize((int(width), int(height)), Image.Resampling.BICUBIC)
        image.convert(["RGB", "L", "CMYK"][i % 3]).save(folder / f"{i}.jpg")
        made.append(folder / f"{i}.jpg")
    return made


def values(scores: object) -> dict[str, float]:
    return {score.id: score.value for score in scores}  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def reference(nano: Backbone, pictures: list[Path]) -> dict[str, float]:
    """The plain loop: open, encode, forward, softmax, one by one."""
    out = {}
    for path in pictures:
        frames = [Image.open(path).convert("RGB")]
        batch = nano.encoder([Turn(frames, nano.card.question("iqa"), nano.card.stem("iqa"))])
        with torch.inference_mode():
            probs = nano.readout.read(nano.model.eval(), batch).probs[0]
        out[str(path)] = float((probs * torch.tensor(nano.card.levels.values)).sum())
    return out


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (3, 8), (8, 2), (64, 0), (64, 3)])
def test_same_score_at_any_batch_size_and_workers(
    nano: Backbone, pictures: list[Path], reference: dict[str, float], batch_size: int, workers: int
) -> None:
    scorer = Scorer(nano, device="cpu", batch_size=batch_size, workers=workers)
    order = random.Random(batch_size).sample(pictures, len(pictures))
    got = values(scorer.stream(order, "iqa"))
    assert list(got) == [str(p) for p in order]
    assert got == pytest.approx(reference, abs=1e-5)


def test_twice_the_same_to_the_last_bit(nano: Backbone, pictures: list[Path]) -> None:
    scorer = Scorer(nano, device="cpu", workers=2)
    assert list(scorer.stream(pictures)) == list(scorer.stream(pictures))


def test_half_precision_stays_near(nano: Backbone, pictures: list[Path], reference: dict[str, float]) -> None:
    """bfloat16 keeps 8 bits of a number; the tolerance that docs/scoring.md states."""
    half = dataclasses.replace(nano, model=copy.deepcopy(nano.model).to(torch.bfloat16))
    for batch_size in (1, 5):
        got = values(Scorer(half, device="cpu", batch_size=batch_size, workers=0).stream(pictures, "iqa"))
        assert got == pytest.approx(reference, abs=0.05)


def test_score_is_stream_with_one_item(nano: Backbone, pictures: list[Path]) -> None:
    scorer = Scorer(nano, device="cpu", workers=2)
    alone = scorer.score(pictures[0])
    streamed = next(iter(scorer.stream([pictures[0]], "iqa")))
    assert alone.id == streamed.id and alone.value == pytest.approx(streamed.value, abs=1e-6)


def test_fields_follow_from_the_level_log_probabilities(nano: Backbone) -> None:
    logp = torch.tensor([0.1, 0.2, 0.05, 0.1, 0.05]).log()
    score = score_levels("a", logp, nano.card.levels)
    assert score.probs == pytest.approx([0.2, 0.4, 0.1, 0.2, 0.1])
    assert score.value == pytest.approx(3.4) and score.mass == pytest.approx(0.5) and score.level == "good"
    assert score.std == pytest.approx(np.sqrt(0.2 * 25 + 0.4 * 16 + 0.1 * 9 + 0.2 * 4 + 0.1 - 3.4**2))
    assert "finite" in (score_levels("a", torch.full((5,), torch.nan), nano.card.levels).error or "")


def test_every_kind_of_medium(nano: Backbone, pictures: list[Path]) -> None:
    scorer = Scorer(nano, device="cpu", workers=0)
    path = pictures[0]
    image = Image.open(path).convert("RGB")
    media = [path, str(path), path.read_bytes(), image, np.asarray(image)]
    scores = list(scorer.stream(media))
    assert [s.id for s in scores] == [str(path), str(path), "2", "3", "4"]
    assert len({round(s.value or 0, 6) for s in scores}) == 1
    video = scorer.score([image, image], "vqa")
    assert video.value is not None and next(iter(scorer.stream([[image, image]]))).task == "vqa"


def test_streams_that_can_be_read_once(nano: Backbone, pictures: list[Path]) -> None:
    class Once:
        """Like a socket or standard input: no way back."""

        def __init__(self, data: bytes) -> None:
            self.data = data

        def read(self, count: int) -> bytes:
            data, self.data = self.data[:count], self.data[count:]
            return data

    scorer = Scorer(nano, device="cpu", workers=0)
    once = scorer.score(Once(pictures[0].read_bytes()))  # type: ignore[arg-type]
    assert once.value == scorer.score(pictures[0]).value
    for one in (str(pictures[0]), pictures[0], b"data"):
        with pytest.raises(ConfigError, match="use score"):
            scorer.stream(one)  # type: ignore[arg-type]


def test_failures_are_rows_in_place(nano: Backbone, pictures: list[Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(pictures[0].read_bytes()[:-200])
    items = [pictures[0], cut, b"", pictures[1], "absent.png", np.full((3, 3, 3), np.nan)]
    for workers in (0, 3):
        scores = list(Scorer(nano, device="cpu", workers=workers).stream(items))
        assert [s.error is None for s in scores] == [True, False, False, True, False, False]
        for score in scores:
            assert (score.value is None) == (score.error is not None)
            assert "\n" not in (score.error or "")
    with pytest.raises(MediaError, match=r"cut\.jpg"):
        list(Scorer(nano, device="cpu").stream(items, on_error="raise"))
    with pytest.raises(MediaError, match=r"absent\.png"):
        Scorer(nano, device="cpu").score("absent.png")


def test_a_model_without_a_number_is_a_failure_too(nano: Backbone, pictures: list[Path]) -> None:
    broken = copy.deepcopy(nano.model)
    torch.nn.init.constant_(broken.lm_head.weight, torch.nan)
    scorer = Scorer(dataclasses.replace(nano, model=broken), device="cpu", workers=0)
    (row,) = scorer.stream(pictures[:1])
    assert row.value is None and row.error == "the model gives no finite number for it"
    for fails in (lambda: scorer.score(pictures[0]), lambda: QAlignScorer(scorer=scorer)([Image.new("RGB", (9, 9))])):
        with pytest.raises(MediaError, match="no finite number"):
            fails()


def test_tasks(nano: Backbone, pictures: list[Path]) -> None:
    scorer = Scorer(nano, device="cpu", workers=2)
    both = list(scorer.stream(pictures[:3], ["iqa", "iaa"]))
    assert [(s.id, s.task) for s in both] == list(itertools.product(map(str, pictures[:3]), ["iqa", "iaa"]))
    one = list(scorer.stream(pictures[:3], "iaa"))
    assert [s.value for s in both[1::2]] == pytest.approx([s.value for s in one], abs=1e-5)
    own = next(iter(scorer.stream([Item("a", pictures[0], "iaa")], "iqa")))
    assert own.task == "iaa" and own.value == pytest.approx(one[0].value, abs=1e-5)
    with pytest.raises(ConfigError, match="iqa"):
        scorer.stream(pictures, "iqqa")
    with pytest.raises(ConfigError, match="on_error"):
        scorer.stream(pictures, on_error="ignore")
    wrong = list(scorer.stream([Item("a", pictures[0], "taste"), Item("b", pictures[0])]))
    assert "taste" in (wrong[0].error or "") and wrong[1].value is not None


def test_a_task_that_was_not_trained_is_said_once(
    nano: Backbone, pictures: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    from dataclasses import replace

    from q_align.score import scorer as module

    module._logged.clear()
    card = replace(nano.card, tasks=("iqa",))
    scorer = Scorer(Backbone.join(nano.model, nano.encoder, card), device="cpu")
    list(scorer.stream(pictures[:4], "iaa"))
    list(scorer.stream(pictures[:4], "iqa"))
    assert [r.message for r in caplog.records if "trained for" in r.message] == [
        "this model was trained for iqa, not for iaa"
    ]


def test_settings_are_checked(nano: Backbone) -> None:
    with pytest.raises(ConfigError, match="batch_size"):
        Scorer(nano, batch_size=0)
    with pytest.raises(ConfigError, match="workers"):
        Scorer(nano, workers=-1)


def test_limits_reach_the_media(nano: Backbone, pictures: list[Path]) -> None:
    with pytest.raises(MediaError, match="max_pixels"):
        Scorer(nano, device="cpu", limits=Limits(max_pixels=10)).score(pictures[0])


def test_the_embedded_model_says_what_it_is(pictures: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    from q_align import Scorer as Public
    from q_align.score import scorer as module

    module._logged.clear()
    with caplog.at_level("INFO"):
        score = Public.from_pretrained("nano", device="cpu").score(pictures[0])
        Public.from_pretrained("nano", device="cpu")
    assert isinstance(score, Score) and 1 <= (score.value or 0) <= 5
    assert sum("demonstration" in record.message for record in caplog.records) == 1


def test_a_device_that_is_not_here_is_one_line(nano: Backbone) -> None:
    for name in ("cudaa", "cuda:99", "hpu"):
        with pytest.raises(ConfigError, match=f"device '{name}': not on this machine"):
            Scorer(nano, device=name)


def test_compiling_on_a_processor_is_left_out(
    nano: Backbone, pictures: list[Path], reference: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    """It takes minutes and gains next to nothing there; scores are those of the model as it is."""
    scorer = Scorer(nano, device="cpu", workers=1, compile=True)
    assert not hasattr(scorer.model, "_orig_mod")
    assert values(scorer.stream(pictures, "iqa")) == pytest.approx(reference, abs=1e-5)
