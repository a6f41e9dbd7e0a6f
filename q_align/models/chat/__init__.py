"""Any transformers image-text-to-text model as a backbone: loads model, processor and prompt layout of a checkpoint.

A family in `families.FAMILIES` brings its facts; another one is handled as most are, with a warning that says what was
assumed. Knows no loss, no data set, no scoring loop.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from q_align.errors import CheckpointError, nearest, require
from q_align.log import log
from q_align.models.card import ModelCard
from q_align.models.chat.encoder import ChatEncoder, opens
from q_align.models.chat.processor import load_processor, processor_files
from q_align.models.chat.prompt import Layout, read_template
from q_align.models.device import check_attention
from q_align.models.families import FAMILIES, Family, family_of
from q_align.models.quantize import quantization
from q_align.registry import PLUGINS

__all__ = ["load", "load_encoder", "opens", "published"]


def load(
    path: str | Path,
    card: ModelCard,
    *,
    dtype: str = "float32",
    attn: str | None = None,
    device_map: str | dict[str, Any] | None = None,
    quantize: str | None = None,
) -> tuple[Any, ChatEncoder]:
    """Reads a checkpoint folder.

    Args:
        path: folder with config.json, weights, tokenizer and processor files.
        card: its prompt layout (empty: the chat template's) and how images and videos are opened.
        dtype: of the weights in memory: "float32", "bfloat16" or "float16".
        attn: "eager", "sdpa" or "flash_attention_2"; None: the model's default.
        device_map: where the layers go: "auto", "cuda", "mps", "cpu", or a map by module name (accelerate).
        quantize: "8bit" or "4bit" (bitsandbytes), "int8" (torchao), of the language layers; None: as stored.

    Raises:
        CheckpointError: when the folder is not a model that transformers knows.
        ConfigError, MissingExtraError: for options that are unknown or lack their library.
    """
    folder = Path(path)
    check_attention(attn)
    family = _known(card.family, folder)
    encoder = load_encoder(folder, card, family)
    if card.family not in FAMILIES:
        _say_assumed(card.family, encoder)
    options: dict[str, Any] = {"attn_implementation": attn} if attn is not None else {}
    if device_map is not None:
        require("accelerate", extra="train")
        options["device_map"] = device_map
    if quantize is not None:
        keep = (*family.vision, *family.connector, "lm_head")
        options["quantization_config"] = quantization(quantize, dtype, keep)
    model = _model(folder, dtype, options)
    _freeze_unread(model)
    return model.eval(), encoder


def load_encoder(folder: Path, card: ModelCard, family: Family) -> ChatEncoder:
    """Processor and prompt layout of a checkpoint."""
    processor = load_processor(folder, family, card.family)
    tokenizer = processor.tokenizer
    token = getattr(processor, "image_token", None) or "<image>"
    template = getattr(processor, "chat_template", None) or tokenizer.chat_template
    read = read_template(tokenizer, template, family.chat.template, token, str(folder))
    frame, end = (read.frame, read.end) if read else (family.chat.placeholder or token, "")
    text = card.prompt or (read.text if read else family.chat.prompt)
    if not text:
        raise CheckpointError(
            f"{folder}: no chat template; give the layout as `prompt` with {{image}}, {{question}} and {{stem}} in "
            "q_align.json"
        )
    # written out, where the tokenizer adds it by itself: everything else is tokenised without additions
    bos = tokenizer.bos_token
    if bos and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id and not text.startswith(bos):
        text = bos + text
    specials = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    last = tokenizer(end, add_special_tokens=False)["input_ids"][:1] if end else []
    end = tokenizer.convert_ids_to_tokens(last[0]) if last and last[0] in specials else tokenizer.eos_token
    layout = Layout(text, frame, end)
    return ChatEncoder(processor, layout, card.media, family.chat, end, files=processor_files(folder))


def published(folder: Path) -> ModelCard | None:
    """The card of a model that was not fine-tuned for rating (a base for training); None where it is no chat model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return None
    return ModelCard(family=kind, tasks=(), about={"remark": "not fine-tuned for rating: a base for training"})


def _model(folder: Path, dtype: str, options: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoModelForImageTextToText

    try:
        return AutoModelForImageTextToText.from_pretrained(
            folder, dtype=getattr(torch, dtype), local_files_only=True, trust_remote_code=False, **options
        )
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{folder}: not a model that transformers loads for image and text ({reason})") from error


def _freeze_unread(model: Any) -> None:
    """Takes what no output depends on out of training: layers of the vision tower above the one that is read.

    Data-parallel training waits for their gradients otherwise.
    """
    read = getattr(model.config, "vision_feature_layer", None)
    if read is None:
        return
    top = max(read) if isinstance(read, (list, tuple)) else read
    for name, module in model.named_modules():
        if not name.endswith("vision_tower.encoder"):
            continue
        layers = getattr(module, "layers", [])  # hidden state i is what layer i - 1 gives, the last one is -1
        for layer in layers[top if top >= 0 else len(layers) + 1 + top :]:
            layer.requires_grad_(False)
        tower = model.get_submodule(name.removesuffix(".encoder"))
        for unread in ("post_layernorm", "head"):
            if hasattr(tower, unread):
                getattr(tower, unread).requires_grad_(False)


def _known(name: str, folder: Path) -> Family:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    if name not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        known = [*FAMILIES, *MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES]
        hint = nearest(name, known) or f" (is its module in {PLUGINS}?)"
        raise CheckpointError(f"{folder}: unknown family {name!r}{hint}")
    return family_of(name)


def _say_assumed(name: str, encoder: ChatEncoder) -> None:
    log.warning(
        "unknown family %s: assuming image placeholder %r, end-of-turn token %r, enable_thinking=False, no prefix "
        "sharing between tasks, the usual module names",
        name,
        encoder.layout.frame,
        encoder.end,
    )
