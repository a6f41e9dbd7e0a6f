"""Pairwise losses: do predicted scores order, and follow, the MOS of one source?

MOS are compared within one source; a batch should hold one source (`q_align.data.same_source_sampler`). A batch in
which nothing can be compared gives 0, still attached to the graph.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from q_align.losses.base import Prediction, Targets, loss, value_of, variance_of

Std = Literal["fixed", "predicted", "detached"]
LEAST = 3  # items of a correlation: that of two is always +1 or -1


@loss("fidelity", needs=("value",), group_size=2)
def fidelity_loss(
    prediction: Prediction, targets: Targets, *, std: Std = "detached", eps: float = 1e-4
) -> dict[str, Tensor]:
    """Fidelity loss over all pairs i < j of one source (Tsai et al. 2007; LIQE; DeQA-Score).

    p = Phi((mu_i - mu_j) / sqrt(s_i^2 + s_j^2)) of the model against g, the same of MOS and std of the raters;
    1 - sqrt(p g) - sqrt((1 - p)(1 - g)), in the log domain. Where a std is unknown g is 1, 1/2 or 0 by the MOS.

    Args:
        std: s of the model: "fixed" (1, Thurstone's case V), "predicted" (the std of its level distribution), or
            "detached" (predicted, without a gradient: a model cannot lower the loss by becoming unsure). Always
            "fixed" for a model without a level distribution.
    """
    value, variance = value_of(prediction), variance_of(prediction, targets)  # (B,)
    if variance is None or std == "fixed":
        variance = torch.ones_like(value)
    elif std == "detached":
        variance = variance.detach()
    first, second = same_source_pairs(targets.source)
    if not len(first):
        return {"fidelity": value.sum() * 0.0}
    # + eps: a model that is certain of both has a variance of 0
    z = (value[first] - value[second]) / (variance[first] + variance[second] + eps).sqrt()
    log_g, log_not_g = _rated_order(targets, first, second)
    log_p, log_not_p = torch.special.log_ndtr(z), torch.special.log_ndtr(-z)
    loss = 1 - (0.5 * (log_p + log_g)).exp() - (0.5 * (log_not_p + log_not_g)).exp()
    return {"fidelity": loss.mean()}


@loss("plcc", needs=("value",), group_size=LEAST)
def plcc_loss(prediction: Prediction, targets: Targets, *, eps: float = 1e-6) -> dict[str, Tensor]:
    """1 - Pearson correlation of scores and MOS within each source, averaged over the items of the batch.

    Sources with fewer than three items, or with one MOS only, count nothing.
    """
    score = value_of(prediction)  # (B,)
    same = (targets.source[:, None] == targets.source[None]).to(score.dtype)  # (B, B)
    count = same.sum(1, keepdim=True)
    same = same / count  # rows average over an item's own source
    score = score - same @ score
    mos = targets.mos - same @ targets.mos
    power = same @ mos.square()
    usable = (power > eps) & (count[:, 0] >= LEAST)
    if not usable.any():
        return {"plcc": score.sum() * 0.0}
    # + eps: sqrt has an infinite gradient at 0, which equal scores reach
    correlation = (same @ (score * mos)) / ((same @ score.square()) * power + eps).sqrt()
    return {"plcc": 1 - correlation[usable].mean()}


def same_source_pairs(source: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) sources -> indices of all pairs i < j that share one."""
    same = (source[:, None] == source[None]).triu(diagonal=1)
    first, second = same.nonzero(as_tuple=True)
    return first, second


def _rated_order(targets: Targets, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """log g and log(1 - g) of each pair: the raters' probability that the first is the better one."""
    gap = targets.mos[first] - targets.mos[second]
    deviation = (targets.std[first].square() + targets.std[second].square()).sqrt()
    # Unknown or zero std: certainty by the sign of the gap; log_ndtr(+-inf) is 0 and -inf.
    certain = torch.where(gap == 0, torch.zeros_like(gap), gap.sign() * math.inf)
    z = torch.where(deviation > 0, gap / deviation, certain)
    return torch.special.log_ndtr(z), torch.special.log_ndtr(-z)
