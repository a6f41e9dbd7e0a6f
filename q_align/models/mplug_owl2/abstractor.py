"""The visual abstractor: learnable queries read the vision tokens of a frame and become Q + 1 language tokens.

Three traps, all checked against reference numbers: the residual base is the *normed* query; positions are added to
queries and keys but never to values; the position tables are buffers of the checkpoint, not recomputed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from q_align.models.mplug_owl2.attend import attend
from q_align.models.mplug_owl2.configuration import AbstractorShape, MPLUGOwl2Config

# Only ffn_ln takes the config's eps; the published program leaves the other norms at torch's default.
NORM_EPS = 1e-5


class AbstractorAttention(nn.Module):
    is_causal = False
    q_pos_embed: Tensor
    k_pos_embed: Tensor

    def __init__(self, config: MPLUGOwl2Config) -> None:
        super().__init__()
        shape = config.abstractor
        self.config = config
        self.num_heads = shape.num_attention_heads
        self.query = nn.Linear(shape.hidden_size, shape.hidden_size)
        self.key = nn.Linear(shape.encoder_hidden_size, shape.hidden_size)
        self.value = nn.Linear(shape.encoder_hidden_size, shape.hidden_size)
        queries, tokens = shape.num_learnable_queries, config.vision.tokens
        self.register_buffer("q_pos_embed", sincos_1d(shape.hidden_size, queries))
        self.register_buffer("k_pos_embed", sincos_2d(shape.encoder_hidden_size, tokens))

    def forward(self, query: Tensor, both: Tensor) -> Tensor:
        """Queries (F, Q, Ha); both = queries and vision tokens (F, Q + N, Ha) -> (F, Q, Ha)."""
        # a model loaded in half precision keeps its buffers in the precision of the file
        q_pos, k_pos = self.q_pos_embed.to(both.dtype), self.k_pos_embed.to(both.dtype)
        key = both + torch.cat([q_pos, k_pos])
        return attend(
            self, self._heads(self.query(query + q_pos)), self._heads(self.key(key)),
            self._heads(self.value(both)),
        )  # fmt: skip

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (F, heads, length, head_dim)


class AbstractorMLP(nn.Module):
    def __init__(self, shape: AbstractorShape) -> None:
        super().__init__()
        self.w1 = nn.Linear(shape.hidden_size, shape.intermediate_size)
        self.w2 = nn.Linear(shape.intermediate_size, shape.hidden_size)
        self.w3 = nn.Linear(shape.hidden_size, shape.intermediate_size)
        self.ffn_ln = nn.LayerNorm(shape.intermediate_size, eps=shape.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(self.ffn_ln(nn.functional.silu(self.w1(x)) * self.w3(x)))


class AbstractorOutput(nn.Module):
    def __init__(self, shape: AbstractorShape) -> None:
        super().__init__()
        self.out_proj = nn.Linear(shape.hidden_size, shape.hidden_size)
        self.norm2 = nn.LayerNorm(shape.hidden_size, eps=NORM_EPS)
        self.mlp = AbstractorMLP(shape)

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        x = query + self.out_proj(context)
        return x + self.mlp(self.norm2(x))


class CrossAttention(nn.Module):
    def __init__(self, config: MPLUGOwl2Config) -> None:
        super().__init__()
        shape = config.abstractor
        self.attention = AbstractorAttention(config)
        self.output = AbstractorOutput(shape)
        self.norm1 = nn.LayerNorm(shape.hidden_size, eps=NORM_EPS)
        self.normk = nn.LayerNorm(shape.encoder_hidden_size, eps=NORM_EPS)

    def forward(self, query: Tensor, vision: Tensor) -> Tensor:
        query = self.norm1(query)
        both = torch.cat([query, self.normk(vision)], dim=1)
        return self.output(query, self.attention(query, both))  # the residual base is the normed query


class AbstractorLayer(GradientCheckpointingLayer):
    def __init__(self, config: MPLUGOwl2Config) -> None:
        super().__init__()
        self.crossattention = CrossAttention(config)

    def forward(self, query: Tensor, vision: Tensor) -> Tensor:
        return self.crossattention(query, vision)


class AbstractorEncoder(nn.Module):
    def __init__(self, config: MPLUGOwl2Config) -> None:
        super().__init__()
        self.layers = nn.ModuleList(AbstractorLayer(config) for _ in range(config.abstractor.num_hidden_layers))

    def forward(self, query: Tensor, vision: Tensor) -> Tensor:
        for layer in self.layers:
            query = layer(query, vision)
        return query


class VisualAbstractor(nn.Module):
    def __init__(self, config: MPLUGOwl2Config) -> None:
        super().__init__()
        shape = config.abstractor
        self.encoder = AbstractorEncoder(config)
        self.visual_fc = nn.Linear(shape.hidden_size, config.hidden_size)
        self.query_embeds = nn.Parameter(torch.zeros(1, shape.num_learnable_queries, shape.hidden_size))
        self.vit_eos = nn.Parameter(torch.zeros(1, 1, config.hidden_size))

    def forward(self, vision: Tensor) -> Tensor:
        """Vision tokens (F, N, Hv) -> language tokens (F, Q + 1, H), `vit_eos` last."""
        frames = len(vision)
        tokens = self.visual_fc(self.encoder(self.query_embeds.expand(frames, -1, -1), vision))
        return torch.cat([tokens, self.vit_eos.expand(frames, -1, -1)], dim=1)


def sincos_1d(width: int, length: int) -> Tensor:
    """Sine-cosine table (length, width) of positions 0..length-1, for a model that starts untrained."""
    return _sincos(width, torch.arange(length, dtype=torch.float64)).float()


def sincos_2d(width: int, tokens: int) -> Tensor:
    """The same over a square grid, half of the width per axis, the class token's row zero: (tokens, width)."""
    side = round((tokens - 1) ** 0.5)
    rows, columns = torch.meshgrid(*[torch.arange(side, dtype=torch.float64)] * 2, indexing="ij")
    table = torch.cat([_sincos(width // 2, columns.flatten()), _sincos(width // 2, rows.flatten())], dim=1)
    return torch.cat([torch.zeros(1, width, dtype=torch.float64), table]).float()


def _sincos(width: int, positions: Tensor) -> Tensor:
    rates = 10000.0 ** -(torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angles = positions[:, None] * rates[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)
