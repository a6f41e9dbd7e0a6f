"""A loss of your own: a pair of items that raters order must be ordered by the model too, by at least a margin.

    export PYTHONPATH=examples Q_ALIGN_PLUGINS=margin_loss
    q-align train --config nano --data.train labels.csv --train.output_dir runs/margin \\
        --loss.name margin --loss.options.margin '{margin: 0.3}'

Blended with another loss: --loss.name blend --loss.weights '{soft: 1, margin: 0.5}'
"""

from __future__ import annotations

from torch import Tensor

from q_align.losses import Prediction, Targets, loss


# needs: what is read of the prediction; "value" is offered by level words and by a regression head alike.
# group_size 2: a batch should hold at least two items of one data set, whose ratings can be compared.
@loss("margin", needs=("value",), group_size=2)
def margin_loss(prediction: Prediction, targets: Targets, *, margin: float = 0.5) -> dict[str, Tensor]:
    """Margin ranking loss, max(0, margin - (predicted gap) * sign(rated gap)), averaged over the ordered pairs.

    Args:
        margin: on the level scale; set by loss.options.
    """
    assert prediction.value is not None  # (B,), because of `needs`
    predicted = prediction.value[:, None] - prediction.value[None, :]  # (B, B)
    rated = targets.mos[:, None] - targets.mos[None, :]
    pairs = (targets.source[:, None] == targets.source[None, :]) & (rated > 0)
    if not pairs.any():  # still attached to the graph, so that the step can be taken
        return {"margin": prediction.value.sum() * 0.0}
    return {"margin": (margin - predicted[pairs]).clamp_min(0).mean()}
