"""nano as a transformers model, with its initial weights; PEFT, ZeRO and gradient checkpointing work as for others."""

from __future__ import annotations

import math

from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init

from q_align.models.nano.configuration import NanoConfig
from q_align.models.nano.network import NanoBody
from q_align.models.nano.vision import HistogramLinear, TilePosition


class NanoForRating(NanoBody, PreTrainedModel):
    """The multimodal model behind the family "nano"."""

    config_class = NanoConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["Layer", "Stage"]  # noqa: RUF012 (the base class declares a list)

    def __init__(self, config: NanoConfig):
        super().__init__(config)
        self.assemble(config.shape)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.decoder.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            fan = module.weight[0].numel()
            init.normal_(module.weight, std=math.sqrt(2.0 / fan))
            if module.in_channels == 3 and not getattr(module.weight, "_is_hf_initialized", False):
                sharp = module.weight[: -len(module.weight) // 4]
                sharp.data.sub_(sharp.data.mean((2, 3), keepdim=True)).mul_(3)
        elif isinstance(module, TilePosition):
            init.zeros_(module.weight)
        elif isinstance(module, HistogramLinear):
            init.normal_(module.weight, std=0.6)
            init.uniform_(module.bias, -1.5, 1.5)
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=0.5)
        elif isinstance(module, nn.BatchNorm2d):
            init.ones_(module.weight)
            init.zeros_(module.get_buffer("running_mean"))
            init.ones_(module.get_buffer("running_var"))
        elif isinstance(module, nn.RMSNorm):
            init.ones_(module.weight)
        bias = getattr(module, "bias", None)
        if bias is not None and not isinstance(module, HistogramLinear):
            init.zeros_(bias)
