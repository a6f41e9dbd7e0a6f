"""What ships for chat models fits together: configurations resolve, cards of published checkpoints ask as trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_models import TINY, make
from transformers.utils import logging as transformers_logging

from q_align.config.resolve import resolve_config
from q_align.models.backbone import Backbone
from q_align.models.catalog import builtin_card, hub_id
from q_align.tasks import TASKS
from q_align.types import Turn

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

FOLDERS = ("qwen3_5", "qwen2_5_vl", "internvl3", "smolvlm2", "gemma3")
CONFIGS = sorted(p for f in FOLDERS for p in (Path(__file__).parents[2] / "configs" / f).glob("*.yaml"))
FULL = [path for path in CONFIGS if path.name != "lora.yaml"]


@pytest.mark.parametrize("path", FULL, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_configurations_resolve_full_and_with_adapters(path: Path) -> None:
    full = resolve_config([path])
    assert not full.model.lora.enabled
    assert hub_id(full.model.path) == full.model.path
    assert full.media.max_pixels, "a budget, or one large photograph fills the memory"
    assert full.train.batch_size * full.train.accumulate == 16, "the same updates for every size"
    lora = resolve_config([path, path.with_name("lora.yaml")])
    assert lora.model.lora.enabled
    assert lora.model.path == full.model.path
    assert lora.train.lr == 10 * full.train.lr


def test_every_folder_has_full_and_lora() -> None:
    assert {path.parent.name for path in FULL} == set(FOLDERS)
    assert all((path.parent / "lora.yaml").is_file() for path in FULL)


@pytest.mark.parametrize("name", ["Q-ReAlign-Mini-0.8B", "Q-ReAlign-Lite-4B", "Q-ReAlign-Pro-9B"])
def test_published_checkpoints_are_asked_as_they_were_trained(name: str, tmp_path: Path) -> None:
    card = builtin_card(f"q-future/{name}")
    assert card is not None
    assert card.tasks == ("iqa", "iaa", "vqa")
    # a folder called like the checkpoint is enough; it holds no card of ours
    folder = make("qwen3_5", tmp_path / name)
    backbone = Backbone.from_pretrained(folder)
    assert backbone.card == card
    frames = [Image.new("RGB", (64, 48), (90, 140, 60))]
    turn = Turn(frames, card.question("iqa"), card.stem("iqa"))
    inputs = backbone.encoder([turn])
    said = backbone.encoder.processor.tokenizer.decode(inputs["input_ids"][0])
    assert said.replace("<|image_pad|>", "") == (
        "<|im_start|>user\n<|vision_start|><|vision_end|>How would you rate the quality of this image?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\nThe quality of the image is"
    )
    with torch.no_grad():
        found = backbone.readout.read(backbone.model, inputs)
    assert torch.isfinite(found.level_logp).all()
    # the plain template of the family comes to the same prompt
    plain = Backbone.from_pretrained(folder, card=dataclasses.replace(card, prompt=""))
    assert torch.equal(plain.encoder([turn])["input_ids"], inputs["input_ids"])


def test_tiny_models_cover_the_table() -> None:
    from q_align.models.families import FAMILIES

    chat = {name for name, family in FAMILIES.items() if family.module == "q_align.models.chat"}
    assert chat <= set(TINY)
    assert set(TASKS) == {"iqa", "iaa", "vqa"}
