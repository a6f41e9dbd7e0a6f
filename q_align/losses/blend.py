"""Several losses at once: a weighted sum, with every part still visible by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from q_align.losses.base import Loss, Prediction, Targets


def blend(losses: Sequence[Loss], weights: Mapping[str, float]) -> Loss:
    """The weighted terms of all losses; their sum is minimised.

    Args:
        losses: that are added up.
        weights: name of a loss -> factor of its terms.
    """

    def blended(prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
        return {term: weights[one.name] * value for one in losses for term, value in one(prediction, targets).items()}

    needs = tuple(dict.fromkeys(need for one in losses for need in one.needs))
    return Loss("blend", blended, needs, max(one.group_size for one in losses))
