"""What a loss is: a pure function from a prediction and its targets to named scalars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar, get_args

from torch import Tensor

from q_align.errors import ConfigError
from q_align.registry import Registry

# What a readout can offer to losses: `Prediction.value`, `Prediction.level_logp`, and for answers `nll` and `tokens`.
Offer = Literal["value", "level_logp", "answer"]


@dataclass(slots=True)
class Prediction:
    """What a readout read about a batch of B items; fields that it does not offer are None.

    Attributes:
        value: (B,) float32 predicted value on the level scale; higher is better.
        level_logp: (B, K) float32 log-probability of each level word under the full vocabulary, at the position
            where the level word belongs, best level first. `level_logp.softmax(-1)` is the level distribution;
            `level_logp.exp().sum(-1)` is the mass that the vocabulary gives to the levels.
        nll: (B,) float32 negative log-likelihood of each supervised answer, summed over its tokens; None when
            nothing is supervised (scoring).
        tokens: (B,) number of supervised tokens of each answer.
    """

    value: Tensor | None = None
    level_logp: Tensor | None = None
    nll: Tensor | None = None
    tokens: Tensor | None = None

    @property
    def probs(self) -> Tensor:
        assert self.level_logp is not None, "this readout has no level distribution"
        return self.level_logp.softmax(-1)  # (B, K)


@dataclass(slots=True)
class Targets:
    """The ratings of a batch of B items.

    Attributes:
        level: (B,) long, index of the hard level, best level first.
        probs: (B, K) float32, soft label over the levels.
        mos: (B,) float32 on the level scale.
        std: (B,) float32 on the level scale; NaN where it is unknown.
        source: (B,) long; ratings are compared within one source only.
        values: (K,) float32, value of each level, best first.
        batch_tokens: () answer tokens of an average batch of this optimizer update, over accumulated batches and
            processes; None: those of this batch.
    """

    SHARED: ClassVar[tuple[str, ...]] = ("values", "batch_tokens")  # fields without one entry per item

    level: Tensor
    probs: Tensor
    mos: Tensor
    std: Tensor
    source: Tensor
    values: Tensor
    batch_tokens: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss with the facts that the sampler, the trainer and the readout ask for.

    Attributes:
        name: as in `loss.name`.
        function: (prediction, targets, **options) -> scalars by name; the trainer adds them up and logs each one.
        needs: what it reads of a prediction.
        group_size: items of one source that it needs in a batch: 1 (none in particular), 2 (pairs), 3 (a correlation).
    """

    name: str
    function: Callable[..., dict[str, Tensor]]
    needs: tuple[Offer, ...]
    group_size: int = 1

    @property
    def pairwise(self) -> bool:
        """Whether it compares items of one source: batches should hold one source each."""
        return self.group_size > 1

    def __call__(self, prediction: Prediction, targets: Targets) -> dict[str, Tensor]:
        return self.function(prediction, targets)


LOSSES: Registry[Loss] = Registry("loss", "q_align.losses", key="loss.name", package="q_align.losses", of=Loss)

Function = TypeVar("Function", bound=Callable[..., dict[str, Tensor]])


def loss(name: str, *, needs: tuple[Offer, ...], group_size: int = 1) -> Callable[[Function], Function]:
    """Registers a function as the loss of that name; its keyword-only parameters are the loss's options.

    Args:
        name: as users write it in `loss.name`.
        needs: what it reads of a prediction: "value", "level_logp", "answer" (nll and tokens).
        group_size: items of one source that it needs in a batch, see `Loss`.

    Raises:
        ConfigError: when a need is none of these, or the name is taken.
    """
    wrong = [need for need in needs if need not in get_args(Offer)]
    if wrong:
        raise ConfigError(f"loss {name!r} needs {', '.join(wrong)}; a prediction has {', '.join(get_args(Offer))}")

    def decorate(function: Function) -> Function:
        LOSSES.register(name, Loss(name, function, needs, group_size))
        return function

    return decorate


def value_of(prediction: Prediction) -> Tensor:
    """(B,) predicted value on the level scale; `check_offers` has made sure that there is one."""
    assert prediction.value is not None, "this loss needs value"
    return prediction.value


def variance_of(prediction: Prediction, targets: Targets) -> Tensor | None:
    """(B,) variance of the level distribution; None for a prediction without one (a regression head)."""
    if prediction.level_logp is None:
        return None
    probs = prediction.probs  # (B, K)
    return (probs * (targets.values - (probs @ targets.values)[:, None]).square()).sum(1)


def level_logp_of(prediction: Prediction) -> Tensor:
    """(B, K) log-probability of each level; `check_offers` has made sure that there are some."""
    assert prediction.level_logp is not None, "this loss needs level_logp"
    return prediction.level_logp
