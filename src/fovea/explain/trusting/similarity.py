"""How alike two attribution maps are: rank correlation and structural similarity, of absolute or of signed values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SIMILARITIES", "rank_correlation", "similarities", "structural_similarity"]

Array = npt.NDArray[Any]
SIMILARITIES = ("spearman_abs", "spearman", "ssim_abs", "ssim")
"""What ``similarities`` gives, in this order."""

_SIGMA, _WINDOW = 1.5, 11
_K1, _K2 = 0.01, 0.03


def rank_correlation(a: Array, b: Array) -> float:
    """Spearman's rho of two maps: the correlation of their ranks, ties with their mean rank; 0 for a constant map.

    Source: Spearman 1904; as a similarity of attributions Adebayo et al. 2018, section 3.
    """
    x, y = _ranks(np.ravel(a)), _ranks(np.ravel(b))
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 0 else 0.0


def _ranks(values: Array) -> Array:
    """1 for the smallest; equal values share the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    means = last - (counts - 1) / 2
    ranks: Array = means[places.reshape(-1)]
    return ranks


def structural_similarity(a: Array, b: Array, span: float) -> float:
    """SSIM of two maps *spatial with values in an interval of length ``span``: the mean over all windows of

        (2 m_a m_b + C1) (2 c_ab + C2) / ((m_a^2 + m_b^2 + C1) (v_a + v_b + C2))

    with C1 = (0.01 span)^2, C2 = (0.03 span)^2, and means, variances and covariance under a Gaussian of 1.5 pixels in
    windows of 11 along each axis (smaller ones on smaller maps). Source: Wang et al. 2004, "Image
    quality assessment", section III.
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    taps = _gaussian(min(_WINDOW, *(side - 1 + side % 2 for side in x.shape)))
    mean_x, mean_y = _blurred(x, taps), _blurred(y, taps)
    var_x, var_y = _blurred(x * x, taps) - mean_x**2, _blurred(y * y, taps) - mean_y**2
    covariance = _blurred(x * y, taps) - mean_x * mean_y
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return float((above / below).mean())


def _gaussian(size: int) -> Array:
    places = np.arange(size) - size // 2
    taps = np.exp(-(places**2) / (2 * _SIGMA**2))
    return taps / taps.sum()  # type: ignore[no-any-return]


def _blurred(values: Array, taps: Array) -> Array:
    """Where the whole window lies inside."""
    for axis in range(values.ndim):
        windows = np.lib.stride_tricks.sliding_window_view(values, len(taps), axis)
        values = windows @ taps
    return values


def similarities(a: Array, b: Array) -> tuple[float, ...]:
    """``SIMILARITIES`` of two maps *spatial. For SSIM each is brought to 0..1 by its largest absolute value, signed
    values with 0 in the middle (Adebayo et al., section 3)."""
    unit_a, unit_b = (one / max(float(np.abs(one).max()), 1e-30) for one in (a, b))
    return (
        rank_correlation(np.abs(a), np.abs(b)),
        rank_correlation(a, b),
        structural_similarity(np.abs(unit_a), np.abs(unit_b), 1.0),
        structural_similarity((unit_a + 1) / 2, (unit_b + 1) / 2, 1.0),
    )
