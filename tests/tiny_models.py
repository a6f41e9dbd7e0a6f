"""Tiny random models of many transformers families, with tokenizers trained on the spot: `make(family, folder)`.

Each folder looks like a published one (config.json, model.safetensors, tokenizer, processor files, chat template), so
that the tests load it by the same path as a real checkpoint. Nothing is downloaded. Knows no q_align but its words.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast

from q_align.levels import WORDS
from q_align.tasks import TASKS

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# thinks unless told otherwise, as the larger Qwen3.5 do
THINKING = CHATML.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% else %}<think>\n{% endif %}{% endif %}",
)
VICUNA = (
    "{% for m in messages %}{{ m['role'].upper() }}: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE\n{% else %}{{ c['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
IDEFICS = (
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}:{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


@dataclass(frozen=True)
class Tiny:
    """How one tiny family is built: processor and image processor classes, template, tokens, and model options."""

    processor: str
    images: str
    image_options: dict[str, Any]
    template: str | None
    placeholder: str
    options: Callable[[PreTrainedTokenizerFast], dict[str, Any]]
    processor_options: dict[str, Any]
    tokens: dict[str, str]
    markers: tuple[str, ...] = ()
    spm: bool = False
    bos: bool = False


TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def _qwen(version: str) -> Callable[[PreTrainedTokenizerFast], dict[str, Any]]:
    def options(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
        ids = tokenizer.convert_tokens_to_ids
        text = dict(TEXT, vocab_size=len(tokenizer), rope_parameters=_mrope([1, 1, 2]))
        vision: dict[str, Any] = {"depth": 2, "num_heads": 4, "patch_size": 8, "spatial_merge_size": 2}
        if version == "qwen2_vl":
            vision |= {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2}
        elif version == "qwen2_5_vl":
            vision |= {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 32, "window_size": 32}
            vision |= {"fullatt_block_indexes": [1]}
        else:
            vision |= {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 32, "num_position_embeddings": 64}
        if version == "qwen3_vl":
            vision |= {"deepstack_visual_indexes": [0]}
            text |= {"head_dim": 8}
        if version == "qwen3_5":
            text |= {"head_dim": 8, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2}
            text |= {"linear_num_value_heads": 4, "layer_types": ["linear_attention", "full_attention"]}
            text |= {"rope_parameters": _mrope([2, 1, 1], partial_rotary_factor=1.0)}
        return {
            "text_config": text,
            "vision_config": vision,
            "image_token_id": ids("<|image_pad|>"),
            "video_token_id": ids("<|video_pad|>"),
            "vision_start_token_id": ids("<|vision_start|>"),
            "vision_end_token_id": ids("<|vision_end|>"),
        }

    return options


def _mrope(section: list[int], **more: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": section, "mrope_interleaved": True, **more}


QWEN_TOKENS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
}


def _qwen_family(version: str, template: str = CHATML) -> Tiny:
    return Tiny(
        processor={
            "qwen2_vl": "Qwen2VLProcessor",
            "qwen2_5_vl": "Qwen2_5_VLProcessor",
            "qwen3_vl": "Qwen3VLProcessor",
            "qwen3_5": "Qwen3VLProcessor",
        }[version],
        images="Qwen2VLImageProcessorPil",
        image_options={
            "patch_size": 8,
            "merge_size": 2,
            "temporal_patch_size": 2,
            "size": {"shortest_edge": 256, "longest_edge": 64 * 64},
        },
        template=template,
        placeholder=QWEN_IMAGE,
        options=_qwen(version),
        processor_options={},
        tokens=QWEN_TOKENS,
    )


def _clip(text: str, vision: str, image: str = "", **more: Any) -> Callable[[PreTrainedTokenizerFast], dict[str, Any]]:
    def options(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
        tower: dict[str, Any] = dict(VISION, model_type=vision, image_size=32, patch_size=8)
        if vision == "clip_vision_model":
            tower["projection_dim"] = 32
        if vision == "siglip_vision_model":
            tower["vision_use_head"] = False
        language: dict[str, Any] = dict(TEXT, vocab_size=len(tokenizer), model_type=text)
        if text.startswith("gemma"):
            language["head_dim"] = 8
        if text == "gemma3_text":
            language |= {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 24}
        return {
            "text_config": language,
            "vision_config": tower,
            "image_token_index": tokenizer.convert_tokens_to_ids(image or tokenizer.image_token),
            **more,
        }

    return options


def _idefics(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "text_config": dict(TEXT, vocab_size=len(tokenizer), model_type="llama", pad_token_id=tokenizer.pad_token_id),
        "vision_config": dict(VISION, image_size=32, patch_size=8),
        "scale_factor": 2,
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
    }


def _idefics_family(processor: str, images: str) -> Tiny:
    return Tiny(
        processor=processor,
        images=images,
        image_options={
            "size": {"longest_edge": 64},
            "max_image_size": {"longest_edge": 32},
            "do_image_splitting": True,
        },
        template=IDEFICS,
        placeholder="<image>",
        options=_idefics,
        processor_options={"image_seq_len": 4},
        tokens={
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "end_of_utterance_token": "<end_of_utterance>",
            "global_image_token": "<global-img>",
        },
        markers=tuple(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)),
    )


def _internvl(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "text_config": dict(TEXT, vocab_size=len(tokenizer), model_type="qwen2"),
        "vision_config": dict(VISION, image_size=[32, 32], patch_size=[8, 8]),
        "image_token_id": tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        "image_seq_length": 4,
    }


SQUARE = {"size": {"height": 32, "width": 32}}
TINY: dict[str, Tiny] = {
    "qwen2_vl": _qwen_family("qwen2_vl"),
    "qwen2_5_vl": _qwen_family("qwen2_5_vl"),
    "qwen3_vl": _qwen_family("qwen3_vl"),
    "qwen3_5": _qwen_family("qwen3_5", THINKING),
    "internvl": Tiny(
        processor="InternVLProcessor",
        images="GotOcr2ImageProcessorPil",
        image_options={**SQUARE, "crop_to_patches": True, "max_patches": 4, "min_patches": 1},
        template=CHATML,
        placeholder="<IMG_CONTEXT>\n",
        options=_internvl,
        processor_options={"image_seq_length": 4},
        tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    ),
    "llava": Tiny(
        processor="LlavaProcessor",
        images="CLIPImageProcessorPil",
        image_options={"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}},
        template=VICUNA,
        placeholder="<image>",
        options=_clip("llama", "clip_vision_model", vision_feature_layer=-2),
        processor_options={
            "patch_size": 8,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
        tokens={"image_token": "<image>"},
        spm=True,
        bos=True,
    ),
    "llava_next": Tiny(
        processor="LlavaNextProcessor",
        images="LlavaNextImageProcessorPil",
        image_options={
            "size": {"shortest_edge": 32},
            "crop_size": {"height": 32, "width": 32},
            "image_grid_pinpoints": [[32, 64], [64, 32], [64, 64]],
        },
        template=VICUNA,
        placeholder="<image>",
        options=_clip(
            "llama",
            "clip_vision_model",
            vision_feature_layer=-2,
            image_grid_pinpoints=[[32, 64], [64, 32], [64, 64]],
        ),
        processor_options={
            "patch_size": 8,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
        tokens={"image_token": "<image>"},
        spm=True,
        bos=True,
    ),
    "llava_onevision": Tiny(
        processor="LlavaOnevisionProcessor",
        images="LlavaOnevisionImageProcessorPil",
        image_options={**SQUARE, "image_grid_pinpoints": [[32, 32], [32, 64], [64, 32], [64, 64]]},
        template=CHATML,
        placeholder="<image>\n",
        options=_clip("qwen2", "siglip_vision_model", image_grid_pinpoints=[[32, 32], [32, 64], [64, 32], [64, 64]]),
        processor_options={"num_image_tokens": 16, "vision_feature_select_strategy": "full"},
        tokens={"image_token": "<image>", "video_token": "<video>"},
    ),
    "smolvlm": _idefics_family("SmolVLMProcessor", "SmolVLMImageProcessorPil"),
    "idefics3": _idefics_family("Idefics3Processor", "Idefics3ImageProcessorPil"),
    "gemma3": Tiny(
        processor="Gemma3Processor",
        images="Gemma3ImageProcessorPil",
        image_options=SQUARE,
        template=GEMMA,
        placeholder="<start_of_image>",
        options=_clip("gemma3_text", "siglip_vision_model", mm_tokens_per_image=4),
        processor_options={"image_seq_length": 4},
        tokens={
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
        spm=True,
        bos=True,
    ),
    "paligemma": Tiny(
        processor="PaliGemmaProcessor",
        images="SiglipImageProcessorPil",
        image_options={**SQUARE, "image_seq_length": 16},
        template=None,
        placeholder="<image>",
        options=_clip("gemma", "siglip_vision_model", projection_dim=32, hidden_size=32),
        processor_options={},
        tokens={"image_token": "<image>"},
        spm=True,
        bos=True,
    ),
    # no entry in FAMILIES: what an unknown family gets
    "aya_vision": Tiny(
        processor="AyaVisionProcessor",
        images="GotOcr2ImageProcessorPil",
        image_options={**SQUARE, "crop_to_patches": True, "max_patches": 4, "min_patches": 1},
        template=CHATML,
        placeholder="<image>",
        options=_clip(
            "cohere2", "siglip_vision_model", image="<|IMG_PATCH|>", downsample_factor=2, adapter_layer_norm_eps=1e-6
        ),
        processor_options={"patch_size": 8, "img_size": 32, "downsample_factor": 2},
        tokens={"image_token": "<image>", "img_patch_token": "<|IMG_PATCH|>"},
        markers=("<|START_OF_IMG|>", "<|END_OF_IMG|>", *(f"TILE_{n}" for n in range(1, 5)), "TILE_GLOBAL"),
    ),
}


def tokenizer_of(tiny: Tiny, words: tuple[str, ...] = WORDS) -> PreTrainedTokenizerFast:
    """A byte-level or a SentencePiece-like BPE in which a space and a level word are one token."""
    corpus = [text for _, task in TASKS.items() for text in (*task.questions, task.stem)]
    corpus += [f"The quality of the image is {word}." for word in words] * 9
    special = ["<pad>", "</s>", "<s>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<unk>"]
    special += ["<start_of_turn>", "<end_of_turn>", *tiny.tokens.values(), *tiny.markers]
    if tiny.spm:
        bpe = Tokenizer(models.BPE(byte_fallback=False, unk_token="<unk>"))
        bpe.normalizer = normalizers.Replace(" ", "▁")
        bpe.decoder = decoders.Replace("▁", " ")
        trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False)
        # words split at spaces while training, so that merges stop there, as they mostly do in published vocabularies
        marks = pre_tokenizers.Split(Regex(r"[.,:?!\n]"), "isolated")
        bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split("▁", "merged_with_next"), marks])
        corpus += ["\n", ": ? ! , . 0 1 2 3 4 5 6 7 8 9 < > _ - |", *string.ascii_letters]
    else:
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    bpe.train_from_iterator(corpus, trainer)
    if tiny.bos:
        bpe.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", bpe.token_to_id("<s>"))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        eos_token="<end_of_utterance>" if "end_of_utterance_token" in tiny.tokens else "</s>",
        bos_token="<s>" if tiny.bos else None,
        extra_special_tokens=tiny.tokens,
        clean_up_tokenization_spaces=False,
    )


def make(
    family: str,
    folder: Path,
    *,
    seed: int = 0,
    words: tuple[str, ...] = WORDS,
    vision: dict[str, Any] | None = None,
    images: dict[str, Any] | None = None,
    **text: Any,
) -> Path:
    """Writes a tiny random model of the family into `folder`, as a published checkpoint would lie there.

    Args:
        vision, text: what differs from the tiny configuration: `hidden_size=512`, `vocab_size=248320`.
        images: what differs in the image processor.
    """
    tiny = TINY[family]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_of(tiny, words)
    if family == "paligemma":  # its processor adds these at every load
        tokenizer.add_tokens([f"<loc{i:0>4}>" for i in range(1024)] + [f"<seg{i:0>3}>" for i in range(128)])
    tokenizer.save_pretrained(folder)
    options = tiny.options(tokenizer)
    tied = text.pop("tie_word_embeddings", None)
    options["text_config"].update(text)
    options["vision_config"].update(vision or {})
    if tied is not None:
        options["tie_word_embeddings"] = tied
    config = AutoConfig.for_model(family, **options)
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config)
    _spread(model)
    model.save_pretrained(folder)
    processor = {"image_processor_type": tiny.images.removesuffix("Pil"), **tiny.image_options, **(images or {})}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    record = {"processor_class": tiny.processor, **tiny.processor_options}
    (folder / "processor_config.json").write_text(json.dumps(record))
    if tiny.template:
        (folder / "chat_template.jinja").write_text(tiny.template.replace("IMAGE", tiny.placeholder))
    return folder


def _spread(model: torch.nn.Module) -> None:
    """Larger random weights: at the usual 0.02, two layers hardly look at the image and every score is alike."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                width = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * min(0.3, (2 / width) ** 0.5))
