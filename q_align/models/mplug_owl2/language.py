"""The language model of mPLUG-Owl2: LLaMA with two branches of keys, values and input norms, one for each modality.

Branch 0 is text, branch 1 is visual; queries, output projection, MLP and the final norm are shared. Knows embeddings
and a route; no images and no tokenizer.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import Cache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm, apply_rotary_pos_emb

from q_align.models.mplug_owl2.attend import attend
from q_align.models.mplug_owl2.configuration import BRANCHES, MPLUGOwl2Config
from q_align.models.mplug_owl2.route import Route


class Multiway(nn.Module):
    """One module per modality; the caller runs each on its own tokens."""

    def __init__(self, modules: list[nn.Module]) -> None:
        super().__init__()
        self.multiway = nn.ModuleList(modules)

    def forward(self, text: Tensor, visual: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return self.multiway[0](text), None if visual is None else self.multiway[1](visual)


class OwlAttention(nn.Module):
    is_causal = True

    def __init__(self, config: MPLUGOwl2Config, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.hidden_size // config.num_attention_heads
        keys = config.num_key_value_heads or config.num_attention_heads
        self.num_key_value_groups = config.num_attention_heads // keys
        hidden, bias = config.hidden_size, config.attention_bias
        self.q_proj = nn.Linear(hidden, config.num_attention_heads * self.head_dim, bias=bias)
        self.k_proj = Multiway([nn.Linear(hidden, keys * self.head_dim, bias=bias) for _ in range(BRANCHES)])
        self.v_proj = Multiway([nn.Linear(hidden, keys * self.head_dim, bias=bias) for _ in range(BRANCHES)])
        self.o_proj = nn.Linear(config.num_attention_heads * self.head_dim, hidden, bias=bias)

    def forward(
        self,
        hidden: Tensor,
        parts: tuple[Tensor, Tensor | None],
        route: Route | None,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: Cache | None,
        **kwargs: Any,
    ) -> Tensor:
        """(B, T, H) -> (B, T, H); `parts` are the same tokens, split by modality."""
        query = self._heads(self.q_proj(hidden))
        key = self._heads(_join(route, self.k_proj(*parts), hidden))
        value = self._heads(_join(route, self.v_proj(*parts), hidden))
        query, key = apply_rotary_pos_emb(query, key, *rotary)
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        dropout = self.config.attention_dropout if self.training else 0.0
        return self.o_proj(attend(self, query, key, value, mask, dropout=dropout, **kwargs))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, heads, T, head_dim)


class OwlDecoderLayer(GradientCheckpointingLayer):
    def __init__(self, config: MPLUGOwl2Config, layer_idx: int) -> None:
        super().__init__()
        self.self_attn = OwlAttention(config, layer_idx)
        self.mlp = LlamaMLP(config)
        self.input_layernorm = Multiway(_norms(config))
        self.post_attention_layernorm = Multiway(_norms(config))

    def forward(
        self,
        hidden: Tensor,
        route: Route | None = None,
        rotary: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> Tensor:
        assert rotary is not None
        parts = self.input_layernorm(*_split(route, hidden))
        normed = _join(route, parts, hidden)
        hidden = hidden + self.self_attn(normed, parts, route, rotary, mask, past_key_values, **kwargs)
        normed = _join(route, self.post_attention_layernorm(*_split(route, hidden)), hidden)
        return hidden + self.mlp(normed)


def _norms(config: MPLUGOwl2Config) -> list[nn.Module]:
    return [LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps) for _ in range(BRANCHES)]


def _split(route: Route | None, x: Tensor) -> tuple[Tensor, Tensor | None]:
    return (x, None) if route is None else route.split(x)


def _join(route: Route | None, parts: tuple[Tensor, Tensor | None], like: Tensor) -> Tensor:
    text, visual = parts
    if route is None:
        return text
    assert visual is not None
    return route.join(text, visual, like)
