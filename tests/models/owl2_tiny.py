"""A tiny mPLUG-Owl2 with random weights and a tokenizer of its own, for tests that need no downloads."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image

from q_align.models.backbone import Backbone
from q_align.models.card import ModelCard
from q_align.models.mplug_owl2.configuration import MPLUGOwl2Config
from q_align.models.mplug_owl2.encoder import OwlEncoder, Pixels
from q_align.models.mplug_owl2.modeling import MPLUGOwl2LlamaForCausalLM
from q_align.tasks import TASKS
from q_align.types import Turn

CARD = ModelCard(family="mplug_owl2", tasks=("iqa", "iaa", "vqa"))


def tokenizer() -> bytes:
    """A sentencepiece model of 600 pieces that knows the words of our prompts."""
    sentencepiece = pytest.importorskip("sentencepiece")
    texts = [
        f"USER: {q} ASSISTANT: {t.stem} {w}." for _, t in TASKS.items() for q in t.questions for w in CARD.levels.words
    ]
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=trained, vocab_size=600, model_type="bpe", byte_fallback=True,
        pad_id=-1, normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    return trained.getvalue()


def config(hidden: int = 32, intermediate: int = 48) -> MPLUGOwl2Config:
    return MPLUGOwl2Config(
        vocab_size=600,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.2,
        visual_config={
            "visual_model": {
                "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
                "image_size": 28, "patch_size": 7,
            },
            "visual_abstractor": {
                "hidden_size": 16, "encoder_hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
                "num_attention_heads": 2, "num_learnable_queries": 3, "grid_size": 4,
            },
        },
    )  # fmt: skip


def tiny(seed: int = 0, **sizes: int) -> Backbone:
    torch.manual_seed(seed)
    model = MPLUGOwl2LlamaForCausalLM(config(**sizes)).eval()
    encoder = OwlEncoder(tokenizer(), model.config.frame_tokens, pixels=Pixels(size=28))
    return Backbone.join(model, encoder, CARD)


def picture(seed: int, size: tuple[int, int] = (20, 30)) -> Image.Image:
    noise = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(noise.to(torch.uint8).numpy())


def turn(*seeds: int, task: str = "iqa", answer: str | None = None) -> Turn:
    """A question about as many random frames as seeds."""
    of = TASKS[task]
    return Turn([picture(seed) for seed in seeds], of.question, of.stem, answer, video=of.modality == "video")


def logits(backbone: Backbone, turns: list[Turn]) -> torch.Tensor:
    """Level logits (B, K) of one batch."""
    with torch.no_grad():
        out = backbone.model(**backbone.encoder(turns), logits_to_keep=1).logits
    return out[:, -1, list(backbone.readout.level_ids)]
