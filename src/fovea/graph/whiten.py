"""A first layer that whitens: a convolution whose outputs on the training images have no correlation and variance 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import ShapeError

__all__ = ["whitening_weight"]

Array = npt.NDArray[Any]
_ROWS = 1 << 16  # patches that are multiplied at a time


def whitening_weight(inputs: Array, kernel_size: int = 2, eps: float = 5e-4) -> npt.NDArray[np.float32]:
    """The weight ``kernel, kernel, C, 2 * kernel * kernel * C`` of a convolution that whitens patches of ``inputs``.

    ``inputs``: network input ``N,H,W,C``, after the pixel half of preprocessing; a few thousand images are enough.
    With the patches' second moments ``E[p p^T] = V diag(l) V^T``, filter i is ``v_i / sqrt(l_i + eps)``, those of the
    largest variance first; the second half of the filters is the negative of the first, so that a ReLU or GELU behind
    them loses nothing. Put it into ``Conv(2 * kernel**2 * C, kernel, use_bias=False)`` and freeze that layer.

    Raises ShapeError for anything but images with a patch in them. Source: Jordan 2024, "94% on CIFAR-10 in 3.29
    seconds on a single GPU", section 3.1, after Page 2018, "How to train your ResNet".

    >>> whitening_weight(np.random.default_rng(0).normal(size=(64, 8, 8, 3))).shape
    (2, 2, 3, 24)
    """
    images = np.asarray(inputs)
    if images.ndim != 4 or kernel_size < 1 or len(images) == 0 or min(images.shape[1:3]) < kernel_size:
        raise ShapeError(
            "whitening", f"expected images N,H,W,C with patches of {kernel_size}, got shape {images.shape}; give some"
        )
    windows = np.lib.stride_tricks.sliding_window_view(images, (kernel_size, kernel_size), (1, 2))  # N,Ho,Wo,C,k,k
    size = kernel_size * kernel_size * images.shape[3]
    step = max(1, _ROWS // (windows.shape[1] * windows.shape[2]))
    moments = np.zeros((size, size))
    for start in range(0, len(images), step):
        patches = windows[start : start + step].transpose(0, 1, 2, 4, 5, 3).reshape(-1, size).astype(np.float64)
        moments += patches.T @ patches
    moments /= len(images) * windows.shape[1] * windows.shape[2]
    values, vectors = np.linalg.eigh(moments)  # ascending
    signs = np.where(vectors[np.abs(vectors).argmax(axis=0), np.arange(size)] < 0, -1.0, 1.0)  # eigenvectors have none
    filters = (vectors * signs / np.sqrt(np.maximum(values, 0.0) + eps))[:, ::-1]
    both = np.concatenate([filters, -filters], axis=1)
    return both.reshape(kernel_size, kernel_size, images.shape[3], 2 * size).astype(np.float32)
