"""mPLUG-Owl2 as an ordinary transformers model, for the published Q-Align, OneAlign and DeQA-Score checkpoints.

Parameter names are the published ones, so those checkpoints load as they are. Visual tokens are in `input_ids` as
`IMAGE_TOKEN`, Q + 1 of them per frame, frames of all rows in order in `pixel_values`. Knows no prompt, no tokenizer,
no loss beyond the library's. Source: mPLUG-Owl2 (Ye et al., CVPR 2024); Q-Align (Wu et al., ICML 2024).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding

from q_align.models.mplug_owl2.abstractor import AbstractorAttention, VisualAbstractor, sincos_1d, sincos_2d
from q_align.models.mplug_owl2.configuration import IMAGE_TOKEN, MPLUGOwl2Config
from q_align.models.mplug_owl2.language import OwlDecoderLayer
from q_align.models.mplug_owl2.route import find_route
from q_align.models.mplug_owl2.vision import VisionEmbeddings, VisionModel


class MPLUGOwl2PreTrainedModel(PreTrainedModel):
    config_class = MPLUGOwl2Config
    config: MPLUGOwl2Config
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _no_split_modules = ["VisionLayer", "AbstractorLayer", "OwlDecoderLayer"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # recomputed from the config; checkpoints of transformers before 4.31 hold them
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq$"]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        std = self.config.initializer_range
        if isinstance(module, VisionEmbeddings):
            init.normal_(module.cls_token, std=std)
            init.normal_(module.position_embedding, std=std)
        elif isinstance(module, VisualAbstractor):
            init.normal_(module.query_embeds, std=std)
            init.normal_(module.vit_eos, std=std)
        elif isinstance(module, AbstractorAttention):
            shape = self.config.abstractor
            init.copy_(module.q_pos_embed, sincos_1d(shape.hidden_size, shape.num_learnable_queries))
            init.copy_(module.k_pos_embed, sincos_2d(shape.encoder_hidden_size, self.config.vision.tokens))


class MPLUGOwl2Model(MPLUGOwl2PreTrainedModel):
    """Vision, abstractor and language layers, up to the final norm."""

    def __init__(self, config: MPLUGOwl2Config) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(OwlDecoderLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config=config)
        self.vision_model = VisionModel(config)
        self.visual_abstractor = VisualAbstractor(config)
        self.gradient_checkpointing = False
        self.post_init()

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """F frames (F, 3, S, S), normalised -> visual tokens (F, Q + 1, H)."""
        return self.visual_abstractor(self.vision_model(pixel_values))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Args as everywhere in transformers; visual tokens are those of `input_ids` that equal `IMAGE_TOKEN`.

        Args:
            input_ids: (B, T); Q + 1 `IMAGE_TOKEN` per frame.
            attention_mask: (B, past + T), zero at padding, on whichever side it is.
            position_ids: (B, T); None: counted from 0 at the first token that is not padding.
            pixel_values: (F, 3, S, S), the frames of all rows in order.
            inputs_embeds: (B, T, H) instead of `input_ids`: text only, all of it branch 0.

        Raises:
            ValueError: when the number of visual tokens in `input_ids` is not that of the frames.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        use_cache = self.config.use_cache and not self.training if use_cache is None else use_cache
        route = None
        if inputs_embeds is None:
            assert input_ids is not None
            visual = input_ids == IMAGE_TOKEN
            route, count = find_route(visual)
            frames = 0 if pixel_values is None or count == 0 else len(pixel_values)
            if count != frames * self.config.frame_tokens:
                raise ValueError(
                    f"input_ids hold {count} visual tokens, but {frames} frames make {self.config.frame_tokens} each"
                )
            inputs_embeds = self.embed_tokens(input_ids.clamp(min=0))
            if frames:
                assert pixel_values is not None
                tokens = self.get_image_features(pixel_values).to(inputs_embeds)
                inputs_embeds = inputs_embeds.masked_scatter(visual.unsqueeze(-1), tokens)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        length = inputs_embeds.shape[1]
        if position_ids is None:
            position_ids = _positions(attention_mask, past_key_values, length, inputs_embeds.device)
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
        )
        hidden = inputs_embeds
        rotary = self.rotary_emb(hidden, position_ids=position_ids)
        states = [hidden]
        for layer in self.layers:
            hidden = layer(
                hidden, route=route, rotary=rotary, mask=mask, past_key_values=past_key_values, **kwargs
            )  # fmt: skip
            if output_hidden_states:
                states.append(hidden)
        hidden = self.norm(hidden)
        return BaseModelOutputWithPast(
            last_hidden_state=hidden,
            past_key_values=past_key_values,
            hidden_states=(*states[:-1], hidden) if output_hidden_states else None,
        )


class MPLUGOwl2LlamaForCausalLM(MPLUGOwl2PreTrainedModel, GenerationMixin):
    """The whole model with its output head; the class name is the one in the published configs."""

    def __init__(self, config: MPLUGOwl2Config) -> None:
        super().__init__(config)
        self.model = MPLUGOwl2Model(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """See `MPLUGOwl2Model.forward`.

        Args:
            labels: (B, T), -100 where nothing is supervised; the loss is the mean over all supervised tokens.
            logits_to_keep: the head runs on the last so many positions only; 0: on all. A 1-D tensor: on those.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            pixel_values=pixel_values,
            use_cache=use_cache,
            output_hidden_states=output_hidden_states,
        )
        hidden = outputs.last_hidden_state
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) and logits_to_keep else logits_to_keep
        logits = self.lm_head(hidden if isinstance(kept, int) else hidden[:, kept])  # (B, kept, V)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        result = CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
        )
        return result if return_dict is not False else result.to_tuple()


def _positions(mask: Tensor | None, cache: Cache | None, length: int, device: torch.device) -> Tensor:
    """Positions from 0 at each row's first token: (B, T), or (1, T) where nothing is padded."""
    if mask is not None and mask.ndim == 2:
        return (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -length:]
    past = cache.get_seq_length() if cache is not None else 0
    return torch.arange(past, past + length, device=device).unsqueeze(0)
