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
from q_align.losses import LOSSES, Loss, Prediction, Targets, check_offers, get_loss, loss, losses_of
from q_align.registry import PLUGINS

SCHEME = LevelScheme()
VALUES = SCHEME.values
PHI = NormalDist().cdf
SEEDS = st.integers(0, 2**20)
NAMES = ("hard", "level_only", "ordinal", "soft", "emd", "fidelity", "plcc", "mse", "huber")
REGRESSION = ("mse", "huber", "fidelity", "plcc")


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
    return of_levels(logits.log_softmax(-1)[:, :5], nll=logits.square().sum(1), tokens=tokens)


def of_levels(level_logp: Tensor, **answer: Tensor) -> Prediction:
    value = level_logp.softmax(-1) @ torch.tensor(VALUES, dtype=level_logp.dtype)
    return Prediction(value=value, level_logp=level_logp, **answer)


def of_head(value: Tensor) -> Prediction:
    return Prediction(value=value, level_logp=None)


def softmax(row: list[float]) -> list[float]:
    top = max(row)
    exp = [math.exp(x - top) for x in row]
    return [e / sum(exp) for e in exp]


class Slow:
    """The same losses, one number after the other; `mean` replaces the expected level, as a head's score does."""

    def __init__(self, logits: Tensor, targets: Targets, mean: list[float] | None = None) -> None:
        self.t = targets
        self.n = len(logits)
        self.full = [softmax(row)[:5] for row in logits.tolist()]
        self.p = [[x / sum(row) for x in row] for row in self.full]
        expected = [sum(a * v for a, v in zip(row, VALUES)) for row in self.p]
        self.mean = expected if mean is None else mean
        self.var = [sum(a * (v - m) ** 2 for a, v in zip(row, VALUES)) for row, m in zip(self.p, expected)]
        self.nll = [sum(x * x for x in row) for row in logits.tolist()]

    def hard(self) -> float:
        return sum(self.nll) / sum(range(3, 3 + self.n))

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

    def fidelity(self, std: str = "detached") -> float:
        losses = []
        for i in range(self.n):
            for j in range(i + 1, self.n):
                if self.t.source[i] != self.t.source[j]:
                    continue
                var = 2.0 if std == "fixed" else self.var[i] + self.var[j]
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
            if len(rows) < 3:
                continue
            x, y = np.array([self.mean[i] for i in rows]), self.t.mos.numpy()[rows]
            x, y = x - x.mean(), y - y.mean()
            if (y * y).mean() <= 1e-6:
                continue
            found += [float((x * y).mean() / math.sqrt((x * x).mean() * (y * y).mean() + 1e-6))] * len(rows)
        return 1 - sum(found) / len(found) if found else 0.0

    def mse(self) -> float:
        return sum((m - float(y)) ** 2 for m, y in zip(self.mean, self.t.mos)) / self.n

    def huber(self, delta: float = 1.0) -> float:
        errors = [abs(m - float(y)) for m, y in zip(self.mean, self.t.mos)]
        return sum(e * e / 2 if e <= delta else delta * (e - delta / 2) for e in errors) / self.n


