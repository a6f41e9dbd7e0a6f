"""A backbone: a model, its encoder, its readout, and the card that describes them. Loads and saves all of them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from importlib import import_module, resources
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q_align.errors import CheckpointError, ConfigError, nearest
from q_align.file_modes import apply_umask
from q_align.models.card import FILE, ModelCard
from q_align.models.catalog import builtin_card, find_checkpoint, hub_id, short_names
from q_align.models.families import family_of
from q_align.models.model_page import save_card
from q_align.models.peft import CONFIG as ADAPTER
from q_align.models.peft import is_adapter, load_adapter
from q_align.readout import Encoder, Readout, make_readout

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from q_align.types import MediaSpec

# Names of checkpoints inside the package.
PACKAGED = ("nano",)


@dataclass(slots=True)
class Backbone:
    """Attributes:
    model: a plain `PreTrainedModel` whose forward takes `logits_to_keep`.
    encoder: see `q_align.readout.encoder.Encoder`.
    card: see `q_align.models.card.ModelCard`.
    readout: how answers are written and read; see `q_align.readout.base.Readout`.
    """

    model: PreTrainedModel
    encoder: Encoder
    card: ModelCard
    readout: Readout

    @classmethod
    def join(cls, model: Any, encoder: Encoder, card: ModelCard, folder: Path | None = None) -> Backbone:
        """Puts the pieces together: the readout of the card, with its own weights from `folder` where it has any."""
        card = dataclasses.replace(card, prompt=encoder.prompt)
        readout = make_readout(card.readout, encoder, card.all_stems())
        readout.attach(model, folder)
        return cls(model, encoder, card, readout)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path = "nano",
        *,
        dtype: str = "float32",
        card: ModelCard | None = None,
        base: str | Path | None = None,
        merge: bool = True,
        only_score: bool = False,
        own: Path | None = None,
        **options: Any,
    ) -> Backbone:
        """Loads a checkpoint.

        Args:
            path: a folder with `q_align.json` or in a published layout, a published checkpoint by its hub id or short
                name ("q-future/one-align", "one-align"), or "nano" for the embedded model.
            dtype: "float32", "bfloat16" or "float16".
            card: replaces the folder's own (`read_card`), to train other levels, questions or another readout.
            base: the model under an adapter, where it is no longer at the place that the adapter names.
            merge: add an adapter to the weights of its base; False keeps it apart (to train it further).
            only_score: the model will not be trained or saved; some families load faster then (`Family.scoring`).
            own: folder with the readout's own weights, where it is not `path`: that of an adapter over it.
            options: forwarded whole to the family's loader (`attn`, `device_map`, `quantize`).

        Raises:
            CheckpointError: when the folder does not exist, is no model that we know, or does not hold all weights.
            ConfigError: for options that the family's loader does not have.
            LevelTokenError: when the level words are not single, distinct tokens.
        """
        folder = locate(path)
        card = card or read_card(path)
        if is_adapter(folder):
            under = cls.from_pretrained(base or _base_of(folder, card), dtype=dtype, card=card, own=folder, **options)
            return dataclasses.replace(under, model=load_adapter(under.model, folder, merge=merge))
        own = own or folder
        family = family_of(card.family)
        if only_score:
            options = {**family.scoring, **options}
        load = import_module(family.module).load
        known = signature(load).parameters
        extra = [name for name in options if name not in known]
        if extra and not any(one.kind is one.VAR_KEYWORD for one in known.values()):
            raise ConfigError(f"models of family {card.family!r} have no option {', '.join(extra)}; leave it out")
        model, encoder = load(folder, card, dtype=dtype, **options)
        return cls.join(model, encoder, card, own if _same_kind(own, card) else None)

    def save(self, path: str | Path) -> None:
        """Writes weights, tokenizer, card and its README.md into one folder that `from_pretrained` reads."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(self.model, self.readout, folder)
        self.encoder.save(folder)
        save_card(self.card, folder)
        apply_umask(folder)


def save_weights(model: Any, readout: Readout, folder: Path, **options: Any) -> None:
    """Writes a model's weights, and those of its readout beside them.

    Args:
        model: a `PreTrainedModel`, or one with adapters.
        readout: of the model.
        folder: of the checkpoint.
        options: forwarded whole to `save_pretrained`.
    """
    if readout.module:
        options["state_dict"] = readout.save(folder, model.state_dict())
    model.save_pretrained(folder, **options)


def read_card(path: str | Path) -> ModelCard:
    """The card of a checkpoint, without loading its weights.

    The folder's own `q_align.json`, else the built-in card of a published checkpoint, else what its family makes of a
    folder in a published layout.

    Raises:
        CheckpointError: when the folder is no model that we know.
    """
    folder = locate(path)
    if (folder / FILE).is_file():
        return ModelCard.load(folder)
    known = builtin_card(path) or builtin_card(folder)
    if known is not None:
        return known
    config = folder / "config.json"
    if config.is_file():
        kind = str(json.loads(config.read_text(encoding="utf-8")).get("model_type"))
        published = getattr(import_module(family_of(kind).module), "published", None)
        card = published(folder) if published else None
        if card is not None:
            return card
    if is_adapter(folder):
        return dataclasses.replace(read_card(_base_of(folder, None)), base=str(_base_of(folder, None)))
    return ModelCard.load(folder)  # raises with what is missing


def _same_kind(folder: Path, card: ModelCard) -> bool:
    """Whether a folder's own readout is of the card's kind: only then are its weights those that the card means."""
    return (folder / FILE).is_file() and ModelCard.load(folder).readout.kind == card.readout.kind


def opening_spec(card: ModelCard) -> MediaSpec:
    """How images and videos are opened for a card's model (`Encoder.opens`), without loading it."""
    opens = getattr(import_module(family_of(card.family).module), "opens", None)
    return opens(card.media) if opens is not None else card.media


def locate(path: str | Path) -> Path:
    """The folder of a model's name; a published checkpoint is downloaded where it is not in the cache.

    Raises:
        CheckpointError: when there is none.
        DownloadError: when a published checkpoint cannot be downloaded.
    """
    if str(path) in PACKAGED:
        return Path(str(resources.files("q_align.models"))) / str(path) / "weights"
    folder = Path(path)
    if folder.is_dir():
        return folder
    if hub_id(path):
        return find_checkpoint(str(path))
    raise CheckpointError(f"{folder}: no such model folder{nearest(str(path), (*PACKAGED, *short_names()))}")


def _base_of(folder: Path, card: ModelCard | None) -> str | Path:
    """The base that an adapter names: in its card, or as the peft library wrote it; a folder, a hub id or "nano"."""
    written = json.loads((folder / ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
    names = [name for name in (card.base if card else None, written) if name]
    for name in names:
        for candidate in (Path(name), folder / name):
            if candidate.is_dir():
                return candidate
        if name in PACKAGED or hub_id(name):
            return name
    raise CheckpointError(
        f"{folder}: an adapter whose base is not found (looked for {', '.join(names) or 'no name'}); "
        f"give its folder: Backbone.from_pretrained(path, base=...)"
    )
