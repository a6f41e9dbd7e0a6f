"""Head: a linear regression on the last hidden state, where the answer would begin; no words are read.

The usual baseline of other frameworks. The model's own output layer is left in place and bypassed: a hook gives the
head's value where logits would be, so that every family, data-parallel wrapper and sharding engine sees one forward.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from q_align.errors import CheckpointError
from q_align.losses.base import Offer, Prediction
from q_align.readout.base import NO_NUMBER, READOUTS, PlainReadout
from q_align.readout.level_words import answer_logits
from q_align.types import Score, Turn

NAME = "rating_head"
FILE = f"{NAME}.safetensors"
CARD = "q_align.json"


class RatingHead(nn.Module):
    """(..., H) last hidden state -> (..., 1): the value in half ranges from the centre of the scale, in float32."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, hidden, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(1, dtype=torch.float32))
        nn.init.normal_(self.weight, std=0.1 / math.sqrt(hidden))

    def forward(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return nn.functional.linear(hidden.float(), self.weight.float(), self.bias.float())


@READOUTS.register("head")
class Head(PlainReadout):
    """See `q_align.readout.base.Readout`. Values are on the level scale and may exceed its ends slightly."""

    kind = "head"
    offers: frozenset[Offer] = frozenset({"value"})
    module = NAME

    def encode(
        self, turns: Sequence[Turn], mos: np.ndarray | None = None, *, validating: bool = False
    ) -> dict[str, Any]:
        return self.encoder(turns)  # the stem is the end of the sequence, in training too

    def read(self, model: nn.Module, batch: Mapping[str, Any]) -> Prediction:
        out = answer_logits(model, batch, 1)[:, -1, 0].float()  # (B,)
        low, high = self.levels.low, self.levels.high
        return Prediction(value=(low + high) / 2 + out * ((high - low) / 2))

    def rows(self, prediction: Prediction) -> Tensor:
        assert prediction.value is not None
        return prediction.value.unsqueeze(-1)

    def values(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows, dtype=np.float64)[:, 0]

    def to_score(self, id: str, row: Tensor) -> Score:
        value = float(row[0])
        if not math.isfinite(value):
            return Score(id, error=NO_NUMBER)
        return Score(id, value=value, level=self.levels.words[int(self.levels.hard(value))])

    def attach(self, model: nn.Module, folder: Path | None) -> None:
        output = _output_layer(model)
        head = RatingHead(_width(output)).to(output.weight.device)
        model.add_module(NAME, head)
        if folder is not None:
            self.load(model, folder)
        output.register_forward_hook(partial(_rate, model))
        tied = any(output.weight is other.weight for other in model.modules() if isinstance(other, nn.Embedding))
        if not tied:  # nothing depends on it: data-parallel training would wait for its gradient
            output.requires_grad_(False)

    def load(self, model: nn.Module, folder: Path) -> None:
        """See `Readout.load`.

        Raises:
            CheckpointError: when the file is missing or does not fit the model.
        """
        from safetensors.torch import load_file

        file = folder / FILE
        if not file.is_file():
            raise CheckpointError(f"{folder}: no {FILE}, the weights of the regression head that {CARD} names")
        try:
            find_module(model, NAME).load_state_dict(load_file(file))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{file}: the head does not fit this model ({reason})") from error

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Readout.save`; names in `state` may carry a wrapper's prefix."""
        from safetensors.torch import save_file

        mine = {name: value for name, value in state.items() if f"{NAME}." in name}
        weights = {name.rpartition(f"{NAME}.")[2]: value.cpu().contiguous() for name, value in mine.items()}
        save_file(weights, folder / FILE)
        return {name: value for name, value in state.items() if name not in mine}


def find_module(model: nn.Module, name: str) -> nn.Module:
    """The module of that name, however deep wrappers have put it."""
    return next(module for path, module in model.named_modules() if path.rpartition(".")[2] == name)


def _rate(model: nn.Module, layer: nn.Module, args: tuple[Tensor, ...], logits: Tensor) -> Tensor:
    """The head's value in place of the logits; looked up at each call, as wrappers may put another module there."""
    value: Tensor = getattr(model, NAME)(args[0])
    return value


def _output_layer(model: nn.Module) -> Any:
    getter = getattr(model, "get_output_embeddings", None)
    layer = getter() if getter is not None else getattr(model, "lm_head", None)
    if layer is None:
        raise CheckpointError(f"{type(model).__name__} has no output layer that a head could take the input of")
    return layer


def _width(layer: Any) -> int:
    return int(getattr(layer, "in_features", None) or layer.weight.shape[-1])
