"""Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

A key is a ``numpy.uint64``; whatever is drawn is a pure function of the key, so results do not depend on the order in
which samples are visited, on threads or on restarts. Keys come from ``(seed, purpose, indices)``. Arrays of keys work
everywhere: an array of shape ``K`` and ``count`` draws give ``K + (count,)``. The C++ core holds the same generator.

Integer draws (``bits``, ``integers``, ``permutation``) are equal on every machine; ``normal`` goes through ``log`` and
``cos`` and may differ in the last bit between platforms.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["bits", "fold_in", "integers", "key", "normal", "permutation", "philox", "uniform"]

Keys = np.uint64 | npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_DRAW, _FOLD = np.uint64(0), np.uint64(1)  # third counter word: keeps draws and derived keys apart
_CHUNK = 1 << 16  # blocks computed at a time, so that the intermediate words stay in cache


def philox(counter: tuple[Any, Any, Any, Any], key_low: Any, key_high: Any) -> tuple[U64, U64, U64, U64]:
    """Ten rounds on four 32-bit counter words and a 64-bit key; words are ``uint64`` arrays below 2**32, broadcast."""
    c0, c1, c2, c3 = (np.asarray(word, np.uint64) for word in counter)
    k0, k1 = np.asarray(key_low, np.uint64), np.asarray(key_high, np.uint64)
    for round_index in range(10):
        if round_index:
            k0 = (k0 + np.uint64(_WEYL_0)) & _LOW
            k1 = (k1 + np.uint64(_WEYL_1)) & _LOW
        product_0, product_1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (
            (product_1 >> _SHIFT) ^ c1 ^ k0,
            product_1 & _LOW,
            (product_0 >> _SHIFT) ^ c3 ^ k1,
            product_0 & _LOW,
        )
    return c0, c1, c2, c3


def key(seed: int, purpose: str, *indices: int) -> np.uint64:
    """The key of ``(seed, purpose, indices)``, for example ``key(0, "order", epoch)``.

    >>> key(0, "order", 3) == key(0, "order", 3), key(0, "order", 3) == key(0, "order", 4)
    (np.True_, np.False_)
    """
    digest = hashlib.blake2b(purpose.encode(), digest_size=8).digest()
    result = fold_in(np.uint64(int(seed) % (1 << 64)), np.uint64(int.from_bytes(digest, "little")))
    for index in indices:
        result = fold_in(result, np.uint64(int(index) % (1 << 64)))
    return np.uint64(result)


def fold_in(keys: Keys, data: Any) -> Any:
    """New keys from keys and integers (broadcast): one key per sample is ``fold_in(key, sample_indices)``."""
    keys, data = np.asarray(keys, np.uint64), np.asarray(data).astype(np.uint64)
    low, high, _, _ = philox((data & _LOW, data >> _SHIFT, _FOLD, _DRAW), keys & _LOW, keys >> _SHIFT)
    folded = low | (high << _SHIFT)
    return folded if folded.ndim else np.uint64(folded)


def bits(keys: Keys, count: int) -> U32:
    """``count`` 32-bit words for each key: shape ``keys.shape + (count,)``; a longer draw begins with the shorter
    one."""
    keys = np.asarray(keys, np.uint64)
    blocks = -(-int(count) // 4)
    words = np.empty((*keys.shape, blocks, 4), np.uint32)
    low, high = (keys & _LOW)[..., None], (keys >> _SHIFT)[..., None]
    step = max(1, _CHUNK // max(1, keys.size))
    for start in range(0, blocks, step):
        block = np.arange(start, min(start + step, blocks), dtype=np.uint64)
        for lane, word in enumerate(philox((block & _LOW, block >> _SHIFT, _DRAW, _DRAW), low, high)):
            words[..., start : start + len(block), lane] = word
    return words.reshape(*keys.shape, blocks * 4)[..., :count]


def uniform(keys: Keys, count: int, low: float = 0.0, high: float = 1.0) -> npt.NDArray[np.float32]:
    """float32 in [low, high), 24 random bits each: shape ``keys.shape + (count,)``.

    Rounding may give ``high`` itself when low is not 0.
    """
    unit = (bits(keys, count) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    return unit * np.float32(high - low) + np.float32(low)


def integers(keys: Keys, count: int, low: int, high: int) -> npt.NDArray[np.int64]:
    """Integers in [low, high) by multiply-shift (bias below (high - low) / 2**32): shape ``keys.shape + (count,)``."""
    return ((bits(keys, count).astype(np.uint64) * np.uint64(high - low)) >> _SHIFT).astype(np.int64) + low


def normal(keys: Keys, count: int) -> npt.NDArray[np.float32]:
    """Standard normal float32 by Box and Muller (1958): shape ``keys.shape + (count,)``."""
    pairs = -(-int(count) // 2)
    word = bits(keys, 2 * pairs).astype(np.float64)
    radius = np.sqrt(-2.0 * np.log((word[..., 0::2] + 1.0) * 2.0**-32))
    angle = word[..., 1::2] * (2.0 * np.pi * 2.0**-32)
    both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return both.reshape(*both.shape[:-2], 2 * pairs)[..., :count].astype(np.float32)


def permutation(one_key: np.uint64, n: int) -> npt.NDArray[np.int64]:
    """A permutation of ``range(n)``: the stable order of ``n`` 64-bit draws."""
    word = bits(one_key, 2 * n).astype(np.uint64)
    return np.argsort(word[0::2] | (word[1::2] << _SHIFT), kind="stable").astype(np.int64)
