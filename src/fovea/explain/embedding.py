"""Codes of many samples in the plane: which of them a network takes for alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import ConfigError, MissingExtra, ShapeError

__all__ = ["EMBEDDINGS", "Embedding", "checked_method", "embed"]

Array = npt.NDArray[Any]
EMBEDDINGS = ("pca", "tsne")
_EXACT = 400
_FIRST = 50
"""Components that t-SNE sees: van der Maaten and Hinton reduce by PCA first, against noise and for speed."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """``points``: float64 N,2. ``explained``: of PCA the shares of the variance along both axes, else None."""

    points: npt.NDArray[np.float64]
    method: str
    explained: tuple[float, float] | None


def embed(codes: Array, method: str = "pca", *, perplexity: float = 30.0, seed: int = 0) -> Embedding:
    """Codes N,D (``fovea.codes(...).array``, say) -> points N,2.

    "pca" projects on the two directions of the largest variance (distances are those of the projection, the axes mean
    something); "tsne" keeps neighbours together and says nothing by distances between groups, nor by their size. It
    needs the extra ``explain`` (scikit-learn), starts from the first two principal components, and repeats for one
    ``seed``. ``perplexity`` is about how many neighbours a point has; it is lowered to a third of the samples.

    Raises ConfigError, ShapeError for fewer than three samples, MissingExtra.
    Source: van der Maaten and Hinton 2008, "Visualizing data using t-SNE".
    """
    checked_method(method)
    values = np.asarray(codes)
    if values.ndim != 2 or len(values) < 3 or values.dtype.kind not in "fiu":
        raise ShapeError("embedding", f"expected codes N,D of at least 3 samples, got {values.shape}; see fovea.codes")
    if not np.isfinite(values).all():
        raise ShapeError("embedding", "expected finite codes, got infinite ones or nan; the weights are broken")
    scores, shares = _principal(values.astype(np.float64), min(_FIRST, *values.shape))
    if method == "pca":
        points = np.zeros((len(values), 2))
        points[:, : min(2, scores.shape[1])] = scores[:, :2]
        both = (*shares[:2].tolist(), 0.0)[:2]
        return Embedding(points, method, (float(both[0]), float(both[1])))
    return Embedding(_tsne(scores, perplexity, seed), method, None)


def checked_method(method: str) -> str:
    """The method, if it is one. Raises ConfigError."""
    if method not in EMBEDDINGS:
        raise ConfigError("embedding", f"expected {' or '.join(EMBEDDINGS)}, got {method!r}; choose one of them")
    return method


def _principal(values: npt.NDArray[np.float64], count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Scores N,count on the principal components and their shares of the variance, by singular values of the centred
    codes; each axis points to where the largest absolute score is positive."""
    centred = values - values.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    scores = left[:, :count] * singular[:count]
    signs = np.sign(scores[np.abs(scores).argmax(axis=0), np.arange(scores.shape[1])])
    total = float((singular**2).sum())
    return scores * np.where(signs == 0, 1, signs), singular**2 / (total if total > 0 else 1.0)


def _tsne(scores: npt.NDArray[np.float64], perplexity: float, seed: int) -> npt.NDArray[np.float64]:
    if isinstance(perplexity, bool) or not isinstance(perplexity, (int, float)) or not 1 <= perplexity <= 1e6:
        raise ConfigError(
            "embedding", f"expected perplexity as a number of at least 1, got {perplexity!r}; 30 is usual"
        )
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise MissingExtra("embedding", "explain", "t-SNE") from None
    spread = float(scores[:, 0].std()) if scores.shape[1] > 1 else 0.0
    start = scores[:, :2] / spread * 1e-4 if spread > 0 else "random"
    perplexity = min(float(perplexity), (len(scores) - 1) / 3)
    how = "exact" if len(scores) <= _EXACT else "barnes_hut"  # of few points all pairs are computed faster than trees
    fitting = TSNE(2, perplexity=perplexity, init=start, method=how, random_state=seed)
    return np.asarray(fitting.fit_transform(scores), np.float64)
