"""What is taught, by name. A loss is a pure function of a prediction and of opinions; a blend is a weighted sum.

hard        the paper: next-token loss over the whole answer      fidelity  order of pairs of one source
level_only  the level word alone                                  plcc      correlation within a source
ordinal     the level word, with a share for its neighbours       emd       the raters' histogram, cumulated
soft        the raters' distribution over the levels (KL)         numeric   the score as text (baseline)
blend       a weighted sum of the others: weights {"soft": 1.0, "fidelity": 1.0}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any

from q_align.errors import ConfigError, nearest

if TYPE_CHECKING:
    from q_align.levels import LevelScheme
    from q_align.losses.base import Loss

NAMES = ("hard", "level_only", "ordinal", "soft", "emd", "fidelity", "plcc", "numeric")
# Compare media of one source with each other: batches should hold runs of one source.
PAIRWISE = ("fidelity", "plcc")


def get_loss(
    name: str, weights: Mapping[str, float] | None = None, options: Mapping[str, Mapping[str, Any]] | None = None
) -> Loss:
    """The loss of that name.

    Args:
        name: one of NAMES, or "blend".
        weights: with "blend": loss -> weight > 0.
        options: loss -> its keyword arguments, as {"fidelity": {"spread": "fixed"}}.

    Raises:
        ConfigError: for unknown names or options, weights without "blend", and blends that contradict each other.
    """
    parts = names_of(name, weights)
    unused = set(options or {}) - set(parts)
    if unused:
        raise ConfigError(f"loss options for {sorted(unused)}, but only {list(parts)} are taught")
    functions = {part: _with_options(part, (options or {}).get(part, {})) for part in parts}
    if len(functions) == 1 and name != "blend":
        return functions[name]
    from q_align.losses.blend import blend

    return blend(functions, dict(weights or {}))


def names_of(name: str, weights: Mapping[str, float] | None = None) -> tuple[str, ...]:
    """The plain losses behind a name and its weights."""
    if name != "blend":
        _known(name)
        if weights:
            raise ConfigError(f"loss.weights belong to loss.name blend, not to {name!r}")
        return (name,)
    if not weights:
        raise ConfigError("loss.name blend needs loss.weights, such as {soft: 1.0, fidelity: 1.0}")
    for part, weight in weights.items():
        _known(part)
        if not 0 < weight < float("inf"):
            raise ConfigError(f"loss.weights.{part} must be > 0, got {weight}")
    if "numeric" in weights and len(weights) > 1:
        raise ConfigError("numeric teaches another answer text and cannot be blended with level losses")
    return tuple(weights)


def is_pairwise(name: str, weights: Mapping[str, float] | None = None) -> bool:
    """Whether batches should hold runs of one source."""
    return any(part in PAIRWISE for part in names_of(name, weights))


def answer_of(name: str, scheme: LevelScheme, weights: Mapping[str, float] | None = None) -> Callable[[float], str]:
    """What completes the stem for a MOS on the level scale: a level word, or a number under `numeric`."""
    if "numeric" in names_of(name, weights):
        return scheme.say
    return partial(_word, scheme=scheme)


def _word(mos: float, scheme: LevelScheme) -> str:
    return scheme.words[int(scheme.hard(mos))]


def _known(name: str) -> None:
    if name not in NAMES:
        raise ConfigError(f"unknown loss {name!r}{nearest(name, NAMES)}; losses are {', '.join(NAMES)}, blend")


def _with_options(name: str, options: Mapping[str, Any]) -> Loss:
    from q_align.losses import hard, numeric, pairwise, soft

    function = next(getattr(m, name) for m in (hard, soft, pairwise, numeric) if name in vars(m))
    valid = [p for p in signature(function).parameters if p not in ("prediction", "targets")]
    for option in options:
        if option not in valid:
            raise ConfigError(f"unknown option {option!r} of loss {name!r}{nearest(option, valid)}; has {valid}")
    return partial(function, **options) if options else function
