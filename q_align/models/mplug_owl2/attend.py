"""One attention call for all three parts, through the library's attention interface (eager, SDPA, flash, ...).

Knows queries, keys and values; no projections, no positions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

# Queries per block of `blocked`: the weights of six heads over a thousand keys stay within 3 MB.
BLOCK = 256


def eager(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Plain attention with the softmax in float32: the reference the other implementations are checked against."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    weights = query @ key.transpose(2, 3) * scaling  # (B, heads, T, S)
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = nn.functional.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def blocked(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """Full attention on a CPU in half precision, a block of queries at a time: -> (B, T, heads, d).

    torch's own CPU kernel multiplies bfloat16 no faster than float32; plain matrix products reach the cores' bfloat16
    rate, and a block's weights stay in the cache. As in `eager`, the softmax sums in float32. Training keeps the
    weights for the backward pass, unless the layers are recomputed.
    """
    keys = key.transpose(2, 3)
    rows = -(-query.shape[2] // -(-query.shape[2] // BLOCK))  # blocks of equal size
    parts = [(part @ keys).softmax(-1) @ value for part in (query * scaling).split(rows, dim=2)]
    return torch.cat(parts, dim=2).transpose(1, 2)


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, **kwargs: Any
) -> Tensor:
    """Queries (B, heads, T, d) over keys and values (B, heads, S, d) -> (B, T, heads * d).

    Args:
        module: holds `config` (which names the implementation) and `is_causal`.
        mask: what `create_causal_mask` made for this implementation; None attends to everything, or causally where
            the module states it.
    """
    scaling = query.shape[-1] ** -0.5
    implementation: str = module.config._attn_implementation  # type: ignore[union-attr, assignment]
    if implementation == "sdpa" and _suits_blocks(module, query, mask):
        return blocked(query, key, value, scaling).flatten(2)
    function = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager)
    output, _ = function(module, query, key, value, mask, scaling=scaling, **kwargs)
    return output.flatten(2)


def _suits_blocks(module: nn.Module, query: Tensor, mask: Tensor | None) -> bool:
    half = query.dtype in (torch.bfloat16, torch.float16)
    return half and query.device.type == "cpu" and mask is None and not module.is_causal
