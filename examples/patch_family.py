"""A model family with code of its own: linear patches in front of a small Llama, with random weights.

    export PYTHONPATH=examples Q_ALIGN_PLUGINS=patch_family
    python examples/patch_family.py runs/patch_base           # writes the untrained model
    q-align train --model.path runs/patch_base --data.train labels.csv --train.output_dir runs/patch --train.lr 1e-3
    q-align score --model runs/patch photo.jpg

A family is a module with `load` and a row in FAMILIES. A transformers image-text-to-text model needs neither.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PretrainedConfig, PreTrainedModel

from q_align.errors import LevelTokenError
from q_align.levels import WORDS
from q_align.models.backbone import Backbone
from q_align.models.card import ModelCard
from q_align.models.families import FAMILIES, Family
from q_align.readout.encoder import IGNORE, left_pad
from q_align.tasks import TASKS
from q_align.types import MediaSpec, Turn

SIDE, PATCH = 64, 16  # every frame is scaled to SIDE x SIDE pixels and cut into squares
TOKENS = (SIDE // PATCH) ** 2  # of one frame
PAD, IMAGE, END, UNKNOWN = "<pad>", "<image>", "</s>", "<unk>"

FAMILIES.register(
    "patch",
    Family(
        module="patch_family",  # offers `load`
        vision=("patches.",),  # prefixes of parameter names: model.freeze, train.lr_parts
        connector=("connector.",),
        language=("language.",),
        lora=("q_proj", "v_proj"),  # what LoRA adapts by default
    ),
)


class PatchConfig(PretrainedConfig):
    model_type = "patch"

    def __init__(self, vocab_size: int = 64, hidden_size: int = 48, layers: int = 2, **kwargs: Any) -> None:
        self.vocab_size, self.hidden_size, self.layers = vocab_size, hidden_size, layers
        super().__init__(**kwargs)


class PatchForRating(PreTrainedModel):
    """Any `PreTrainedModel` will do whose forward takes what the encoder gives, and `logits_to_keep`."""

    config_class = PatchConfig
    supports_gradient_checkpointing = True

    def __init__(self, config: PatchConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.patches = nn.Linear(3 * PATCH * PATCH, width)
        self.connector = nn.Linear(width, width)
        self.language = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=config.vocab_size,
                hidden_size=width,
                intermediate_size=2 * width,
                num_hidden_layers=config.layers,
                num_attention_heads=4,
                pad_token_id=0,
            )
        )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.language.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        return self.language.get_output_embeddings()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, patches: Tensor, image_mask: Tensor, **options: Any
    ) -> Any:
        """input_ids, attention_mask, image_mask (B, T); patches (N, 3 * PATCH * PATCH), those of all frames."""
        embedded = self.get_input_embeddings()(input_ids)  # (B, T, H)
        visual = self.connector(self.patches(patches.to(embedded.dtype)).relu())  # (N, H)
        embedded = embedded.masked_scatter(image_mask.unsqueeze(-1), visual)
        return self.language(inputs_embeds=embedded, attention_mask=attention_mask, **options)


class PatchEncoder:
    """Turns -> inputs of `PatchForRating`: see `q_align.readout.encoder.Encoder`. Picklable, runs in workers."""

    prompt = "{image}{question}{stem}"

    def __init__(self, tokenizer: Tokenizer, media: MediaSpec) -> None:
        self.tokenizer = tokenizer
        self.opens = self.stores = media

    def __call__(self, turns: Sequence[Turn]) -> dict[str, Tensor]:
        image = self.tokenizer.token_to_id(IMAGE)
        rows, answers = [], []
        for turn in turns:
            stem = self._ids(turn.stem)
            answer = [] if turn.answer is None else [*self._ids(turn.answer), *self._end]
            rows.append([image] * (TOKENS * len(turn.frames)) + self._ids(turn.question) + stem + answer)
            answers.append(stem + answer)
        ids = left_pad(rows, self.tokenizer.token_to_id(PAD))  # (B, T)
        batch = {
            "input_ids": ids,
            "attention_mask": left_pad([[1] * len(row) for row in rows], 0),
            "patches": torch.cat([cut(frame) for turn in turns for frame in turn.frames]),
            "image_mask": ids == image,
        }
        if turns[0].answer is not None:  # all of them have one, or none has
            batch["answer"] = left_pad(answers, IGNORE)  # (B, A): for the readout
        return batch

    def level_tokens(self, words: Sequence[str], stem: str) -> tuple[tuple[int, ...], int]:
        found = [self._ids(word) for word in words]  # the same behind any stem
        unknown = self.tokenizer.token_to_id(UNKNOWN)
        for word, ids in zip(words, found, strict=True):
            if len(ids) != 1 or ids[0] == unknown:
                raise LevelTokenError(f"level word {word!r} is no word of this tokenizer (readout.words)")
        return tuple(ids[0] for ids in found), len(self._end)

    def save(self, path: Path) -> None:
        self.tokenizer.save(str(Path(path) / "tokenizer.json"))

    @property
    def _end(self) -> list[int]:
        return [self.tokenizer.token_to_id("."), self.tokenizer.token_to_id(END)]

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).ids


def cut(frame: Image.Image) -> Tensor:
    """A frame in RGB -> (TOKENS, 3 * PATCH * PATCH) in -1..1."""
    pixels = torch.from_numpy(np.array(frame.resize((SIDE, SIDE)))) / 127.5 - 1  # (SIDE, SIDE, 3)
    squares = pixels.unfold(0, PATCH, PATCH).unfold(1, PATCH, PATCH)  # (n, n, 3, PATCH, PATCH)
    return squares.flatten(2).flatten(0, 1)


def load(path: str | Path, card: ModelCard, *, dtype: str = "float32") -> tuple[Any, Any]:
    """What q_align calls: a checkpoint folder -> model and encoder. `card.media` says how images are opened."""
    model = PatchForRating.from_pretrained(path, dtype=getattr(torch, dtype), local_files_only=True)
    return model.eval(), PatchEncoder(Tokenizer.from_file(str(Path(path) / "tokenizer.json")), card.media)


def make(folder: str | Path, seed: int = 0) -> None:
    """Writes a model with random weights; its words are those of the registered tasks and the levels."""
    split = pre_tokenizers.Whitespace()  # words and punctuation
    texts = [*WORDS, ".", *(text for _, task in TASKS.items() for text in (*task.questions, task.stem))]
    words = [word for text in texts for word, _ in split.pre_tokenize_str(text)]
    names = dict.fromkeys([PAD, IMAGE, END, UNKNOWN, *words])
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = split
    torch.manual_seed(seed)
    model = PatchForRating(PatchConfig(vocab_size=len(names)))
    encoder = PatchEncoder(tokenizer, MediaSpec())
    Backbone.join(model, encoder, ModelCard(family="patch", tasks=())).save(folder)


if __name__ == "__main__":
    make(sys.argv[1])
