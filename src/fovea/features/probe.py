"""Linear probe: logistic regression on codes, in a form that goes straight into a Dense layer."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import ConfigError, MissingExtra, ShapeError
from fovea.features.folds import checked_codes, class_names, folds_of, held_out
from fovea.ops.base import is_number
from fovea.tasks.metrics import softmax

__all__ = ["GRID", "Probe", "linear_probe"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse strengths of the penalty; codes are standardised, so the same range serves every network."""
_DEFAULT = 1e-2
"""Where no class has two samples, so that nothing can be held out."""
_STEPS, _MOST_STEPS = 300, 5000


@dataclass(frozen=True)
class Probe:
    """A linear classifier on codes N,D: ``logits = codes @ weight + bias``, weight D,K and bias K as a Dense layer has
    them.

    ``accuracy``: on held-out folds, all held-out samples together; ``spread``: the standard deviation over the folds
    (both nan where nothing could be held out). ``c``: the inverse strength of the penalty that was chosen, from
    ``tried``: accuracy by c.
    """

    weight: Floats
    bias: Floats
    classes: tuple[str, ...]
    c: float
    accuracy: float
    spread: float
    folds: int
    tried: Mapping[float, float]

    def logits(self, codes: Array) -> Floats:
        """Codes N,D -> logits N,K. Raises ShapeError for codes of another layer."""
        values = np.asarray(codes, np.float32)
        if values.ndim != 2 or values.shape[1] != len(self.weight):
            expected = f"expected codes (N, {len(self.weight)}), got {values.shape}"
            raise ShapeError("probe", f"{expected}; take them from the layer that it was made for")
        return values @ self.weight + self.bias

    def probabilities(self, codes: Array) -> Floats:
        """Codes N,D -> probabilities N,K."""
        return softmax(self.logits(codes)).astype(np.float32)

    def predict(self, codes: Array) -> Rows:
        """Codes N,D -> class numbers N."""
        chosen: Rows = self.logits(codes).argmax(axis=1).astype(np.int64)
        return chosen

    def score(self, codes: Array, targets: Array) -> float:
        """The share of samples that it puts into their class."""
        return float((self.predict(codes) == np.asarray(targets)).mean())


def linear_probe(
    codes: Array, targets: Array, classes: Sequence[str] | int, *, seed: int = 0, folds: int = 5,
    grid: Sequence[float] = GRID,
) -> Probe:  # fmt: skip
    """Multinomial logistic regression with an L2 penalty on standardised codes; C by stratified cross-validation.

    ``codes`` N,D, ``targets`` N class numbers, ``classes`` their names or number. Minimises
    ``|w|^2 / 2 + C sum_n cross_entropy(n)``, w without the bias. The C with the best held-out accuracy is taken, among
    equals the one with the lowest held-out cross-entropy. Small classes make fewer folds; a class with one sample is
    learnt from in every fold and never held out. Mean and deviation of standardising come from all samples, held out
    ones too: they carry no labels. The result has them folded in.

    Fewer samples than numbers in a code cost no more than the samples: the solution lies in their span.
    Raises MissingExtra without scikit-learn, DataError for a class without samples.
    """
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise ConfigError("linear probe", f"expected folds as an integer of at least 2, got {folds!r}; 5 is usual")
    if not isinstance(grid, (list, tuple)) or not grid or not all(is_number(c) and c > 0 for c in grid):
        raise ConfigError("linear probe", f"expected grid as numbers above 0, got {grid!r}; leave it out")
    names = class_names("linear probe", classes)
    values, labels = checked_codes("linear probe", codes, targets, names)
    mean, deviation = _standard(values)
    fold = folds_of(labels, folds, seed)
    with _one_thread():
        z, basis = _spanned((values - mean) / deviation)
        chosen, tried, accuracy, spread = _chosen(z, labels, fold, sorted(float(c) for c in grid))
        fitted, constant = _Regression(_MOST_STEPS).fit(z, labels, chosen)
        spanned = fitted if basis is None else basis @ fitted
    weight = spanned / deviation[:, None]
    bias = constant - mean @ weight
    return Probe(
        weight.astype(np.float32), bias.astype(np.float32), names, chosen, accuracy, spread,
        int(fold.max(initial=-1)) + 1, tried,
    )  # fmt: skip


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Products of this size are bound by memory: more threads of BLAS wait for each other, and change the last bits."""
    try:
        import threadpoolctl  # comes with scikit-learn
    except ImportError:
        raise MissingExtra("linear probe", "transfer", "logistic regression") from None
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        yield


def _standard(values: Floats) -> tuple[Doubles, Doubles]:
    """Mean and deviation of every column; 1 where it is constant."""
    mean, deviation = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    return mean, np.where(deviation > 1e-6 * np.maximum(1e-6, np.abs(mean)), deviation, 1.0)


def _spanned(z: Doubles) -> tuple[Doubles, Doubles | None]:
    """Coordinates N,N in an orthonormal basis D,N of the samples' span, where that is much smaller: z = them basis^T.

    The penalty is the same there, and the gradient of the loss has no part outside.
    """
    if 2 * z.shape[0] > z.shape[1]:
        return z, None
    basis, coordinates = np.linalg.qr(z.T)
    return np.ascontiguousarray(coordinates.T), basis


def _chosen(z: Doubles, labels: Rows, fold: Rows, grid: list[float]) -> tuple[float, dict[float, float], float, float]:
    """The best C of the grid, the accuracy of each, and the accuracy of the best with its spread over folds."""
    splits = list(held_out(fold))
    if not splits:
        return _DEFAULT, {}, float("nan"), float("nan")
    right: dict[float, list[Array]] = {c: [] for c in grid}
    losses: dict[float, list[Array]] = {c: [] for c in grid}
    for learnt, held in splits:
        path = _Regression(_STEPS)
        for c in grid:  # from the strongest penalty on: each solution is where the next one begins
            weight, bias = path.fit(z[learnt], labels[learnt], c)
            shares = softmax(z[held] @ weight + bias)
            right[c].append(shares.argmax(axis=1) == labels[held])
            losses[c].append(-np.log(np.maximum(shares[np.arange(len(held)), labels[held]], 1e-12)))
    results = [
        (
            float(np.concatenate(right[c]).mean()), -float(np.concatenate(losses[c]).mean()), c,
            float(np.std([one.mean() for one in right[c]])),
        )
        for c in grid
    ]  # fmt: skip
    accuracy, _, best, spread = max(results, key=lambda result: result[:2])
    return best, {c: one for one, _, c, _ in results}, accuracy, spread


class _Regression:
    """scikit-learn's logistic regression; a second fit begins where the first one ended."""

    def __init__(self, steps: int) -> None:
        try:
            from sklearn.linear_model import LogisticRegression
        except ImportError:
            raise MissingExtra("linear probe", "transfer", "logistic regression") from None
        self._model = LogisticRegression(max_iter=steps, warm_start=True)

    def fit(self, z: Doubles, labels: Rows, c: float) -> tuple[Doubles, Doubles]:
        """Weight D,K and bias K; two classes share theirs with opposite signs."""
        with warnings.catch_warnings():  # a weak penalty on separable classes needs no last digit to be compared
            warnings.simplefilter("ignore")
            self._model.set_params(C=c).fit(z, labels)
        weight, bias = self._model.coef_.T, self._model.intercept_
        if weight.shape[1] == 1:
            return np.concatenate([-weight, weight], axis=1) / 2, np.array([-bias[0], bias[0]]) / 2
        return weight, bias
