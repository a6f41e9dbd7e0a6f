"""Dataset cards: what is known about a published data set, in YAML, and where its labels file may lie.

Knows the cards that travel with the package (folder `data` of a checkout); opening what they name is
`q_align.data.open_dataset`.
No media, no opinions, no model. Published numbers are those of the papers named in `source`.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from q_align.errors import ConfigError, LabelError, MediaError, nearest

# In an installed package the cards are a folder beside this one; in a checkout, the top-level folder `data`.
_INSTALLED = Path(__file__).parents[1] / "dataset_cards"
_CHECKOUT = Path(__file__).parents[2] / "data"
ENVIRONMENT = "Q_ALIGN_DATA"  # a folder with data sets: their labels and media

SOURCES = {
    "q-align": "Wu et al., Q-Align, ICML 2024 (arXiv 2312.17090)",
    "deqa-score": "You et al., DeQA-Score, CVPR 2025 (arXiv 2501.11561), tables of the KonIQ-trained models",
    "q-realign": "Q-ReAlign, results table of github.com/Q-Future/Q-ReAlign",
}
_LABELS_AT = "it is one of the label files published in the Q-Align repository (github.com/Q-Future/Q-Align)"


@dataclass(slots=True)
class Split:
    """One part of a data set.

    Attributes:
        labels: file name of its labels; None where nobody publishes a file that can be read as it is.
        n: items that the part has, as published.
        columns: our column -> the file's own name, for label files of the data sets themselves.
        suffix: appended to the media names of such a file.
        mos_range: where the file's scale is not the card's.
        note: what to know about it.
    """

    labels: str | None = None
    n: int | None = None
    columns: dict[str, str] = field(default_factory=dict)
    suffix: str = ""
    mos_range: tuple[float, float] | None = None
    note: str = ""


@dataclass(slots=True)
class Published:
    """A published result: SRCC and PLCC of `model` on `split`, trained on `trained_on`, as `source` gives it."""

    model: str
    split: str
    trained_on: str
    srcc: float
    plcc: float
    source: str


@dataclass(slots=True)
class Archive:
    """A published archive of the media, with its size and SHA-256."""

    url: str
    bytes: int
    sha256: str

    def verify(self, path: str | Path) -> None:
        """Compares a downloaded file with the published size and checksum.

        Raises:
            MediaError: when they differ.
        """
        path = Path(path)
        if path.stat().st_size != self.bytes:
            raise MediaError(
                f"{path}: {path.stat().st_size} bytes, published are {self.bytes}; download {self.url} again"
            )
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
        if digest.hexdigest() != self.sha256:
            raise MediaError(f"{path}: checksum differs from the published one; download {self.url} again")


@dataclass(slots=True)
class DatasetCard:
    """What is known about a data set.

    Attributes:
        name: short name; becomes the `source` of its items.
        title: name as published.
        task: "iqa", "iaa" or "vqa".
        n: media in the whole data set.
        mos_range: MOS that become the ends of the level scale; None: lowest and highest of the rows read.
        higher_is_better: False for DMOS.
        scale: the data set's own scale, for people.
        splits: name -> part.
        url, get, licence, cite: where it is described, how to get it, under which terms, whom to cite.
        folders: folders below the media root in which media may lie, tried in order.
        content: regular expression whose group is what an item shows; None where every item is its own content.
        exclude: regular expression of media that do not belong to the data set.
        archives: published archives of the media.
        published: results to compare with.
    """

    name: str
    title: str
    task: str
    n: int
    mos_range: tuple[float, float] | None
    higher_is_better: bool
    scale: str
    splits: dict[str, Split]
    url: str
    get: str
    licence: str
    cite: str
    folders: list[str] = field(default_factory=list)
    content: str | None = None
    exclude: str | None = None
    archives: list[Archive] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)

    @property
    def default_split(self) -> str:
        """The part to evaluate on: "test" where there is one, else the whole."""
        return next((name for name in ("test", "all") if name in self.splits), next(iter(self.splits)))

    def part(self, split: str | None) -> str:
        """Name of the part that `split` means; None and, where the whole set is the test set, "test": the default.

        Raises:
            ConfigError: for an unknown split.
        """
        if split is None or (split == "test" and "test" not in self.splits):
            return self.default_split
        if split not in self.splits:
            have = ", ".join(self.splits)
            raise ConfigError(f"{self.name}: no split {split!r}{nearest(split, self.splits)}; it has {have}")
        return split

    def how_to_get(self) -> str:
        archives = "".join(f"; archive: {a.url}" for a in self.archives)
        return f"{self.get} ({self.url}{archives})"


def cards_folder() -> Path:
    """The folder with the cards that come with q_align."""
    return _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


def card_names() -> list[str]:
    return sorted(path.stem for path in cards_folder().glob("*.yaml"))


def load_card(name: str | Path) -> DatasetCard:
    """The card of that name, or of that YAML file.

    Raises:
        ConfigError: for an unknown name, unreadable YAML, or unknown and missing keys; names the nearest valid one.
    """
    import yaml

    path = Path(name) if str(name).endswith((".yaml", ".yml")) else cards_folder() / f"{name}.yaml"
    if not path.is_file():
        names = card_names()
        raise ConfigError(f"no dataset card {str(name)!r}{nearest(str(name), names)}; cards are {', '.join(names)}")
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    card = _build(DatasetCard, record, path)
    card.splits = {key: _build(Split, value or {}, path) for key, value in (card.splits or {}).items()}
    card.archives = [_build(Archive, value, path) for value in card.archives]
    card.published = [_build(Published, value, path) for value in card.published or []]
    for owner in (card, *card.splits.values()):
        if owner.mos_range is not None:
            low, high = owner.mos_range
            owner.mos_range = (float(low), float(high))
    if not card.splits:
        raise ConfigError(f"{path}: splits is empty; name at least one")
    return card


def find_labels(card: DatasetCard, split: str, folders: list[str | Path | None]) -> Path:
    """The labels file of a split, looked for in `folders` and in the folder that Q_ALIGN_DATA names.

    Raises:
        LabelError: when there is no such file; says where it was looked for and how to get it.
    """
    part = card.splits[split]
    if part.labels is None:
        raise LabelError(
            f"{card.name}: no readable labels file is published for split {split!r} ({part.note}); "
            f"pass your own as {card.name}=FILE. Data: {card.how_to_get()}"
        )
    roots = [Path(f) for f in (*folders, os.environ.get(ENVIRONMENT)) if f]
    tried = [root / sub / part.labels for root in roots for sub in ("", "labels", card.name, *card.folders)]
    found = next((path for path in tried if path.is_file()), None)
    if found is None:
        where = ", ".join(map(str, roots)) or "no folder given"
        raise LabelError(
            f"{card.name}: labels file {part.labels} not found ({where}); "
            f"{'it comes with the data set' if part.columns else _LABELS_AT}; name its folder with --labels-root or "
            f"{ENVIRONMENT}, or pass {card.name}=FILE. Media: {card.how_to_get()}"
        )
    return found


def _build(kind: type, record: Any, path: Path) -> Any:
    if not isinstance(record, dict):
        raise ConfigError(f"{path}: expected keys and values for {kind.__name__}, got {type(record).__name__}")
    valid = [f.name for f in fields(kind)]
    for key in record:
        if key not in valid:
            raise ConfigError(f"{path}: unknown key {key!r}{nearest(str(key), valid)}; keys are {', '.join(valid)}")
    try:
        return kind(**record)
    except TypeError as error:
        raise ConfigError(f"{path}: {kind.__name__}: {str(error).split('__init__() ')[-1]}") from error
