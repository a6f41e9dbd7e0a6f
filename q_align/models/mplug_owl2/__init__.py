"""mPLUG-Owl2, native: the backbone of the published Q-Align, OneAlign and DeQA-Score checkpoints.

Importing this package registers the model with transformers' Auto classes. `load` and `published` are what
`q_align.models.backbone` calls.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from q_align.errors import CheckpointError
from q_align.models.card import ModelCard
from q_align.models.mplug_owl2.configuration import MPLUGOwl2Config
from q_align.models.mplug_owl2.encoder import PROMPT, OwlEncoder, Pixels
from q_align.models.mplug_owl2.modeling import MPLUGOwl2LlamaForCausalLM
from q_align.models.mplug_owl2.weights import full_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from q_align.readout.encoder import Encoder

AutoConfig.register(MPLUGOwl2Config.model_type, MPLUGOwl2Config)
AutoModelForCausalLM.register(MPLUGOwl2Config, MPLUGOwl2LlamaForCausalLM)
AutoModelForImageTextToText.register(MPLUGOwl2Config, MPLUGOwl2LlamaForCausalLM)

# Small text files that travel with a checkpoint unchanged.
EXTRA_FILES = ("tokenizer_config.json", "special_tokens_map.json", "preprocessor_config.json")


def load(path: Path, card: ModelCard, *, dtype: str = "float32", **options: Any) -> tuple[PreTrainedModel, Encoder]:
    """A full checkpoint folder -> (model in eval mode, encoder).

    Args:
        path: folder in the published layout, or one that `Backbone.save` wrote.
        card: holds the prompt and how images and videos are opened.
        options: `attn`, `device_map`, `quantize`; see `weights.full_model`.

    Raises:
        CheckpointError: when files or keys are missing or left over.
    """
    model = full_model(Path(path), dtype=dtype, **options)
    return model.eval(), build_encoder(Path(path), card, model.config)


def build_encoder(folder: Path, card: ModelCard, config: MPLUGOwl2Config) -> OwlEncoder:
    """The encoder of a checkpoint folder, from its `tokenizer.model` and `preprocessor_config.json`."""
    tokenizer = folder / "tokenizer.model"
    if not tokenizer.is_file():
        raise CheckpointError(f"{folder}: no tokenizer.model; copy it from the base model's folder")
    files = {name: (folder / name).read_bytes() for name in EXTRA_FILES if (folder / name).is_file()}
    given = json.loads(files.get("preprocessor_config.json", b"{}"))
    pixels = Pixels(
        size=config.vision.image_size,
        mean=tuple(given.get("image_mean", Pixels().mean)),
        std=tuple(given.get("image_std", Pixels().std)),
    )
    return OwlEncoder(
        tokenizer=tokenizer.read_bytes(),
        frame_tokens=config.frame_tokens,
        prompt=card.prompt or PROMPT,
        opens=card.media,
        pixels=pixels,
        files=files,
    )


def published(path: Path) -> ModelCard | None:
    """A card for a folder in a published layout without `q_align.json`; None where it is something else."""
    config = Path(path) / "config.json"
    if not config.is_file():
        return None
    if json.loads(config.read_text(encoding="utf-8")).get("model_type") != MPLUGOwl2Config.model_type:
        return None
    return ModelCard(family="mplug_owl2", tasks=("iqa", "iaa", "vqa"), prompt=PROMPT)
