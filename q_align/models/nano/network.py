"""nano from tiles and tokens to logits. `NanoBody` is shared by the plain module and the `PreTrainedModel`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from q_align.models.nano.shape import NanoShape
from q_align.models.nano.vision import Connector, NanoVision

# Pixels that go through the convolutions together without gradients: 6 tiles take 6 ms each on a core, 48 take 10.
TOGETHER = 6 * 224 * 224


class NanoOutput(NamedTuple):
    """logits: (B, kept positions, V)."""

    logits: Tensor


class Attention(nn.Module):
    """Causal self-attention with rotary positions."""

    def __init__(self, shape: NanoShape):
        super().__init__()
        self.heads = shape.heads
        self.q_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.o_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], seen: Tensor) -> Tensor:
        # (B, heads, T, head) each
        q, k, v = (
            p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, rotation), rotate(k, rotation)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return self.o_proj(y.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Pre-norm attention and gated perceptron."""

    def __init__(self, shape: NanoShape):
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.hidden, eps=1e-6)
        self.attention = Attention(shape)
        self.mlp_norm = nn.RMSNorm(shape.hidden, eps=1e-6)
        self.gate_proj = nn.Linear(shape.hidden, shape.mlp, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.mlp, bias=False)
        self.down_proj = nn.Linear(shape.mlp, shape.hidden, bias=False)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], seen: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotation, seen)
        y = self.mlp_norm(x)
        return x + self.down_proj(F.silu(self.gate_proj(y)) * self.up_proj(y))


class Decoder(nn.Module):
    """Embedded sequence (B, T, H) -> hidden states (B, T, H)."""

    def __init__(self, shape: NanoShape):
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.hidden, eps=1e-6)
        self.head = shape.hidden // shape.heads
        self.gradient_checkpointing = False  # set by PreTrainedModel.gradient_checkpointing_enable
        self._gradient_checkpointing_func: Callable[..., Tensor] | None = None

    def forward(self, x: Tensor, attention_mask: Tensor, positions: Tensor) -> Tensor:
        rotation = rotary(positions, self.head, x.dtype)
        steps = torch.arange(x.shape[1], device=x.device)
        causal = steps[:, None] >= steps[None, :]
        # a padded query sees at least itself: an empty softmax is NaN, and NaN * 0 is NaN
        own = steps[:, None] == steps[None, :]
        seen = ((attention_mask.bool()[:, None, :] & causal) | own)[:, None]  # (B, 1, T, T)
        for layer in self.layers:
            if self.gradient_checkpointing and self.training and self._gradient_checkpointing_func is not None:
                x = self._gradient_checkpointing_func(layer.__call__, x, rotation, seen)
            else:
                x = layer(x, rotation, seen)
        return self.norm(x)


class NanoBody:
    """Modules and forward of nano; mixed into a module class that calls `assemble` once."""

    vision: NanoVision
    connector: Connector
    decoder: Decoder
    lm_head: nn.Linear

    def assemble(self, shape: NanoShape) -> None:
        self.shape = shape
        self.vision = NanoVision(shape)
        self.connector = Connector(shape)
        self.decoder = Decoder(shape)
        self.lm_head = nn.Linear(shape.hidden, shape.vocab_size, bias=False)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        tile_size: Tensor,
        tile_place: Tensor,
        logits_to_keep: int = 0,
    ) -> NanoOutput:
        """Tiles and tokens -> logits.

        Args:
            input_ids: (B, T) left-padded; each tile is pool * pool times `image_id` in it, in order.
            attention_mask: (B, T), 1 where a token is.
            pixel_values: (N, 3, S, S) all tiles of the batch, uint8 or floating 0..1, padded at right and bottom.
            tile_size: (N, 2) height and width of each tile inside its S x S.
            tile_place: (N, POSITION) position of each tile; see `q_align.models.nano.tiles`.
            logits_to_keep: run the head on so many last positions; 0: on all.
        """
        visual = self.connector(self.encode_tiles(pixel_values, tile_size), tile_place)  # (N, pool * pool, H)
        x = self.decoder.embed_tokens(input_ids)  # (B, T, H)
        here = input_ids == self.shape.image_id
        x = x.masked_scatter(here.unsqueeze(-1), visual.to(x.dtype))
        # All visual tokens share one position: their number does not shift the words, so any number of tiles is fine.
        words = (attention_mask.bool() & ~here).long()
        positions = (words.cumsum(-1) - 1).clamp_min(0)
        x = self.decoder(x, attention_mask, positions)
        return NanoOutput(self.lm_head(x[:, -logits_to_keep:] if logits_to_keep else x))

    def encode_tiles(self, pixels: Tensor, size: Tensor) -> Tensor:
        """Features of each tile; tiles of one size go through together, so that padding never enters a convolution."""
        if pixels.dtype == torch.uint8:
            pixels = pixels.to(self.lm_head.weight.dtype) / 255
        else:
            pixels = pixels.to(self.lm_head.weight.dtype)
        kinds, kind = size.unique(dim=0, return_inverse=True)
        if len(kinds) == 1:
            height, width = kinds[0].tolist()
            return self.encode_same_size(pixels[:, :, :height, :width])
        groups = [(kind == k).nonzero().squeeze(1) for k in range(len(kinds))]
        seen = [
            self.encode_same_size(pixels[rows, :, :height, :width])
            for rows, (height, width) in zip(groups, kinds.tolist(), strict=True)
        ]
        return torch.cat(seen)[torch.cat(groups).argsort()]

    def encode_same_size(self, tiles: Tensor) -> Tensor:
        """Tiles of one size -> their features; on a CPU a few at a time, as more do not fit its caches."""
        if tiles.device.type != "cpu" or torch.is_grad_enabled():
            return self.vision(tiles)
        few = max(1, TOGETHER // (tiles.shape[2] * tiles.shape[3]))
        return torch.cat([self.vision(part) for part in tiles.split(few)])


class NanoNetwork(NanoBody, nn.Module):
    """nano as a plain module, for scoring: same names, same weights, same numbers."""

    def __init__(self, shape: NanoShape):
        super().__init__()
        self.assemble(shape)

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.lm_head.weight.dtype


def rotary(positions: Tensor, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine (B, 1, T, width / 2) of the rotary angles (Su et al., RoFormer)."""
    steps = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32)
    angle = positions[:, None, :, None].float() * (10000.0 ** (-steps / width))
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = rotation
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
