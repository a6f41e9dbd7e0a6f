"""README.md of a model: what it says agrees with the model, whatever made it; and its way to the hub and back."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fake_hub import Hub, server
from PIL import Image
from tiny_models import make

from q_align import Scorer, fine_tune
from q_align.cli.main import main
from q_align.errors import CheckpointError, DownloadError
from q_align.models.backbone import read_card
from q_align.models.model_page import MARK, base_id, front_matter, model_page, save_card
from q_align.train.run_result import RunResult

__all__ = ["server"]  # a fixture

LORA = {"lora": {"r": 2, "alpha": 4}}


@pytest.fixture
def tune(tiny: Path, rated: Path, tmp_path: Path) -> Callable[..., RunResult]:
    def call(model: Any = tiny, **options: Any) -> RunResult:
        quick = {"max_steps": 2, "batch_size": 3, "workers": 0, "report_to": "none", "mos_range": (1, 5)}
        return fine_tune(model, rated, output_dir=tmp_path / "mine", **{**quick, **options})

    return call


def page_of(folder: Path) -> tuple[dict[str, Any], str]:
    """Front matter and text."""
    _, head, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head), text


def test_the_page_of_a_tuned_nano(tune: Callable[..., RunResult], tmp_path: Path) -> None:
    run = tune("nano", max_steps=1)
    head, text = page_of(run.folder)
    assert head["library_name"] == "q_align" and head["license"] == "apache-2.0"
    assert "image-quality-assessment" in head["tags"] and "base_model" not in head
    assert "# mine\n" in text and "Fine-tuned from nano" in text
    assert "| noise | iqa | 18 | 1 to 5 | higher |" in text
    assert f"| all | {run.metrics['srcc']:.4f} | {run.metrics['plcc']:.4f} |" in text and "6 validation rows" in text
    assert 'Scorer.from_pretrained("path/to/mine")' in text and "excellent = 5" in text
    for wrong in ("embedded model", "no person's opinion", "More Information Needed", str(tmp_path)):
        assert wrong not in text
    assert (run.folder / "checkpoints/checkpoint-1/README.md").is_file()


def test_the_page_of_adapters_and_of_their_export(
    tune: Callable[..., RunResult], rated: Path, tmp_path: Path, capsys: Any
) -> None:
    base = make("qwen3_5", tmp_path / "base")
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\nthe base\n")
    run = tune(base, max_steps=1, **LORA)
    assert main(["export", str(run.folder), "--output", str(tmp_path / "whole")]) == 0
    for folder in (run.folder, tmp_path / "whole"):
        head, text = page_of(folder)
        assert head["license"] == "apache-2.0" and head["library_name"] == "q_align"
        assert "Rates the quality of images (IQA)" in text and "Fine-tuned from base" in text
        assert f"{run.metrics['srcc']:.4f}" in text and "Licence of the base (base): apache-2.0" in text
        for wrong in ("not fine-tuned", "More Information Needed", "meaningless", str(tmp_path)):
            assert wrong not in text
        assert "remark" not in read_card(folder).about
    from transformers import AutoModelForImageTextToText

    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "whole")
    theirs, ours = loaded.state_dict(), Scorer.from_pretrained(tmp_path / "whole").model.state_dict()
    assert theirs.keys() == ours.keys() and all(torch.equal(theirs[name], ours[name]) for name in ours)


def test_the_page_of_a_base(tmp_path: Path) -> None:
    card = read_card(make("qwen3_5", tmp_path / "base"))
    text = model_page(card)
    assert "Not fine-tuned for rating" in text and "SRCC" not in text


def test_the_page_follows_the_card(tune: Callable[..., RunResult], rated: Path) -> None:
    run = tune("nano", max_steps=1)
    words = ["--data", str(rated), "--split", "all", "--kind", "affine", "--workers", "0"]
    assert main(["calibrate", "--model", str(run.folder), *words]) == 0
    assert '- `scale="mos:noise"`: affine, fitted on split all' in page_of(run.folder)[1]
    # a page that somebody wrote stays
    (run.folder / "README.md").write_text("my own words")
    save_card(read_card(run.folder), run.folder)
    assert (run.folder / "README.md").read_text() == "my own words"


def test_cards_of_published_models_make_pages() -> None:
    from q_align.models.catalog import builtin_cards

    for repo, card in builtin_cards().items():
        head = front_matter(card)
        assert head["license"] in ("llama2", "apache-2.0"), repo
        assert model_page(card).count("\n## ") >= 3


def test_the_hub_id_of_a_base(tmp_path: Path) -> None:
    assert base_id("Qwen/Qwen3.5-4B") == "Qwen/Qwen3.5-4B"
    assert base_id("/home/me/.cache/hub/models--Qwen--Qwen3.5-4B/snapshots/abc") == "Qwen/Qwen3.5-4B"
    assert base_id(str(tmp_path)) is base_id("nano") is base_id(None) is None


def test_a_run_is_pushed_and_comes_back(tune: Callable[..., RunResult], server: str, tmp_path: Path) -> None:
    """To a hub in this process: its files only, no path of this machine; the score is the same afterwards."""
    run = tune()
    Hub.files = {}
    (run.folder / "modeling_own.py").write_text("raise SystemExit")
    address = run.push_to_hub("me/rater", private=True, token="hf_secret")
    assert address.startswith(server)
    assert Hub.created == [{"name": "rater", "organization": "me", "visibility": "private"}]
    assert set(Hub.tokens) == {"Bearer hf_secret"}
    assert set(Hub.files) == {"README.md", "config.json", "model.safetensors", "q_align.json", "tokenizer.json"}
    for name, data in Hub.files.items():
        assert str(tmp_path).encode() not in data and str(read_card(run.folder).base).encode() not in data, name
    page = Hub.files["README.md"].decode()
    assert MARK in page and 'Scorer.from_pretrained("me/rater")' in page and "# rater\n" in page
    image = Image.effect_noise((40, 40), 60).convert("RGB")
    assert Scorer.from_pretrained("me/rater").score(image) == run.scorer().score(image)
    run.push_to_hub("me/rater", logs=True)
    assert "log_history.json" in Hub.files


def test_adapters_are_pushed_with_the_hub_id_of_their_base(
    tune: Callable[..., RunResult], server: str, tmp_path: Path
) -> None:
    run = tune(**LORA)
    Hub.files = {}
    with pytest.raises(CheckpointError, match=r"no hub id; upload the export .*q-align export.* base='org/name'"):
        run.push_to_hub("me/adapter")
    assert not Hub.files and not Hub.created
    run.push_to_hub("me/adapter", base="org/tiny")
    assert json.loads(Hub.files["q_align.json"])["base"] == "org/tiny"
    assert json.loads(Hub.files["adapter_config.json"])["base_model_name_or_path"] == "org/tiny"
    assert "base_model: org/tiny" in Hub.files["README.md"].decode()
    for name, data in Hub.files.items():
        assert str(read_card(run.folder).base).encode() not in data, name


def test_a_page_by_hand_is_pushed_as_it_is(tune: Callable[..., RunResult], server: str) -> None:
    run = tune()
    (run.folder / "README.md").write_text("---\nlicense: mit\n---\nmy own words")
    run.push_to_hub("me/rater")
    assert Hub.files["README.md"] == b"---\nlicense: mit\n---\nmy own words"


def test_what_the_hub_refuses_is_one_line(
    tune: Callable[..., RunResult], server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tune()
    with pytest.raises(DownloadError, match="not a hub id"):
        run.push_to_hub("a/b/c")
    Hub.status = 403
    with pytest.raises(DownloadError, match=r"me/rater: upload failed .*hf auth login"):
        run.push_to_hub("me/rater")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="uploads are off"):
        run.push_to_hub("me/rater")


def test_a_card_keeps_its_validation(tune: Callable[..., RunResult]) -> None:
    run = tune()
    card = read_card(run.folder)
    assert card.validation == {name: value for name, value in run.metrics.items() if math.isfinite(value)}
    assert dataclasses.replace(card, validation={}) == read_card(run.folder / f"checkpoints/checkpoint-{run.step}")
