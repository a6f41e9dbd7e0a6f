"""Several losses at once: a weighted sum, with every part still visible by name.

Knows tensors only.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from q_align.losses.base import Loss, Prediction, Targets


def blend(losses: Mapping[str, Loss], weights: Mapping[str, float]) -> Loss:
    """The weighted terms of all losses; their sum is what is minimised.

    Args:
        losses: name -> loss.
        weights: name -> factor of all its terms.
    """

    def blended(prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
        return {
            term: weights[name] * value
            for name, loss in losses.items()
            for term, value in loss(prediction, targets).items()
        }

    return blended
