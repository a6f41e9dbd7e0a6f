"""Dataset cards: what is known about a data set, in YAML, and where its labels file may be.

The cards of published data sets come with the package (folder `data` of a checkout); a user's own is named by its path.
`q_align.data.open_dataset` opens what they name. Published results are those of the papers named in `source`.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from q_align.errors import ConfigError, LabelError, MediaError, nearest

# In an installed package the cards are a folder beside this one; in a checkout, the top-level folder `data`.
_INSTALLED = Path(__file__).parents[1] / "dataset_cards"
_CHECKOUT = Path(__file__).parents[2] / "data"
ENVIRONMENT = "Q_ALIGN_DATA"  # a folder with data sets: their labels, images and videos

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
        suffix: appended to the image or video names of such a file.
        mos_range: where the file's scale is not the card's.
        note: a remark for people.
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
    """A published archive of the images or videos, with its size and SHA-256."""

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
    """What is known about a data set; `name` and `splits` (or `labels`) are required.

    Attributes:
        name: short name; becomes the `source` of its items.
        splits: name -> part. `labels: FILE` in place of it: the whole set, whose parts its `split` column names.
        title: name as published; default: `name`.
        task: the rating task of every row; None: the labels' `task` column, else by kind of file.
        n: items of the whole data set.
        mos_range: MOS that become the ends of the level scale; None: lowest and highest of the training rows.
        higher_is_better: False for DMOS; None: False for a column `dmos`, else True.
        scale: the data set's own scale, for people.
        url, get, licence, cite: where it is described, how to get it, under which terms, whom to cite.
        folders: folders below the media root in which images or videos may be, tried in order.
        content: regular expression whose group is what an item shows; None where every item is its own content.
        exclude: regular expression of files that do not belong to the data set.
        archives: published archives of the images or videos.
        published: results to compare with.
        home: folder of a user's own card, where its labels files are looked for too; not a key of the YAML file.
    """

    name: str
    splits: dict[str, Split]
    title: str = ""
    task: str | None = None
    n: int | None = None
    mos_range: tuple[float, float] | None = None
    higher_is_better: bool | None = None
    scale: str = ""
    url: str = ""
    get: str = ""
    licence: str = ""
    cite: str = ""
    folders: list[str] = field(default_factory=list)
    content: str | None = None
    exclude: str | None = None
    archives: list[Archive] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    home: Path | None = None

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
        """One line for people; of an own card, where it is."""
        if not (self.get or self.url or self.archives):
            return f"the card {self.name} does not say (get, url)"
        return f"{self.get} ({'; archive: '.join([self.url, *(a.url for a in self.archives)])})"


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
    if isinstance(record, dict) and "labels" in record and "splits" not in record:
        record["splits"] = {"all": {"labels": record.pop("labels")}}
    card: DatasetCard = _build(DatasetCard, record, path)
    card.title = card.title or card.name
    card.home = None if path.parent == cards_folder() else path.parent
    if not isinstance(card.splits, dict) or not card.splits:
        raise ConfigError(f"{path}: splits is empty; name at least one, as in 'splits: {{test: {{labels: FILE}}}}'")
    card.splits = {key: _build(Split, value or {}, path) for key, value in card.splits.items()}
    card.archives = [_build(Archive, value, path) for value in card.archives]
    card.published = [_build(Published, value, path) for value in card.published or []]
    card.mos_range = _ends(card.mos_range)
    for part in card.splits.values():
        part.mos_range = _ends(part.mos_range)
    return card


def find_labels(card: DatasetCard, split: str, folders: list[str | Path | None]) -> Path:
    """The labels file of a split, looked for beside an own card, in `folders`, and in the folder of Q_ALIGN_DATA.

    Raises:
        LabelError: when there is no such file; names where it was looked for and how to get it.
    """
    part = card.splits[split]
    if part.labels is None:
        raise LabelError(
            f"{card.name}: no readable labels file is published for split {split!r} ({part.note}); "
            f"pass your own as {card.name}=FILE. Data: {card.how_to_get()}"
        )
    roots = [Path(f) for f in (card.home, *folders, os.environ.get(ENVIRONMENT)) if f]
    tried = [root / sub / part.labels for root in roots for sub in ("", "labels", card.name, *card.folders)]
    found = next((path for path in tried if path.is_file()), None)
    if found is None:
        where = ", ".join(map(str, roots)) or "no folder given"
        origin = "it comes with the data set" if part.columns else _LABELS_AT
        how = "" if card.home else f"; {origin}"
        media = "" if card.home else f". Images or videos: {card.how_to_get()}"
        raise LabelError(
            f"{card.name}: labels file {part.labels} not found ({where}){how}; name its folder with --labels-root or "
            f"{ENVIRONMENT}, or pass {card.name}=FILE{media}"
        )
    return found


def _ends(pair: Any) -> tuple[float, float] | None:
    return None if pair is None else (float(pair[0]), float(pair[1]))


def _build(kind: type, record: Any, path: Path) -> Any:
    if not isinstance(record, dict):
        raise ConfigError(f"{path}: expected keys and values for {kind.__name__}, got {type(record).__name__}")
    valid = [f.name for f in fields(kind) if f.name != "home"]
    for key in record:
        if key not in valid:
            raise ConfigError(f"{path}: unknown key {key!r}{nearest(str(key), valid)}; keys are {', '.join(valid)}")
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    lacks = [name for name in required if name not in record]
    if lacks:
        what = "the card" if kind is DatasetCard else f"an entry for {kind.__name__}"
        raise ConfigError(f"{path}: {what} lacks: {', '.join(lacks)}")
    return kind(**record)