@pytest.mark.parametrize("name", NAMES)
@given(seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_equals_slow_reference(name: str, seed: int) -> None:
    logits, targets = batch(seed)
    terms = get_loss(name)(predicted(logits), targets)
    assert list(terms) == [name]
    assert terms[name].item() == pytest.approx(getattr(Slow(logits, targets), name)(), abs=1e-7)


@pytest.mark.parametrize("name", REGRESSION)
@given(seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_a_head_without_levels_equals_slow_reference(name: str, seed: int) -> None:
    """A score without a level distribution; the std of fidelity is then fixed."""
    logits, targets = batch(seed)
    value = 3 + logits[:, 0]
    slow = Slow(logits, targets, value.tolist())
    expected = slow.fidelity("fixed") if name == "fidelity" else getattr(slow, name)()
    assert get_loss(name)(of_head(value), targets)[name].item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("name", REGRESSION)
def test_the_score_of_the_readout_wins_over_the_expected_level(name: str) -> None:
    logits, targets = batch(9)
    prediction = predicted(logits)
    prediction.value = value = 3 + logits[:, 0]
    slow = Slow(logits, targets, value.tolist())
    assert get_loss(name)(prediction, targets)[name].item() == pytest.approx(getattr(slow, name)(), abs=1e-9)


@pytest.mark.parametrize("std", ["fixed", "predicted", "detached"])
def test_fidelity_std(std: str) -> None:
    logits, targets = batch(3)
    found = get_loss("fidelity", options={"fidelity": {"std": std}})(predicted(logits), targets)["fidelity"]
    assert found.item() == pytest.approx(Slow(logits, targets).fidelity(std), abs=1e-9)


@given(seed=SEEDS, delta=st.floats(0.01, 5))
@settings(max_examples=30, deadline=None)
def test_options_reach_the_loss(seed: int, delta: float) -> None:
    logits, targets = batch(seed)
    huber = get_loss("huber", options={"huber": {"delta": delta}})(predicted(logits), targets)["huber"]
    assert huber.item() == pytest.approx(Slow(logits, targets).huber(delta), abs=1e-9)
    smooth = min(delta, 1.0)
    ordinal = get_loss("ordinal", options={"ordinal": {"smooth": smooth}})(predicted(logits), targets)["ordinal"]
    assert ordinal.item() == pytest.approx(Slow(logits, targets).ordinal(smooth), abs=1e-9)


def certain_logits() -> Tensor:
    """Certain and right, certain and wrong, equal, and beyond the range of exp in float32."""
    rows = torch.zeros(8, 12)
    for i, (level, height) in enumerate([(0, 40), (4, 40), (0, 1e4), (4, 1e4), (2, 200), (2, 200), (11, 1e4), (0, 0)]):
        rows[i, level] = height
    return rows.requires_grad_()


@pytest.mark.parametrize("name", [*NAMES, "fixed", "predicted"])
@pytest.mark.parametrize("std", [0.0, float("nan"), 1e-6, 0.5])
def test_gradients_are_finite_at_certainty(name: str, std: float) -> None:
    logits = certain_logits()
    mos = torch.tensor([5.0, 1.0, 1.0, 5.0, 3.0, 3.0, 3.0, 5.0])
    targets = Targets(
        level=torch.tensor(SCHEME.hard(mos.numpy())),
        probs=torch.tensor(SCHEME.soft(mos.numpy(), np.full(8, std)), dtype=torch.float32),
        mos=mos,
        std=torch.full((8,), std),
        source=torch.zeros(8, dtype=torch.long),
        values=torch.tensor(VALUES),
    )
    options = {"fidelity": {"std": name}} if name in ("fixed", "predicted") else None
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
    prediction = of_levels(targets.probs.clamp_min(1e-12).log())
    for name, most in (("soft", 1e-9), ("emd", 2e-4), ("plcc", 1e-2), ("mse", 1e-2), ("huber", 1e-2)):
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
        return get_loss(name)(of_levels(probs.log()), targets)[name].item()

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


def test_two_items_of_a_source_have_no_correlation() -> None:
    """Theirs is +1 or -1 whatever the scores: they must not drown the source that has one."""
    logits, targets = batch(6, size=7)
    targets.source = torch.tensor([0, 0, 1, 1, 1, 2, 2])
    rows = slice(2, 5)
    found = get_loss("plcc")(predicted(logits), targets)["plcc"]
    found.backward()
    alone = np.corrcoef((predicted(logits).probs @ targets.values).detach()[rows], targets.mos[rows])[0, 1]
    assert found.item() == pytest.approx(1 - alone, abs=1e-4)
    assert not logits.grad[[0, 1, 5, 6]].any()
    assert logits.grad[rows].any(1).all()


def test_by_default_a_model_gains_nothing_from_doubt() -> None:
    """The std of fidelity is detached unless said otherwise: the gradient moves the means alone."""
    logits, targets = batch(2)
    grads = []
    for options in ({"std": "predicted"}, {}):
        logits.grad = None
        get_loss("fidelity", options={"fidelity": options})(predicted(logits), targets)["fidelity"].backward()
        grads.append(logits.grad.clone())
    probs = predicted(logits).probs
    mean = probs @ targets.values
    # d mean / d logit_k = p_k (v_k - mean): a detached std leaves only multiples of it in each row
    direction = probs * (targets.values - mean[:, None])
    paired = grads[1].abs().sum(1) > 0
    assert paired.sum() > 2
    cosine = torch.nn.functional.cosine_similarity(grads[1][:, :5], direction).abs()[paired]
    torch.testing.assert_close(cosine, torch.ones_like(cosine))
    assert torch.nn.functional.cosine_similarity(grads[0][:, :5], direction).abs()[paired].min() < 0.999


@pytest.mark.parametrize("name", NAMES)
@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_the_order_of_the_rows_does_not_matter(name: str, seed: int) -> None:
    logits, targets = batch(seed)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
    prediction = predicted(logits)
    first = get_loss(name)(prediction, targets)[name]
    rows = {f: getattr(targets, f)[order] for f in ("level", "probs", "mos", "std", "source")}
    shuffled = of_levels(prediction.level_logp[order], nll=prediction.nll[order], tokens=prediction.tokens[order])
    torch.testing.assert_close(get_loss(name)(shuffled, Targets(values=targets.values, **rows))[name], first)


def test_tokens_of_the_update_weigh_the_whole_answer() -> None:
    """The mean of two batches with answers of different length is the loss of both in one."""
    logits, targets = batch(8, size=8)
    prediction = predicted(logits)
    whole = get_loss("hard")(prediction, targets)["hard"]
    halves = []
    for rows in (slice(0, 2), slice(2, 8)):
        part = of_levels(prediction.level_logp[rows], nll=prediction.nll[rows], tokens=prediction.tokens[rows])
        targets.batch_tokens = prediction.tokens.sum() / 2
        halves.append(get_loss("hard")(part, targets)["hard"])
    torch.testing.assert_close(torch.stack(halves).mean(), whole)


def test_blend_is_a_weighted_sum() -> None:
    logits, targets = batch(4)
    prediction = predicted(logits)
    weights = {"soft": 2.0, "fidelity": 0.5}
    blend = get_loss("blend", weights)(prediction, targets)
    assert set(blend) == set(weights)
    for name, weight in weights.items():
        torch.testing.assert_close(blend[name], weight * get_loss(name)(prediction, targets)[name])
    assert get_loss("blend", weights).pairwise
    assert set(get_loss("blend", weights).needs) == {"level_logp", "value"}
    assert not get_loss("soft").pairwise
    assert get_loss("blend", {"fidelity": 1, "plcc": 1}).group_size == 3


def test_facts_and_names() -> None:
    assert set(LOSSES.names()) >= set(NAMES)
    assert losses_of("blend", {"soft": 1, "plcc": 2}) == ("soft", "plcc")
    needs = {name: LOSSES[name].needs for name in NAMES}
    assert needs["hard"] == ("answer",)
    assert {name for name in NAMES if needs[name] == ("level_logp",)} == {"level_only", "ordinal", "soft", "emd"}
    assert {name for name in NAMES if needs[name] == ("value",)} == set(REGRESSION)


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_reads_only_what_it_needs(name: str) -> None:
    logits, targets = batch(1)
    whole, needs = predicted(logits), LOSSES[name].needs
    value = whole.probs @ targets.values
    part = of_head(value) if "value" in needs else Prediction(value=None, level_logp=whole.level_logp)
    if "answer" in needs:
        part = Prediction(value=None, level_logp=None, nll=whole.nll, tokens=whole.tokens)
    assert torch.isfinite(get_loss(name)(part, targets)[name])


def test_what_a_readout_does_not_offer_is_refused() -> None:
    check_offers(["soft", "fidelity"], ("value", "level_logp"))
    check_offers(["hard"], ["answer"])
    problem = (
        "loss 'soft' needs level_logp, but this readout offers value only; "
        "choose from fidelity, plcc, mse, huber (loss.name)"
    )
    with pytest.raises(ConfigError) as error:
        check_offers(["mse", "soft"], ["value"])
    assert str(error.value) == problem
    with pytest.raises(ConfigError, match="loss 'hard' needs answer, but this readout offers value, level_logp only"):
        check_offers(["hard"], ["value", "level_logp"])


def test_a_loss_of_ones_own(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module on PYTHONPATH, named in the environment."""
    (tmp_path / "absolute_error.py").write_text(
        "from q_align.losses import Prediction, Targets, loss\n"
        "@loss('absolute', needs=('value',))\n"
        "def absolute(prediction: Prediction, targets: Targets, *, scale: float = 1.0):\n"
        "    return {'absolute': scale * (prediction.value - targets.mos).abs().mean()}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(PLUGINS, "absolute_error")
    _, targets = batch(0)
    own = get_loss("blend", {"absolute": 0.5, "mse": 1.0}, {"absolute": {"scale": 3.0}})
    found = own(of_head(targets.mos + 2), targets)
    assert {name: round(value.item(), 6) for name, value in found.items()} == {"absolute": 3.0, "mse": 4.0}
    with pytest.raises(ConfigError, match="did you mean 'absolute'"):
        get_loss("absolut")


def test_registering_says_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="loss 'x' needs logits; a prediction has value, level_logp, answer"):
        loss("x", needs=("logits",))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="loss 'soft' is registered already"):
        loss("soft", needs=("value",))(lambda prediction, targets: {})
    with pytest.raises(ConfigError, match="loss 'x' must be a Loss, got function"):
        LOSSES.register("x", lambda prediction, targets: {})
    assert isinstance(LOSSES["soft"], Loss)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("sotf",), "unknown loss 'sotf' .did you mean 'soft'"),
        (("blend",), "needs loss.weights"),
        (("soft", {"emd": 1.0}), "belong to loss.name blend, not to 'soft'"),
        (("blend", {"soft": 0.0}), "loss.weights.soft must be > 0, got 0"),
        (("blend", {"sof": 1.0}), "unknown loss 'sof'"),
        (("soft", None, {"fidelity": {}}), "options for .'fidelity'., but the run's losses are .'soft'."),
        (("huber", None, {"huber": {"detla": 1}}), "unknown option 'detla'.*did you mean 'delta'.*options are delta"),
        (("mse", None, {"mse": {"delta": 1}}), "unknown option 'delta' of loss 'mse'; it has none"),
        (("fidelity", None, {"fidelity": {"std": "fix"}}), "std of loss 'fidelity' is one of fixed, pre.*got 'fix'"),
        (("huber", None, {"huber": {"delta": "1"}}), "delta of loss 'huber' is a number, got '1'"),
        (("huber", None, {"huber": {"delta": True}}), "is a number, got True"),
    ],
)
def test_wrong_names_are_refused(arguments: tuple, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        get_loss(*arguments)


@pytest.mark.parametrize(("name", "option", "value"), [("huber", "delta", 0), ("ordinal", "smooth", 1.1)])
def test_option_values_beyond_their_range_are_refused(name: str, option: str, value: float) -> None:
    logits, targets = batch(0)
    with pytest.raises(ConfigError, match=f"option {option} of loss '{name}' must .*, got {value}"):
        get_loss(name, options={name: {option: value}})(predicted(logits), targets)
