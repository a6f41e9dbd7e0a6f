"""A backbone: a model, the encoder that feeds it, and the card that says how it was taught. Loads and saves all three.

Knows no loss, no data set, no scoring loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q_align.errors import CheckpointError, nearest
from q_align.model.card import FILE, ModelCard
from q_align.model.encode import Encoder
from q_align.model.families import FAMILIES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Names that stand for checkpoints inside the package.
PACKAGED = ("nano",)


@dataclass(slots=True)
class Backbone:
    """Attributes:
    model: a plain `PreTrainedModel` whose forward takes `logits_to_keep`.
    encoder: see `q_align.model.encode.Encoder`.
    card: see `q_align.model.card.ModelCard`.
    """

    model: PreTrainedModel
    encoder: Encoder
    card: ModelCard

    @classmethod
    def from_pretrained(
        cls, path: str | Path = "nano", *, dtype: str = "float32", card: ModelCard | None = None, **options: Any
    ) -> Backbone:
        """Loads a checkpoint.

        Args:
            path: a folder with `q_align.json`, or "nano" for the embedded model.
            dtype: "float32", "bfloat16" or "float16".
            card: replaces the folder's own (`read_card`), when other levels or questions are to be taught.
            options: forwarded whole to the family's loader (`attn`, `device_map`, `quantize`).

        Raises:
            CheckpointError: when the folder does not exist, has no `q_align.json`, or names an unknown family.
        """
        folder = locate(path)
        card = card or read_card(path)
        if card.family not in FAMILIES:
            raise CheckpointError(f"{folder / FILE}: unknown family {card.family!r}{nearest(card.family, FAMILIES)}")
        model, encoder = import_module(FAMILIES[card.family].module).load(folder, card, dtype=dtype, **options)
        return cls(model, encoder, card)

    def save(self, path: str | Path) -> None:
        """Writes weights, tokenizer and card into one folder that `from_pretrained` reads."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder)
        self.encoder.save(folder)
        self.card.save(folder)


def read_card(path: str | Path) -> ModelCard:
    """The card of a checkpoint, without loading its weights."""
    return ModelCard.load(locate(path))


def locate(path: str | Path) -> Path:
    """The folder that a model's name stands for.

    Raises:
        CheckpointError: when there is none.
    """
    if str(path) in PACKAGED:
        return Path(str(resources.files("q_align.model"))) / str(path) / "weights"
    folder = Path(path)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such model folder")
    return folder
