"""Scores of frames become the score of a video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from q_align.errors import ConfigError
from q_align.score.pooling import POOLINGS, check_pooling, pool, pooling
from q_align.types import MediaSpec


def test_values_by_hand() -> None:
    values = np.array([4.0, 1.0, 3.0, 2.0, 5.0, 3.5, 2.5, 4.5, 1.5, 5.0, 2.0])  # sorted: 1, 1.5, 2, 2, ...
    assert pool(values, "mean") == pytest.approx(34 / 11)
    assert pool(values, "min") == 1.0
    assert pool(values, "p10") == 1.5  # the second of eleven
    assert pool(np.array([2.0, 4.0]), "p10") == pytest.approx(2.2)
    for name in POOLINGS:
        assert pool([3.25], name) == 3.25, "a video of one frame"


def test_names_are_checked() -> None:
    check_pooling("model")
    with pytest.raises(ConfigError, match=r"unknown pooling 'medial' \(did you mean 'me.*model"):
        check_pooling("medial")
    with pytest.raises(ConfigError, match="sees all frames together"):
        pool(np.ones(3), "model")
    assert MediaSpec().pool == "model"


def test_a_pooling_from_outside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import numpy as np\nfrom q_align.score.pooling import pooling\npooling('middle')(lambda v: np.median(v))\n"
    (tmp_path / "my_pools.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("Q_ALIGN_PLUGINS", "my_pools")
    assert pool(np.array([1.0, 2.0, 9.0]), "middle") == 2.0
    with pytest.raises(ConfigError, match="registered already"):
        pooling("mean")(max)
