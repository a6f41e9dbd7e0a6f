"""Every loss: equal to a slow float64 reference, finite gradients at certainty, and what it must reward."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from q_align.errors import ConfigError
from q_align.levels import LevelScheme
from q_align.losses import NAMES, answer_of, get_loss, is_pairwise
from q_align.losses.base import Prediction, Targets

SCHEME = LevelScheme()
VALUES = SCHEME.values
PHI = NormalDist().cdf
SEEDS = st.integers(0, 2**20)


def batch(seed: int, size: int = 7, *, scale: float = 2.0, dtype: torch.dtype = torch.float64) -> tuple:
    """Random predictions over a vocabulary of 12, and opinions of three sources, some of unknown std."""
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(0, scale, (size, 12)), dtype=dtype, requires_grad=True)
    mos = rng.uniform(1, 5, size)
    std = np.where(rng.random(size) < 0.3, np.nan, rng.uniform(0, 1, size))
    targets = Targets(
        level=torch.tensor(SCHEME.hard(mos)),
        probs=torch.tensor(SCHEME.soft(mos, std), dtype=dtype),
        mos=torch.tensor(mos, dtype=dtype),
        std=torch.tensor(std, dtype=dtype),
        source=torch.tensor(rng.integers(0, 3, size)),
        values=torch.tensor(VALUES, dtype=dtype),
    )
    return logits, targets


def predicted(logits: Tensor) -> Prediction:
    tokens = torch.arange(3, 3 + len(logits))
    return Prediction(logits.log_softmax(-1)[:, :5], nll=logits.square().sum(1), tokens=tokens)


def softmax(row: list[float]) -> list[float]:
    top = max(row)
    exp = [math.exp(x - top) for x in row]
    return [e / sum(exp) for e in exp]


class Slow:
    """The same losses, one number after the other."""

    def __init__(self, logits: Tensor, targets: Targets) -> None:
        self.t = targets
        self.n = len(logits)
        self.full = [softmax(row)[:5] for row in logits.tolist()]
        self.p = [[x / sum(row) for x in row] for row in self.full]
        self.mean = [sum(a * v for a, v in zip(row, VALUES)) for row in self.p]
        self.var = [sum(a * (v - m) ** 2 for a, v in zip(row, VALUES)) for row, m in zip(self.p, self.mean)]
        self.nll = [sum(x * x for x in row) for row in logits.tolist()]

    def hard(self) -> float:
        return sum(self.nll) / sum(range(3, 3 + self.n))

    numeric = hard

    def level_only(self) -> float:
        return -sum(math.log(row[int(k)]) for row, k in zip(self.full, self.t.level)) / self.n

    def ordinal(self, smooth: float = 0.1) -> float:
        total = 0.0
        for row, k in zip(self.full, self.t.level.tolist()):
            beside = [j for j in (k - 1, k + 1) if 0 <= j < 5]
            total -= sum(smooth / 2 * math.log(row[j]) for j in beside)
            total -= (1 - smooth / 2 * len(beside)) * math.log(row[k])
        return total / self.n

    def soft(self) -> float:
        pairs = zip(self.full, self.t.probs.tolist())
        return sum(q * math.log(q / p) for row, label in pairs for p, q in zip(row, label) if q > 0) / self.n

    def emd(self) -> float:
        total = 0.0
        for row, label in zip(self.p, self.t.probs.tolist()):
            gaps = [sum(row[: k + 1]) - sum(label[: k + 1]) for k in range(5)]
            total += math.sqrt(sum(g * g for g in gaps) / 5 + 1e-8)
        return total / self.n

    def fidelity(self, spread: str = "detached") -> float:
        losses = []
        for i in range(self.n):
            for j in range(i + 1, self.n):
                if self.t.source[i] != self.t.source[j]:
                    continue
                var = 2.0 if spread == "fixed" else self.var[i] + self.var[j]
                p = PHI((self.mean[i] - self.mean[j]) / math.sqrt(var + 1e-4))
                gap = float(self.t.mos[i] - self.t.mos[j])
                s = math.hypot(float(self.t.std[i]), float(self.t.std[j]))
                g = PHI(gap / s) if s > 0 else 0.5 + 0.5 * (gap > 0) - 0.5 * (gap < 0)
                losses.append(1 - math.sqrt(p * g) - math.sqrt((1 - p) * (1 - g)))
        return sum(losses) / len(losses) if losses else 0.0

    def plcc(self) -> float:
        found = []
        for source in self.t.source.unique():
            rows = [i for i in range(self.n) if self.t.source[i] == source]
            if len(rows) < 2:
                continue
            x, y = np.array([self.mean[i] for i in rows]), self.t.mos.numpy()[rows]
            x, y = x - x.mean(), y - y.mean()
            if (y * y).mean() <= 1e-6:
                continue
            found += [float((x * y).mean() / math.sqrt((x * x).mean() * (y * y).mean() + 1e-6))] * len(rows)
        return 1 - sum(found) / len(found) if found else 0.0


@pytest.mark.parametrize("name", NAMES)
@given(seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_equals_slow_reference(name: str, seed: int) -> None:
    logits, targets = batch(seed)
    terms = get_loss(name)(predicted(logits), targets)
    assert list(terms) == [name]
    assert terms[name].item() == pytest.approx(getattr(Slow(logits, targets), name)(), abs=1e-7)


@pytest.mark.parametrize("spread", ["fixed", "predicted", "detached"])
def test_fidelity_spreads(spread: str) -> None:
    logits, targets = batch(3)
    loss = get_loss("fidelity", options={"fidelity": {"spread": spread}})(predicted(logits), targets)["fidelity"]
    assert loss.item() == pytest.approx(Slow(logits, targets).fidelity(spread), abs=1e-9)


def certain_logits() -> Tensor:
    """Certain and right, certain and wrong, equal, and beyond the range of exp in float32."""
    rows = torch.zeros(8, 12)
    for i, (level, height) in enumerate([(0, 40), (4, 40), (0, 1e4), (4, 1e4), (2, 200), (2, 200), (11, 1e4), (0, 0)]):
        rows[i, level] = height
    return rows.requires_grad_()


@pytest.mark.parametrize("name", [*NAMES, "fixed", "predicted"])
@pytest.mark.parametrize("spread", [0.0, float("nan"), 1e-6, 0.5])
def test_gradients_are_finite_at_certainty(name: str, spread: float) -> None:
    logits = certain_logits()
    mos = torch.tensor([5.0, 1.0, 1.0, 5.0, 3.0, 3.0, 3.0, 5.0])
    targets = Targets(
        level=torch.tensor(SCHEME.hard(mos.numpy())),
        probs=torch.tensor(SCHEME.soft(mos.numpy(), np.full(8, spread)), dtype=torch.float32),
        mos=mos,
        std=torch.full((8,), spread),
        source=torch.zeros(8, dtype=torch.long),
        values=torch.tensor(VALUES),
    )
    options = {"fidelity": {"spread": name}} if name in ("fixed", "predicted") else None
    loss = get_loss("fidelity" if options else name, options=options)
    loss = torch.stack(list(loss(predicted(logits), targets).values())).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_one_hot_soft_label_is_level_only(seed: int) -> None:
    logits, targets = batch(seed)
    targets.probs = torch.nn.functional.one_hot(targets.level, 5).double()
    one, two = (get_loss(name)(predicted(logits), targets)[name] for name in ("soft", "level_only"))
    torch.testing.assert_close(one, two)


def test_perfect_predictions_cost_nothing() -> None:
    _, targets = batch(5)
    prediction = Prediction(targets.probs.clamp_min(1e-12).log())
    for name, most in (("soft", 1e-9), ("emd", 2e-4), ("plcc", 1e-2)):
        assert get_loss(name)(prediction, targets)[name].item() <= most


@pytest.mark.parametrize("name", ["fidelity", "plcc"])
def test_pairwise_losses_reward_order_within_a_source_only(name: str) -> None:
    """Turning the scores of one source upside down costs; moving a whole source does not."""
    mos = torch.tensor([1.0, 2, 3, 4, 2.0, 3, 4, 5], dtype=torch.float64)
    _, targets = batch(0, size=8)
    targets.mos, targets.std = mos, torch.full((8,), 0.3, dtype=torch.float64)
    targets.source = torch.tensor([0] * 4 + [1] * 4)

    def loss(score: Tensor) -> float:
        probs = torch.tensor(SCHEME.linear(score.numpy())).clamp_min(1e-9)
        return get_loss(name)(Prediction(probs.log()), targets)[name].item()

    right = loss(mos)
    moved = loss(torch.cat([mos[:4] + 1, mos[4:] - 1]))
    wrong = loss(torch.cat([mos[:4].flip(0), mos[4:]]))
    assert moved == pytest.approx(right, abs=0.02)
    assert wrong > right + 0.3


@pytest.mark.parametrize("name", ["fidelity", "plcc"])
def test_no_pairs_give_zero_with_a_graph(name: str) -> None:
    logits, targets = batch(1)
    targets.source = torch.arange(7)
    loss = get_loss(name)(predicted(logits), targets)[name]
    loss.backward()
    assert loss.item() == 0.0
    assert not logits.grad.any()


def test_detached_spread_gives_no_gain_from_doubt() -> None:
    """With a detached spread the gradient moves the means alone."""
    logits, targets = batch(2)
    grads = []
    for spread in ("predicted", "detached"):
        logits.grad = None
        get_loss("fidelity", options={"fidelity": {"spread": spread}})(predicted(logits), targets)[
            "fidelity"
        ].backward()
        grads.append(logits.grad.clone())
    probs = predicted(logits).probs
    mean = probs @ targets.values
    # d mean / d logit_k = p_k (v_k - mean): a detached spread leaves only multiples of it in each row
    direction = probs * (targets.values - mean[:, None])
    paired = grads[1].abs().sum(1) > 0
    assert paired.sum() > 2
    cosine = torch.nn.functional.cosine_similarity(grads[1][:, :5], direction).abs()[paired]
    torch.testing.assert_close(cosine, torch.ones_like(cosine))
    assert torch.nn.functional.cosine_similarity(grads[0][:, :5], direction).abs()[paired].min() < 0.999


def test_blend_is_a_weighted_sum() -> None:
    logits, targets = batch(4)
    prediction = predicted(logits)
    weights = {"soft": 2.0, "fidelity": 0.5}
    blend = get_loss("blend", weights)(prediction, targets)
    assert set(blend) == set(weights)
    for name, weight in weights.items():
        torch.testing.assert_close(blend[name], weight * get_loss(name)(prediction, targets)[name])
    assert is_pairwise("blend", weights)
    assert not is_pairwise("soft")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("sotf",), "unknown loss 'sotf' .did you mean 'soft'"),
        (("blend",), "needs loss.weights"),
        (("soft", {"emd": 1.0}), "belong to loss.name blend, not to 'soft'"),
        (("blend", {"soft": 0.0}), "loss.weights.soft must be > 0, got 0"),
        (("blend", {"sof": 1.0}), "unknown loss 'sof'"),
        (("blend", {"numeric": 1.0, "soft": 1.0}), "cannot be blended"),
        (("soft", None, {"fidelity": {}}), "options for .'fidelity'., but only .'soft'. are taught"),
        (("fidelity", None, {"fidelity": {"sprad": "fixed"}}), "unknown option 'sprad'.*did you mean 'spread'"),
    ],
)
def test_wrong_names_are_refused(arguments: tuple, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        get_loss(*arguments)


def test_answers() -> None:
    assert [answer_of("soft", SCHEME)(m) for m in (5.0, 3.0, 1.0)] == ["excellent", "fair", "bad"]
    assert [answer_of("numeric", SCHEME)(m) for m in (5.2, 3.449, 1.0)] == ["5.0", "3.4", "1.0"]
    percent = LevelScheme(words=("yes", "no"), values=(100, 0))
    assert percent.numbers()[:2] == ["0.0", "2.5"]


@given(st.floats(1, 5))
def test_numbers_that_are_said_are_near(mos: float) -> None:
    assert abs(float(SCHEME.say(mos)) - mos) <= 0.05 + 1e-9
    assert SCHEME.say(mos) in SCHEME.numbers()
