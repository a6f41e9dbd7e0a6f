"""A config.json with sizes that are not those of the weights is refused before anything of these sizes is built."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from q_align.errors import CheckpointError
from q_align.models.card import ModelCard
from q_align.models.nano import build, load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    build().save(path)
    return path


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("layers", 10**9), ("layers", 10**4), ("layers", 1), ("hidden", 10**6), ("vocab_size", 10**9)),
        *(("mlp", 10**8), ("tones", 10**6), ("pool", 1000), ("tile", 10**9), ("heads", 0)),
        *(("channels", [16, 32, 48, 96, 10**6]), ("blocks", [0, 0, 0, 1, 10**7])),
    ],
)
@pytest.mark.parametrize("bare", [True, False])
def test_sizes_that_are_not_the_weights_own(folder: Path, key: str, value: object, bare: bool) -> None:
    config = folder / "config.json"
    whole = config.read_text()
    config.write_text(json.dumps(json.loads(whole) | {key: value}))
    begun = time.monotonic()
    try:
        with pytest.raises(CheckpointError, match=key):
            load(folder, ModelCard.load(folder), bare=bare)
    finally:
        config.write_text(whole)
    assert time.monotonic() - begun < 5
    assert load(folder, ModelCard.load(folder), bare=bare)
