"""nano: a small multimodal model inside the package, which trains on a CPU and loads in a fraction of a second.

A convolutional vision encoder, a connector, and a causal decoder over text tokens: the same parts, prompts and training
as every larger family. Its scores are a demonstration of the package, and a base for fine-tuning on small sets.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from q_align.errors import CheckpointError, ConfigError
from q_align.models.card import ModelCard
from q_align.models.nano.encoder import PROMPT, NanoEncoder
from q_align.models.nano.shape import NanoShape
from q_align.models.nano.tokenizer import make_tokenizer
from q_align.models.nano.weights_header import check_sizes

if TYPE_CHECKING:
    from q_align.models.backbone import Backbone

__all__ = ["build", "load"]

# Width of the tone branch of new networks. `NanoShape` defaults to 0: a config.json without the key has no such branch.
TONES = 32


def build(seed: int = 0, **overrides: Any) -> Backbone:
    """A nano model with random weights.

    Args:
        seed: of the weights; the same seed gives the same weights.
        overrides: fields of `NanoShape` that differ from their defaults.
    """
    from q_align.models.backbone import Backbone
    from q_align.models.nano.configuration import NanoConfig
    from q_align.models.nano.pretrained import NanoForRating

    card = ModelCard(family="nano", tasks=("iqa", "iaa", "vqa"), prompt=PROMPT)
    tokenizer = make_tokenizer()
    config = NanoConfig(**{"vocab_size": tokenizer.get_vocab_size(), "tones": TONES, **overrides})
    encoder = NanoEncoder(tokenizer, tile=config.tile, tokens=config.pool**2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = NanoForRating(config)
    return Backbone.join(model.eval(), encoder, card)


def load(
    path: str | Path,
    card: ModelCard,
    *,
    dtype: str = "float32",
    attn: str | None = None,
    device_map: Any = None,
    quantize: str | None = None,
    bare: bool = False,
) -> tuple[Any, NanoEncoder]:
    """Loads a checkpoint folder.

    Args:
        path: folder with config.json, model.safetensors and tokenizer.json.
        card: its `q_align.json`.
        dtype: of the weights in memory.
        attn, device_map, quantize: for larger models; nano always uses torch's scaled dot product attention.
        bare: gives the network as a plain `nn.Module` with the same forward and the same scores instead of a
            `PreTrainedModel`: for scoring, where importing transformers would take longer than the work.

    Raises:
        CheckpointError: when a file is missing or does not fit.
        ConfigError: for an option that nano does not have.
    """
    for name, value in {"device_map": device_map, "quantize": quantize}.items():
        if value is not None:
            raise ConfigError(f"nano has no {name}, it is small enough; leave out {name}={value!r}")
    folder = Path(path)
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: no {name}; write checkpoints with q-align train or Backbone.save")
    shape = NanoShape.from_dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise CheckpointError(f"{folder}: no model.safetensors")
    check_sizes(shape, weights)
    model = _bare(weights, shape, dtype) if bare else _pretrained(folder, dtype)
    # channels last is what CPU convolutions run fastest in
    model.vision.to(memory_format=torch.channels_last)
    encoder = NanoEncoder.load(folder, prompt=card.prompt, media=card.media, tile=shape.tile, tokens=shape.pool**2)
    return model.eval(), encoder


def _bare(weights: Path, shape: NanoShape, dtype: str) -> Any:
    from safetensors.torch import load_file

    from q_align.models.nano.network import NanoNetwork
    from q_align.models.nano.vision import fold_normalisation

    # not on the meta device: its random numbers import the compiler, which takes longer than making these few
    with torch.random.fork_rng(devices=[]):
        model = NanoNetwork(shape)
    state = {name: value.to(getattr(torch, dtype)) for name, value in load_file(weights).items()}
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{weights}: does not fit config.json ({str(error).splitlines()[1].strip()})") from error
    fold_normalisation(model.eval().vision)
    return model


def _pretrained(folder: Path, dtype: str) -> Any:
    from q_align.models.nano.pretrained import NanoForRating

    return NanoForRating.from_pretrained(folder, dtype=getattr(torch, dtype), local_files_only=True)
