"""Pairwise losses: do predicted scores order, and follow, the opinions of one source?

Knows tensors only. Opinions are compared within one source; a batch should hold runs of one source
(`q_align.data.same_source_sampler`). A batch without any pair of one source gives 0, still attached to the graph.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from q_align.losses.base import Prediction, Targets

Spread = Literal["fixed", "predicted", "detached"]


def fidelity(
    prediction: Prediction, targets: Targets, *, spread: Spread = "detached", eps: float = 1e-4
) -> dict[str, Tensor]:
    """Fidelity loss over all pairs i < j of one source (Tsai et al. 2007; LIQE; DeQA-Score).

    p = Phi((mu_i - mu_j) / sqrt(s_i^2 + s_j^2)) of the model against g, the same of MOS and std of the raters;
    1 - sqrt(p g) - sqrt((1 - p)(1 - g)), in the log domain. Where a std is unknown g is 1, 1/2 or 0 by the MOS.

    Args:
        spread: s of the model: "fixed" (1, Thurstone's case V), "predicted" (the std of its level distribution), or
            "detached" (predicted, without a gradient: a model cannot lower the loss by becoming unsure).
    """
    probs = prediction.probs  # (B, K)
    mean = probs @ targets.values  # (B,)
    variance = (probs * (targets.values - mean[:, None]).square()).sum(1)
    if spread == "fixed":
        variance = torch.ones_like(variance)
    elif spread == "detached":
        variance = variance.detach()
    first, second = pairs(targets.source)
    if not len(first):
        return {"fidelity": mean.sum() * 0.0}
    # + eps: a model that is certain of both has no spread at all
    z = (mean[first] - mean[second]) / (variance[first] + variance[second] + eps).sqrt()
    log_g, log_not_g = _opinions(targets, first, second)
    log_p, log_not_p = torch.special.log_ndtr(z), torch.special.log_ndtr(-z)
    loss = 1 - (0.5 * (log_p + log_g)).exp() - (0.5 * (log_not_p + log_not_g)).exp()
    return {"fidelity": loss.mean()}


def plcc(prediction: Prediction, targets: Targets, *, eps: float = 1e-6) -> dict[str, Tensor]:
    """1 - Pearson correlation of scores and MOS within each source, averaged over the media of the batch.

    Sources with fewer than two media, or with one MOS only, have no correlation and count nothing.
    """
    score = prediction.probs @ targets.values  # (B,)
    same = (targets.source[:, None] == targets.source[None]).to(score.dtype)  # (B, B)
    same = same / same.sum(1, keepdim=True)  # rows average over a medium's own source
    score = score - same @ score
    mos = targets.mos - same @ targets.mos
    power = same @ mos.square()
    usable = power > eps
    if not usable.any():
        return {"plcc": score.sum() * 0.0}
    # + eps: sqrt has an infinite gradient at 0, which equal scores reach
    correlation = (same @ (score * mos)) / ((same @ score.square()) * power + eps).sqrt()
    return {"plcc": 1 - correlation[usable].mean()}


def pairs(source: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) sources -> indices of all pairs i < j that share one."""
    same = (source[:, None] == source[None]).triu(diagonal=1)
    first, second = same.nonzero(as_tuple=True)
    return first, second


def _opinions(targets: Targets, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """log g and log(1 - g) of each pair: the raters' probability that the first is the better one."""
    gap = targets.mos[first] - targets.mos[second]
    deviation = (targets.std[first].square() + targets.std[second].square()).sqrt()
    # Unknown or no spread: certainty by the sign of the gap; log_ndtr(+-inf) is 0 and -inf.
    certain = torch.where(gap == 0, torch.zeros_like(gap), gap.sign() * math.inf)
    z = torch.where(deviation > 0, gap / deviation, certain)
    return torch.special.log_ndtr(z), torch.special.log_ndtr(-z)
