"""`NanoShape` as a transformers configuration. Apart from the model: transformers' auto classes ask for it first."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from transformers import PretrainedConfig

from q_align.models.nano.shape import NanoShape


class NanoConfig(PretrainedConfig):
    """`NanoShape` as a transformers configuration; further keys are transformers' own."""

    model_type = "q_align_nano"

    def __init__(self, vocab_size: int = 512, **kwargs: Any):
        known = {f.name for f in fields(NanoShape)}
        shape = NanoShape.from_dict({"vocab_size": vocab_size, **{k: v for k, v in kwargs.items() if k in known}})
        for name in known:
            value = getattr(shape, name)
            setattr(self, name, list(value) if isinstance(value, tuple) else value)
        super().__init__(**{k: v for k, v in kwargs.items() if k not in known})

    @property
    def shape(self) -> NanoShape:
        return NanoShape.from_dict(self.__dict__)

    @property
    def hidden_size(self) -> int:
        return self.hidden
