"""Losses by name. A loss is a pure function of a prediction and its targets; `blend` is a weighted sum of others.

hard        the paper: next-token loss over the whole answer      mse       squared error of the score
level_only  the level word alone                                  huber     the same, linear for large errors
ordinal     the level word, with a share for its neighbours       fidelity  order of pairs of one source
soft        the raters' distribution over the levels (KL)         plcc      correlation within a source
emd         the raters' histogram, cumulated

Every module of this package is imported at the first look-up, and registers its own. A loss of your own:

    from q_align.losses import Prediction, Targets, loss

    @loss("median", needs=("value",))
    def median_loss(prediction: Prediction, targets: Targets, *, scale: float = 1.0) -> dict[str, Tensor]:
        return {"median": scale * (prediction.value - targets.mos).abs().median()}

is found as `loss.name: median` when Q_ALIGN_PLUGINS names its module, or as an entry point of group `q_align.losses`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from inspect import Parameter, signature
from typing import Any, Literal, get_args, get_origin, get_type_hints

from q_align.errors import ConfigError, nearest
from q_align.losses.base import LOSSES, Loss, Prediction, Targets, loss

__all__ = ["LOSSES", "Loss", "Prediction", "Targets", "check_offers", "get_loss", "loss", "losses_of"]

BLEND = "blend"


def get_loss(
    name: str, weights: Mapping[str, float] | None = None, options: Mapping[str, Mapping[str, Any]] | None = None
) -> Loss:
    """The loss of that name.

    Args:
        name: of a registered loss, or "blend".
        weights: with "blend": loss -> weight > 0.
        options: loss -> its keyword arguments, as {"fidelity": {"std": "fixed"}}.

    Raises:
        ConfigError: for unknown names or options, and weights without "blend".
    """
    names = losses_of(name, weights)
    unused = set(options or {}) - set(names)
    if unused:
        raise ConfigError(f"loss.options for {sorted(unused)}, but the run's losses are {list(names)}")
    parts = [_with_options(LOSSES[part], (options or {}).get(part, {})) for part in names]
    if name != BLEND:
        return parts[0]
    from q_align.losses.blend import blend

    return blend(parts, weights or {})


def losses_of(name: str, weights: Mapping[str, float] | None = None) -> tuple[str, ...]:
    """The names of the losses behind `loss.name` and `loss.weights`.

    Raises:
        ConfigError: for unknown names, weights that are not positive, and weights without "blend".
    """
    if name != BLEND:
        _check_known(name)
        if weights:
            raise ConfigError(f"loss.weights belong to loss.name blend, not to {name!r}")
        return (name,)
    if not weights:
        raise ConfigError("loss.name blend needs loss.weights, such as {soft: 1.0, fidelity: 1.0}")
    for part, weight in weights.items():
        _check_known(part)
        if not 0 < weight < float("inf"):
            raise ConfigError(f"loss.weights.{part} must be > 0, got {weight}")
    return tuple(weights)


def check_offers(names: Collection[str], offers: Collection[str]) -> None:
    """Checks that a readout offers what losses read of its predictions.

    Raises:
        ConfigError: for the first loss that needs something else, with the losses that would fit.
    """
    for name in names:
        missing = [need for need in LOSSES[name].needs if need not in offers]
        if missing:
            fit = [other for other, entry in LOSSES.items() if set(entry.needs) <= set(offers)]
            raise ConfigError(
                f"loss {name!r} needs {', '.join(missing)}, but this readout offers {', '.join(sorted(offers))} only; "
                f"choose from {', '.join(fit)} (loss.name)"
            )


def _check_known(name: str) -> None:
    if name not in LOSSES:
        raise LOSSES.unknown(name, also=(BLEND,))


def _with_options(entry: Loss, options: Mapping[str, Any]) -> Loss:
    """The loss with its options set.

    Raises:
        ConfigError: for an option that it does not have, or a value that the option's annotation excludes.
    """
    valid = [p.name for p in signature(entry.function).parameters.values() if p.kind is Parameter.KEYWORD_ONLY]
    hints = get_type_hints(entry.function) if options else {}
    for option, value in options.items():
        if option not in valid:
            has = f"its options are {', '.join(valid)}" if valid else "it has none"
            raise ConfigError(f"unknown option {option!r} of loss {entry.name!r}{nearest(option, valid)}; {has}")
        hint = hints.get(option)
        what = f"option {option} of loss {entry.name!r}"
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise ConfigError(f"{what} is one of {', '.join(get_args(hint))}, got {value!r} (loss.options)")
        if hint is float and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise ConfigError(f"{what} is a number, got {value!r} (loss.options)")
    if not options:
        return entry
    return Loss(entry.name, partial(entry.function, **options), entry.needs, entry.group_size)
