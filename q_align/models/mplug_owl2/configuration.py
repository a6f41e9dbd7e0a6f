"""Configuration of mPLUG-Owl2: LLaMA's fields at the top, the two visual parts as plain sections, as published.

The published files are whole dumps with dozens of unrelated keys; those are ignored, and what is missing takes the
published default. Knows no weights.
"""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from transformers import LlamaConfig

# The published programs' id of a visual token. It is no row of the embedding, so no text can hold it by accident.
IMAGE_TOKEN = -200
# Text is branch 0 and visual tokens are branch 1 of every "multiway" module; the published configs do not state it.
BRANCHES = 2


@dataclass(frozen=True, slots=True)
class VisionShape:
    """The vision transformer: patch grid of (image_size / patch_size) squared plus one class token."""

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    num_channels: int = 3
    image_size: int = 448
    patch_size: int = 14
    layer_norm_eps: float = 1e-6

    @property
    def tokens(self) -> int:
        return (self.image_size // self.patch_size) ** 2 + 1


@dataclass(frozen=True, slots=True)
class AbstractorShape:
    """The visual abstractor: learnable queries that attend to the vision tokens."""

    num_learnable_queries: int = 64
    hidden_size: int = 1024
    num_hidden_layers: int = 6
    num_attention_heads: int = 16
    intermediate_size: int = 2816
    layer_norm_eps: float = 1e-6
    encoder_hidden_size: int = 1024
    grid_size: int = 32


class MPLUGOwl2Config(LlamaConfig):
    """LLaMA's configuration plus `visual_config`: {"visual_model": {...}, "visual_abstractor": {...}}."""

    model_type = "mplug_owl2"
    # LLaMA's own tensor-parallel plan names modules that are split into two branches here.
    base_model_tp_plan: ClassVar = {}
    base_model_pp_plan: ClassVar = {}

    visual_config: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        given = self.visual_config or {}
        # auto_map points at remote code; it is never followed and never written again
        self.__dict__.pop("auto_map", None)
        self.visual_config = {
            "visual_model": asdict(_shape(VisionShape, given.get("visual_model"))),
            "visual_abstractor": asdict(_shape(AbstractorShape, given.get("visual_abstractor"))),
        }

    @property
    def vision(self) -> VisionShape:
        return VisionShape(**self.visual_config["visual_model"])  # type: ignore[index]

    @property
    def abstractor(self) -> AbstractorShape:
        return AbstractorShape(**self.visual_config["visual_abstractor"])  # type: ignore[index]

    @property
    def frame_tokens(self) -> int:
        """Visual tokens of one frame: the queries and the closing `vit_eos`."""
        return self.abstractor.num_learnable_queries + 1


def _shape(cls: type[Any], given: dict[str, Any] | None) -> Any:
    known = {f.name for f in dataclasses.fields(cls)}
    return cls(**{key: value for key, value in (given or {}).items() if key in known})
