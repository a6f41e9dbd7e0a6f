"""Which tokens of a batch are visual, as the two-branch ("multiway") modules need it: split a batch, join it again.

Each branch runs on its own tokens only. Where every row has its one visual span at the same place (one prompt, equal
frame counts: the usual batch) the parts are slices; ragged batches fall back to one index per forward, shared by all
layers. Knows a mask; no module and no weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Route:
    """Attributes:
    span: [start, end) of the visual tokens in every row, or None where rows differ.
    text, visual: indices into the (B * T) tokens where rows differ.
    back: permutation that brings `cat(text, visual)` back into order.
    """

    span: tuple[int, int] | None = None
    text: Tensor | None = None
    visual: Tensor | None = None
    back: Tensor | None = None

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, H) -> the text tokens and the visual tokens, (B, n, H) each, or (n, H) where rows differ."""
        if self.span is not None:
            start, end = self.span
            return torch.cat([x[:, :start], x[:, end:]], dim=1), x[:, start:end]
        flat = x.flatten(0, 1)
        assert self.text is not None and self.visual is not None
        return flat[self.text.to(x.device)], flat[self.visual.to(x.device)]

    def join(self, text: Tensor, visual: Tensor, like: Tensor) -> Tensor:
        """The inverse of `split`, for any number of features: -> (B, T, features), B and T of `like`."""
        if self.span is not None:
            start = self.span[0]
            return torch.cat([text[:, :start], visual, text[:, start:]], dim=1)
        assert self.back is not None
        return torch.cat([text, visual])[self.back.to(text.device)].unflatten(0, like.shape[:2])


def find_route(mask: Tensor) -> tuple[Route | None, int]:
    """The route of a batch and its number of visual tokens; no route where all tokens are text.

    Args:
        mask: (B, T) bool, true at visual tokens. It is looked at on the CPU, before any heavy work is queued.
    """
    visual = mask.cpu()
    count = int(visual.sum())
    if count == 0:
        return None, 0
    rows, length = visual.shape
    columns = visual[0].nonzero().squeeze(1)
    if len(columns):
        start, end = int(columns[0]), int(columns[-1]) + 1
        if end - start == len(columns) and bool((visual == visual[0]).all()) and end - start < length:
            return Route(span=(start, end)), count
    flat = visual.flatten()
    order = torch.cat([(~flat).nonzero().squeeze(1), flat.nonzero().squeeze(1)])
    text, seen = order.split([rows * length - count, count])
    return Route(None, *(t.to(mask.device) for t in (text, seen, order.argsort()))), count
