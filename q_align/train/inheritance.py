"""What a run takes over from its base checkpoint: levels, media settings, prompt and questions.

What the configuration sets wins; what it leaves open is the base's.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, NamedTuple

from q_align.config.schema import RunConfig
from q_align.errors import ConfigError
from q_align.levels import LevelScheme
from q_align.models.card import ModelCard
from q_align.readout import READOUTS, ReadoutSpec
from q_align.types import MediaSpec


class Inheritance(NamedTuple):
    """Attributes:
    config: the configuration with nothing left open.
    card: the base's card with what the configuration sets.
    inherited: what the base decided (other than our defaults), such as "media.max_pixels 4096".
    changed: what the configuration decided, with the base's setting where it differs.
    """

    config: RunConfig
    card: ModelCard
    inherited: list[str]
    changed: list[str]

    def lines(self, base: str) -> list[str]:
        """At most two lines for people."""
        both = ((f"inherited from {base}", self.inherited), ("set here", self.changed))
        return [f"{title}: {'; '.join(items)}" for title, items in both if items]


def inherit(config: RunConfig, card: ModelCard) -> Inheritance:
    """Joins a configuration and the card of its base checkpoint.

    Raises:
        ConfigError: when the two contradict each other, or data.cache has no limit on pixels.
    """
    config = copy.deepcopy(config)
    given_media = config.media.given()
    media, levels = dataclasses.replace(card.media, **given_media), scheme(config, card)
    if config.data.cache and media.max_pixels is None:
        raise ConfigError("data.cache stores images at full resolution; set media.max_pixels to what the model needs")
    kind = config.readout.kind or card.readout.kind
    READOUTS[kind]  # an unknown one is refused here, with the nearest name
    ours: dict[str, tuple[Any, Any, Any, bool]] = {  # key -> the base's, this run's, our default, whether it is set
        "readout.kind": (card.readout.kind, kind, ReadoutSpec().kind, config.readout.kind is not None),
        "readout.words": (card.levels.words, levels.words, LevelScheme().words, config.readout.words is not None),
        "readout.values": (card.levels.values, levels.values, LevelScheme().values, config.readout.values is not None),
    }
    for field in dataclasses.fields(MediaSpec):
        values = [getattr(spec, field.name) for spec in (card.media, media, MediaSpec())]
        ours[f"media.{field.name}"] = (*values, field.name in given_media)
    left_open = {key: (base, default) for key, (base, _, default, is_set) in ours.items() if not is_set}
    inherited = [f"{key} {_text(base)}" for key, (base, default) in left_open.items() if base != default]
    inherited += [name for name in ("questions", "stems") if getattr(card, name)]
    inherited += ["prompt"] if card.trained_on and card.prompt else []
    changed = [
        f"{key} {_text(now)}" + (f" (base: {_text(base)})" if now != base else "")
        for key, (base, now, _, is_set) in ours.items()
        if is_set
    ]
    config.readout.kind = kind
    config.readout.words, config.readout.values = list(levels.words), list(levels.values)
    for field in dataclasses.fields(MediaSpec):
        value = getattr(media, field.name)
        setattr(config.media, field.name, 0 if value is None and field.name == "max_pixels" else value)
    return Inheritance(
        config, dataclasses.replace(card, readout=ReadoutSpec(kind, levels), media=media), inherited, changed
    )


def scheme(config: RunConfig, card: ModelCard) -> LevelScheme:
    """The levels of a run.

    Raises:
        ConfigError: when words and values do not fit.
    """
    words = tuple(config.readout.words or card.levels.words)
    values = tuple(config.readout.values or card.levels.values)
    if len(words) != len(values):
        raise ConfigError(
            f"{len(words)} level words but {len(values)} values (readout.words {_text(words)}; readout.values "
            f"{_text(values)}); set both"
        )
    return LevelScheme(words, values)


def _text(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ", ".join(_text(part) for part in value)
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
