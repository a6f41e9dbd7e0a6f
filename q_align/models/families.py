"""What differs between model families, as a table of facts: no code branches on a family's name.

An entry names the module that builds the pieces; modules are imported when first used. A transformers model outside
the table gets `CHAT`, the facts that most of them share. Another family registers itself:
`FAMILIES.register("my_family", Family(module="my_package.my_family"))` (see docs/extending.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from q_align.registry import Registry


@dataclass(frozen=True, slots=True)
class Chat:
    """How a transformers chat model is prompted (see `q_align.models.chat`).

    Attributes:
        processor: name of the transformers processor class, where the one that the model names does not do without
            torchvision or other packages that text and frames do not need.
        template: keywords of the chat template; a template that does not know one ignores it.
        prompt: layout of {image}, {question} and {stem} for a family whose checkpoints have no chat template.
        placeholder: what marks one frame in such a prompt.
        appends: text that the processor itself puts behind the prompt.
        images: keywords of the image processor at every call.
        answer_type: `token_type_ids` of the answer, where the model has them.
        alone: whether its processor takes one prompt at a time.
        shares: whether the prompt before the question is encoded without looking at it, so that several questions
            about the same frames can share it (causal attention, image first).
    """

    processor: str | None = None
    template: Mapping[str, Any] = field(default_factory=lambda: {"enable_thinking": False})
    prompt: str = ""
    placeholder: str = ""
    appends: str = ""
    images: Mapping[str, Any] = field(default_factory=dict)
    answer_type: int = 0
    alone: bool = False
    shares: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """Facts of one family.

    Attributes:
        module: dotted module that offers `load(path, card, *, dtype, attn, **options) -> (model, encoder)`,
            and, where the family has published checkpoints without our card, `published(path) -> ModelCard | None`;
            and, where its encoder opens frames otherwise than the card states, `opens(media) -> MediaSpec`.
        vision, connector, language: prefixes of parameter names, for freezing and per-part learning rates.
        lora: names of the linear modules that LoRA adapts by default, within the language model.
        chat: how a transformers chat model is prompted; unused by families with an encoder of their own.
        scoring: options of `load` that make a model which only scores: lighter, not trainable.
    """

    module: str
    vision: tuple[str, ...] = ()
    connector: tuple[str, ...] = ()
    language: tuple[str, ...] = ()
    lora: tuple[str, ...] = ()
    chat: Chat = field(default_factory=Chat)
    scoring: Mapping[str, Any] = field(default_factory=dict)


# Names that transformers gives the parts of nearly all of its image-text-to-text models.
CHAT = Family(
    module="q_align.models.chat",
    vision=(
        "model.visual.patch_embed.",
        "model.visual.pos_embed.",
        "model.visual.blocks.",
        "model.vision_tower.",
        "model.vision_model.",
    ),
    connector=(
        "model.visual.merger.",
        "model.visual.deepstack_merger_list.",
        "model.multi_modal_projector.",
        "model.connector.",
        "model.image_newline",
    ),
    language=("model.language_model.", "model.text_model.", "lm_head."),
    lora=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
)


def _chat(lora: tuple[str, ...] = CHAT.lora, **facts: Any) -> Family:
    return replace(CHAT, lora=lora, chat=Chat(**facts))


# three of four layers of Qwen3.5 are linear attention, with projections of their own
_LINEAR_ATTENTION = ("in_proj_qkv", "in_proj_z", "out_proj")

FAMILIES: Registry[Family] = Registry("family", "q_align.families", of=Family)
_BUILT_IN: dict[str, Family] = {
    "nano": Family(
        module="q_align.models.nano",
        vision=("vision.",),
        connector=("connector.",),
        language=("decoder.", "lm_head."),
        lora=("q_proj", "v_proj"),
        # importing transformers takes longer than scoring a photograph
        scoring={"bare": True},
    ),
    "mplug_owl2": Family(
        module="q_align.models.mplug_owl2",
        vision=("model.vision_model.",),
        connector=("model.visual_abstractor.",),
        language=("model.layers.", "model.embed_tokens.", "model.norm.", "lm_head."),
        lora=("q_proj", "v_proj.multiway.1"),
    ),
    "qwen2_vl": _chat(shares=True),
    "qwen2_5_vl": _chat(shares=True),
    "qwen3_vl": _chat(shares=True),
    "qwen3_5": _chat(lora=CHAT.lora + _LINEAR_ATTENTION, shares=True),
    # one 448-pixel view unless a budget allows more tiles: its processor's own default is up to 13 of 256 tokens
    "internvl": _chat(images={"crop_to_patches": False}, shares=True),
    "llava": _chat(shares=True),
    "llava_next": _chat(shares=True),
    "llava_onevision": _chat(shares=True),
    # its own processor needs torchvision and num2words for videos, and expands images exactly as Idefics3 does
    "smolvlm": _chat(processor="Idefics3Processor", shares=True),
    "idefics3": _chat(shares=True),
    "gemma3": _chat(shares=True),
    # the prompt looks at itself in both directions, question and image alike; only the answer is causal
    "paligemma": _chat(
        prompt="{image}{question}\n{stem}",
        placeholder="<image>",
        appends="\n",
        answer_type=1,
        alone=True,
    ),
}
for _name, _family in _BUILT_IN.items():
    FAMILIES.register(_name, _family)


def family_of(name: str) -> Family:
    """Facts of a family by its name (`ModelCard.family`); `CHAT` for a transformers `model_type` without an entry."""
    known = name in FAMILIES
    return FAMILIES[name] if known else CHAT
