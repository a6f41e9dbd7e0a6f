"""The packaged weights: small, complete, and in agreement with distortions and with people as far as the card says."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from q_align import Scorer
from q_align.models import nano as package
from q_align.models.card import ModelCard

WEIGHTS = Path(package.__file__).parent / "weights"


@pytest.fixture(scope="module")
def scorer():
    return Scorer.from_pretrained("nano")


def test_the_package_holds_them_in_half_precision():
    assert {p.name for p in WEIGHTS.iterdir()} == {"config.json", "model.safetensors", "q_align.json", "tokenizer.json"}
    assert (WEIGHTS / "model.safetensors").stat().st_size < 8_000_000
    card = ModelCard.load(WEIGHTS)
    assert card.tasks == ("iaa", "iqa", "vqa")
    assert card.base is None
    assert "no person's opinion" in card.about["data"]


@pytest.mark.parametrize("name", ["blur", "noise", "jpeg", "rescale"])
def test_scores_fall_along_ladders_of_unseen_photographs(scorer, name):
    pytest.importorskip("skimage")
    from q_align.synthetic.distort import distort
    from q_align.synthetic.photos import photo_crop

    picture = photo_crop(np.random.default_rng(11), 224, "coffee")
    rungs = [scorer.score(Image.fromarray(distort(picture, name, s, seed=1))).value for s in (0.1, 0.5, 0.9)]
    assert rungs[0] > rungs[1] > rungs[2]


@pytest.mark.slow
def test_untuned_scores_agree_with_people(scorer, shared):
    folder = shared / "data/mos/avt_h265"
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    values = [score.value for score in scorer.stream([folder / row["image"] for row in rows], task="iqa")]
    assert spearmanr(values, [float(row["mos"]) for row in rows])[0] > FLOOR


# SRCC of the test split of avt_h265 without any tuning (docs/nano.md), less a margin for other machines.
FLOOR = 0.86
