"""fovea.random's generator on tensors: the words that ``fovea.random.bits`` gives, computed on the device.

Words have 32 bits and are kept in int64, where a product of two wraps around but its bits stay right: the upper half is
taken with a shift and a mask, which makes the shift a logical one.
"""

from __future__ import annotations

import torch

__all__ = ["bits"]

_LOW = 0xFFFFFFFF
_MULTIPLIER_0, _MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
_WEYL_0, _WEYL_1 = 0x9E3779B9, 0xBB67AE85


def bits(key: torch.Tensor, start: torch.Tensor, count: int) -> torch.Tensor:
    """Words ``start`` to ``start + count`` of a key: int64, ``count``.

    ``key``: int64, 2: the lower and the upper 32 bits; ``start``: one int64. Four words come from one block.
    """
    block = torch.arange(count // 4 + 2, device=key.device) + start // 4
    words = torch.stack(_philox(block & _LOW, block >> 32, key), dim=-1).reshape(-1)
    return words[torch.arange(count, device=key.device) + start % 4]


def _philox(c0: torch.Tensor, c1: torch.Tensor, key: torch.Tensor) -> list[torch.Tensor]:
    """Ten rounds of Philox4x32 (Salmon et al. 2011); the last two counter words are 0, as ``fovea.random`` draws."""
    k0, k1 = key[0], key[1]
    c2 = c3 = torch.zeros_like(c0)
    for number in range(10):
        if number:
            k0, k1 = (k0 + _WEYL_0) & _LOW, (k1 + _WEYL_1) & _LOW
        product_0, product_1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (
            (product_1 >> 32) & _LOW ^ c1 ^ k0,
            product_1 & _LOW,
            (product_0 >> 32) & _LOW ^ c3 ^ k1,
            product_0 & _LOW,
        )
    return [c0, c1, c2, c3]
