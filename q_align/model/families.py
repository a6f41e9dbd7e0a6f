"""What differs between model families, as a table of facts: no code branches on a family's name.

An entry says which module builds the pieces; modules are imported when first used.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """Facts of one family.

    Attributes:
        module: dotted module that offers `load(path, card, *, dtype, attn, **options) -> (PreTrainedModel, Encoder)`,
            and, where the family has published checkpoints without our card, `published(path) -> ModelCard | None`.
        vision, connector, language: prefixes of parameter names, for freezing and per-part learning rates.
        lora: names of the linear modules that LoRA adapts by default.
    """

    module: str
    vision: tuple[str, ...] = ()
    connector: tuple[str, ...] = ()
    language: tuple[str, ...] = ()
    lora: tuple[str, ...] = ()


FAMILIES: dict[str, Family] = {
    "nano": Family(
        module="q_align.model.nano",
        vision=("vision.",),
        connector=("connector.",),
        language=("decoder.", "lm_head."),
        lora=("q_proj", "v_proj"),
    ),
    "mplug_owl2": Family(
        module="q_align.model.mplug_owl2",
        vision=("model.vision_model.",),
        connector=("model.visual_abstractor.",),
        language=("model.layers.", "model.embed_tokens.", "model.norm.", "lm_head."),
        lora=("q_proj", "v_proj.multiway.1"),
    ),
}
