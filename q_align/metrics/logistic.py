"""Logistic fit of scores to MOS, as used before PLCC and RMSE.

Four parameters: VQEG FR-TV Phase I/II;  y = b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|)).
Five parameters: Sheikh, Sabir and Bovik, IEEE TIP 15(11), 2006;  y = b1 (1/2 - 1 / (1 + exp(b2 (x - b3)))) + b4 x + b5.

Both are linear in all but a centre and a width. For each centre and width on a grid the rest is solved exactly by
least squares; every dip of the grid starts a refinement and the best end wins. No start values to guess, nothing
random, and data that are nearly straight, nearly a step, or falling are fitted like any others.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from q_align.metrics.correlation import finite_pairs, is_constant, pearson

_CENTRES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)  # quantiles of the scores
_WIDTHS = np.geomspace(0.06, 8.0, 9)  # in standard deviations of the scores
# Centre and log width, standardised. Narrower than a twentieth of a standard deviation, the curve is a step that
# fits the chance gaps of small sets.
_LIMITS = np.array([[-10.0, np.log(0.05)], [10.0, np.log(30.0)]])
_DIPS = 6
_EVALUATIONS = 200
_GRID_ROWS = 2000  # the grid looks at so many items at most; the refinement looks at all


@dataclass(frozen=True, slots=True)
class LogisticFit:
    """A fitted curve.

    Attributes:
        beta: parameters as in the module's formulas, in the units of the data; () where nothing could be fitted.
        converged: whether the optimiser met its tolerance.
        monotone: whether the curve never turns within the range of the scores (always true of four parameters).
        plcc: Pearson correlation of the mapped scores with the MOS.
        rmse: root mean squared error of the mapped scores (divided by n), in units of the MOS.
        note: why there is no fit, or what to know about it; "" otherwise.
    """

    beta: tuple[float, ...]
    converged: bool
    monotone: bool
    plcc: float
    rmse: float
    note: str = ""

    def __call__(self, score: Any) -> np.ndarray:
        """Mapped scores, any shape."""
        return logistic_curve(score, self.beta)

    def record(self) -> dict[str, Any]:
        return asdict(self)


def logistic_curve(score: Any, beta: tuple[float, ...]) -> np.ndarray:
    """The logistic of four or five parameters at `score`.

    Raises:
        ValueError: for any other number of parameters.
    """
    from scipy.special import expit  # never overflows

    x = np.asarray(score, dtype=np.float64)
    if len(beta) == 4:
        b1, b2, b3, b4 = beta
        return b2 + (b1 - b2) * expit((x - b3) / abs(b4))
    if len(beta) == 5:
        b1, b2, b3, b4, b5 = beta
        return b1 * (0.5 - expit(-b2 * (x - b3))) + b4 * x + b5
    raise ValueError(f"a logistic has 4 or 5 parameters, got {len(beta)}")


def fit_logistic(mos: Any, score: Any, *, parameters: int = 4) -> LogisticFit:
    """Least-squares fit of MOS on scores.

    Args:
        mos: (N,) mean opinion scores; items without a finite pair are left out.
        score: (N,) predictions.
        parameters: 4 or 5.

    Returns:
        The fit; with `beta == ()` and NaN measures for too few items (n <= parameters) or a constant side.
    """
    if parameters not in (4, 5):
        raise ValueError(f"a logistic has 4 or 5 parameters, got {parameters}")
    mos, score, _ = finite_pairs(mos, score)
    if len(mos) <= parameters:
        return _no_fit(f"{len(mos)} items are too few for {parameters} parameters")
    if is_constant(mos) or is_constant(score):
        return _no_fit("the scores are constant" if is_constant(score) else "the MOS values are constant")
    mx, sx, my, sy = score.mean(), score.std(), mos.mean(), mos.std()
    x, y = (score - mx) / sx, (mos - my) / sy
    linear = parameters == 5
    found = _refine(x, y, _start(x, y, linear), linear)
    weights, _ = _solve(x, y, found.x, linear)
    beta = _beta(weights, found.x, (mx, sx, my, sy))
    mapped = logistic_curve(score, beta)
    edge = bool(np.any(np.isclose(found.x, _LIMITS[0], atol=1e-3) | np.isclose(found.x, _LIMITS[1], atol=1e-3)))
    turns = np.diff(logistic_curve(np.linspace(score.min(), score.max(), 513), beta))
    return LogisticFit(
        beta=beta,
        converged=bool(found.success),
        monotone=not linear or bool(np.all(turns >= 0) or np.all(turns <= 0)),
        plcc=pearson(mos, mapped),
        rmse=float(np.sqrt(np.mean((mos - mapped) ** 2))),
        note="logistic fit at a parameter bound: the mapping is almost linear or a step here (harmless)"
        if edge
        else "",
    )


def _no_fit(why: str) -> LogisticFit:
    return LogisticFit((), False, False, float("nan"), float("nan"), why)


def _solve(x: np.ndarray, y: np.ndarray, shape: np.ndarray, linear: bool) -> tuple[np.ndarray, np.ndarray]:
    """For a centre and a log width: the linear weights (2 or 3) and the residuals (n,)."""
    from scipy.special import expit

    columns = [np.ones_like(x), expit((x - shape[0]) / np.exp(shape[1])) - 0.5]
    if linear:
        columns.append(x)
    design = np.stack(columns, axis=1)
    # A tall design is reduced to its small triangle first; lstsq alone then copes with collinear columns.
    q, r = np.linalg.qr(design)
    weights = np.linalg.lstsq(r, q.T @ y, rcond=1e-10)[0]
    return weights, design @ weights - y


def _start(x: np.ndarray, y: np.ndarray, linear: bool) -> np.ndarray:
    """Centre and log width near the best fit: every dip of a coarse grid, refined on at most `_GRID_ROWS` items."""
    if len(x) > _GRID_ROWS:
        rows = np.argsort(x, kind="stable")[np.linspace(0, len(x) - 1, _GRID_ROWS).astype(int)]
        x, y = x[rows], y[rows]  # spread over the whole range of scores
    centres, widths = np.quantile(x, _CENTRES), np.log(_WIDTHS)
    errors = np.array([[np.sum(_solve(x, y, np.array([c, w]), linear)[1] ** 2) for w in widths] for c in centres])
    around = np.pad(errors, 1, constant_values=np.inf)
    beside = np.min([around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]], axis=0)
    dips = np.argwhere(errors <= beside)
    dips = dips[np.argsort(errors[tuple(dips.T)])][:_DIPS]
    ends = [_refine(x, y, np.array([centres[c], widths[w]]), linear) for c, w in dips]
    return min(ends, key=lambda end: end.cost).x


def _refine(x: np.ndarray, y: np.ndarray, start: np.ndarray, linear: bool) -> Any:
    from scipy.optimize import least_squares

    start = np.clip(start, _LIMITS[0] + 1e-6, _LIMITS[1] - 1e-6)
    tight = {"xtol": 1e-12, "ftol": 1e-12, "gtol": 1e-12}
    return least_squares(
        lambda shape: _solve(x, y, shape, linear)[1], start, bounds=_LIMITS, max_nfev=_EVALUATIONS, **tight
    )


def _beta(weights: np.ndarray, shape: np.ndarray, scale: tuple[float, ...]) -> tuple[float, ...]:
    """Weights on standardised data -> the parameters of the module's formulas."""
    mx, sx, my, sy = scale
    centre = mx + sx * shape[0]
    width = sx * np.exp(shape[1])
    base, height = my + sy * weights[0], sy * weights[1]
    if len(weights) == 2:
        values = [base + height / 2, base - height / 2, centre, width]
    else:
        slope = sy * weights[2] / sx
        values = [height, 1.0 / width, centre, slope, base - slope * mx]
    return tuple(float(v) for v in values)
