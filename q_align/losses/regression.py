"""Regression losses on the predicted score, for heads without levels (and the expected level of the others)."""

from __future__ import annotations

from torch import Tensor, nn

from q_align.errors import ConfigError
from q_align.losses.base import Prediction, Targets, loss, value_of


@loss("mse", needs=("value",))
def mse_loss(prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
    """Mean squared difference of predicted score and MOS, on the level scale."""
    return {"mse": (value_of(prediction) - targets.mos).square().mean()}


@loss("huber", needs=("value",))
def huber_loss(prediction: Prediction, targets: Targets, *, delta: float = 1.0) -> dict[str, Tensor]:
    """Half the squared difference up to `delta` on the level scale, linear beyond: rows with a wild MOS weigh less."""
    if delta <= 0:
        raise ConfigError(f"option delta of loss 'huber' must be > 0, got {delta} (loss.options)")
    return {"huber": nn.functional.huber_loss(value_of(prediction), targets.mos, delta=delta)}
