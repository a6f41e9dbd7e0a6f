"""The vision transformer of mPLUG-Owl2: frames -> class and patch tokens, all of which go on to the abstractor.

Parameter names are the published ones. Knows no text and no language model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from q_align.models.mplug_owl2.attend import attend
from q_align.models.mplug_owl2.configuration import MPLUGOwl2Config, VisionShape


class VisionEmbeddings(nn.Module):
    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.hidden_size))
        self.patch_embed = nn.Conv2d(
            shape.num_channels, shape.hidden_size, kernel_size=shape.patch_size, stride=shape.patch_size, bias=False
        )
        self.position_embedding = nn.Parameter(torch.zeros(1, shape.tokens, shape.hidden_size))
        self.pre_layernorm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(F, 3, S, S) -> (F, N, Hv), the class token first."""
        patches = self.patch_embed(pixel_values.to(self.patch_embed.weight.dtype)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        return self.pre_layernorm(tokens + self.position_embedding)


class VisionAttention(nn.Module):
    is_causal = False

    def __init__(self, config: MPLUGOwl2Config) -> None:
        super().__init__()
        shape = config.vision
        self.config = config
        self.num_heads = shape.num_attention_heads
        self.query_key_value = nn.Linear(shape.hidden_size, 3 * shape.hidden_size)
        self.dense = nn.Linear(shape.hidden_size, shape.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        qkv = self.query_key_value(hidden)
        # the output features are laid out (heads, 3, head_dim)
        qkv = qkv.unflatten(-1, (self.num_heads, 3, -1)).transpose(1, 2)  # (F, heads, N, 3, head_dim)
        query, key, value = qkv.unbind(3)
        return self.dense(attend(self, query, key, value))


class VisionMLP(nn.Module):
    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.fc1 = nn.Linear(shape.hidden_size, shape.intermediate_size)
        self.fc2 = nn.Linear(shape.intermediate_size, shape.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.fc2(quick_gelu(self.fc1(hidden)))


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), written as SiLU: one tensor kept for the backward pass instead of two.

    Without gradients in the memory of x: fresh pages cost a CPU more than the arithmetic.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        return nn.functional.silu(x * 1.702) * (1 / 1.702)
    return nn.functional.silu(x.mul_(1.702), inplace=True).mul_(1 / 1.702)


class VisionLayer(GradientCheckpointingLayer):
    def __init__(self, config: MPLUGOwl2Config) -> None:
        super().__init__()
        shape = config.vision
        self.self_attn = VisionAttention(config)
        self.input_layernorm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)
        self.mlp = VisionMLP(shape)
        self.post_attention_layernorm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.self_attn(self.input_layernorm(hidden))
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class VisionEncoder(nn.Module):
    def __init__(self, config: MPLUGOwl2Config) -> None:
        super().__init__()
        self.layers = nn.ModuleList(VisionLayer(config) for _ in range(config.vision.num_hidden_layers))

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class VisionModel(nn.Module):
    def __init__(self, config: MPLUGOwl2Config) -> None:
        super().__init__()
        shape = config.vision
        self.embeddings = VisionEmbeddings(shape)
        self.encoder = VisionEncoder(config)
        self.post_layernorm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """F frames (F, 3, S, S), normalised -> (F, N, Hv)."""
        return self.post_layernorm(self.encoder(self.embeddings(pixel_values)))
