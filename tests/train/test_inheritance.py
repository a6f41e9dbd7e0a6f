"""A second training stage keeps what the first one set, unless its own configuration says otherwise."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from trained import run

from q_align.config.resolve import resolve_config
from q_align.errors import ConfigError
from q_align.levels import LevelScheme
from q_align.models.backbone import read_card
from q_align.models.card import ModelCard
from q_align.readout import ReadoutSpec
from q_align.train.inheritance import inherit, scheme
from q_align.types import MediaSpec

WORDS = ("great", "good", "fair", "poor", "awful")
VALUES = (10.0, 7.5, 5.0, 2.5, 0.0)
FIRST = {
    "media.max_pixels": 4096,
    "media.max_frames": 4,
    "readout.words": list(WORDS),
    "readout.values": list(VALUES),
    "train.max_steps": 1,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory, tiny: Path) -> Path:
    """A model of ours with its own levels, pixels, question and calibration."""
    folder = shutil.copytree(tiny, tmp_path_factory.mktemp("first") / "model")
    card = dataclasses.replace(
        read_card(tiny),
        readout=ReadoutSpec("levels", LevelScheme(WORDS, VALUES)),
        media=MediaSpec(max_pixels=4096, max_frames=4),
        questions={"iqa": "How is it?"},
        trained_on=[{"source": "first", "rows": 9, "mos_range": [0, 10], "higher_is_better": True}],
        calibration={"first": {"kind": "linear", "slope": 2.0, "offset": 1.0}},
    )
    card.save(folder)
    return folder


def test_a_second_stage_keeps_levels_media_and_questions(settle, base: Path, tmp_path: Path, messages) -> None:
    output = run(settle(**{"model.path": base, "train.max_steps": 1}))
    card = read_card(output)
    assert (card.levels.words, card.levels.values) == (WORDS, VALUES)
    assert card.media == MediaSpec(max_pixels=4096, max_frames=4)
    assert card.questions == {"iqa": "How is it?"}
    line = next(line for line in messages() if line.startswith("inherited from"))
    for part in (base, "readout.words great, good", "readout.values 10, 7.5", "media.max_pixels 4096", "questions"):
        assert str(part) in line
    assert not any(line.startswith("set here") for line in messages())


def test_the_calibration_of_the_first_stage_ends_with_it(settle, base: Path) -> None:
    """It maps the scores of other weights."""
    card = read_card(run(settle(**{"model.path": base, "train.max_steps": 1})))
    assert card.calibration == {}
    assert [record["source"] for record in card.trained_on] == ["first", "noise"]


def test_what_the_configuration_sets_wins(settle, base: Path, messages) -> None:
    changes = {"media.max_pixels": 0, "media.fps": 2, "readout.words": ["clear", "good", "fair", "poor", "bad"]}
    output = run(settle(**changes, **{"model.path": base, "train.max_steps": 1}))
    card = read_card(output)
    assert card.levels == LevelScheme(("clear", "good", "fair", "poor", "bad"), VALUES)
    assert card.media == MediaSpec(max_pixels=None, fps=2, max_frames=4)
    said = next(line for line in messages() if line.startswith("set here"))
    assert said == (
        "set here: readout.words clear, good, fair, poor, bad (base: great, good, fair, poor, awful); "
        "media.max_pixels none (base: 4096); media.fps 2 (base: 1)"
    )
    # the run's own configuration leaves nothing open
    written = resolve_config([output / "config.yaml"])
    assert (written.media.max_pixels, written.media.max_frames, written.readout.values) == (0, 4, list(VALUES))
    again = inherit(written, read_card(base))
    assert again.config == written
    assert (again.card.levels, again.card.media) == (card.levels, card.media)


def test_settings_of_the_first_stage_reach_the_second(settle, tmp_path: Path) -> None:
    first = run(settle(**FIRST, **{"train.output_dir": tmp_path / "first"}))
    second = read_card(run(settle(**{"model.path": first, "train.max_steps": 1})))
    assert (second.levels, second.media) == (LevelScheme(WORDS, VALUES), MediaSpec(max_pixels=4096, max_frames=4))


def test_an_unknown_readout_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"unknown readout 'level' \(did you mean 'levels'\?\).*readout\.kind"):
        inherit(resolve_config([], ["--readout.kind", "level"]), ModelCard("nano"))


def test_levels_that_do_not_fit_the_base_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"2 level words but 5 values .*set both"):
        scheme(resolve_config([], ["--readout.words", "[good, bad]"]), ModelCard("nano"))
    both = resolve_config([], ["--readout.words", "[good, bad]", "--readout.values", "[2, 1]"])
    assert scheme(both, ModelCard("nano")) == LevelScheme(("good", "bad"), (2, 1))


def test_a_cache_wants_a_limit_on_pixels_of_whoever_sets_it(tmp_path: Path) -> None:
    config = resolve_config([], ["--data.cache", str(tmp_path)])
    with pytest.raises(ConfigError, match=r"data.cache .*media.max_pixels"):
        inherit(config, ModelCard("nano"))
    assert inherit(config, ModelCard("nano", media=MediaSpec(max_pixels=100))).card.media.max_pixels == 100


def test_our_defaults_are_not_worth_a_line() -> None:
    assert inherit(resolve_config([]), ModelCard("nano")).lines("nano") == []
