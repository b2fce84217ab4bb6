"""Duplicates among samples: exact ones by the hash of their bytes, near ones by a difference hash of the image.

Difference hash (N. Krawetz, 2013): the image shrunk to 9 x 8 grey cells, 64 bits that say whether a cell is brighter
than its left neighbour. Re-encoding, scaling and small changes of brightness keep nearly all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.spatial import luma

__all__ = ["difference_hash", "exact_groups", "near_pairs", "thumbnails"]

Array = npt.NDArray[Any]
Pairs = npt.NDArray[np.int64]

_CELL = 16  # coarse thumbnails are 16 x 16
_MARGIN = 1.0  # grey levels by which a cell must be brighter: flat areas give zeros, not noise
_NEIGHBOURS = 256  # how far a bucket of equal bits is searched
_CHUNK = 1024


def exact_groups(digests: list[bytes]) -> list[list[int]]:
    """Groups of two or more positions with the same digest, in order of appearance."""
    groups: dict[bytes, list[int]] = {}
    for position, digest in enumerate(digests):
        groups.setdefault(digest, []).append(position)
    return [group for group in groups.values() if len(group) > 1]


def thumbnails(images: Array, height: int = _CELL, width: int = _CELL) -> npt.NDArray[np.float32]:
    """``N,H,W,C`` uint8 to ``N,height,width`` grey, each cell the mean of the area that it covers."""
    rows, columns = _averages(images.shape[1], height), _averages(images.shape[2], width).T
    result = np.empty((len(images), height, width), np.float32)
    for start in range(0, len(images), _CHUNK):
        part = images[start : start + _CHUNK]
        grey = luma(part) if part.shape[3] == 3 else part[..., 0]
        result[start : start + len(part)] = rows @ grey.astype(np.float32) @ columns
    return result


def _averages(side: int, cells: int) -> npt.NDArray[np.float32]:
    """Matrix ``cells,side``: what part of each pixel a cell covers, rows summing to 1."""
    edges = np.linspace(0, side, cells + 1)
    pixel = np.arange(side)
    cover = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.asarray(np.clip(cover, 0, None) * cells / side, np.float32)


def difference_hash(images: Array) -> npt.NDArray[np.uint64]:
    """64 bits for each of ``N,H,W,C`` uint8 images."""
    cells = thumbnails(images, 8, 9)
    brighter = cells[:, :, 1:] > cells[:, :, :-1] + _MARGIN
    return np.packbits(brighter.reshape(len(images), 64), axis=1).view(">u8")[:, 0].astype(np.uint64)


def near_pairs(parts: Sequence[Array]) -> Pairs:
    """Pairs ``(P, 2)`` of positions, smaller first, of images that look the same.

    ``parts``: arrays ``N,H,W,C`` (splits, say), numbered through one after the other.

    Candidates differ in at most 3 of 64 bits: then one of four 16-bit bands is equal, and only within equal bands is
    searched. A candidate counts when its thumbnails agree, first the coarse, then the fine ones: correlation at least
    0.98 and a mean difference of at most 10 grey levels.
    """
    if sum(len(part) for part in parts) < 2:
        return np.empty((0, 2), np.int64)
    coarse = np.concatenate([thumbnails(part) for part in parts])
    hashes = np.concatenate([difference_hash(part) for part in parts])
    busy = np.flatnonzero(coarse.reshape(len(coarse), -1).std(axis=1) > 2.0)  # nearly blank images all look the same
    pairs = busy[_close_hashes(hashes[busy])]
    pairs = pairs[_agree(coarse, pairs, 0.97)]
    if not len(pairs):
        return pairs
    involved, places = np.unique(pairs, return_inverse=True)
    fine = min(32, *parts[0].shape[1:3])
    starts = np.cumsum([0, *(len(part) for part in parts)])
    chosen = [
        part[involved[(involved >= start) & (involved < start + len(part))] - start]
        for part, start in zip(parts, starts, strict=False)
    ]
    small = np.concatenate([thumbnails(part, fine, fine) for part in chosen])
    return pairs[_agree(small, places.reshape(pairs.shape), 0.98)]


def _agree(small: npt.NDArray[np.float32], pairs: Pairs, least: float) -> npt.NDArray[np.bool_]:
    """Which pairs of thumbnails correlate at ``least`` and differ by at most 10 levels on average."""
    flat = small.reshape(len(small), -1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    length = np.sqrt((centred * centred).sum(axis=1)) + 1e-6
    keep = np.empty(len(pairs), bool)
    for start in range(0, len(pairs), 4096):
        a, b = pairs[start : start + 4096].T
        correlation = np.einsum("ij,ij->i", centred[a], centred[b]) / (length[a] * length[b])
        keep[start : start + 4096] = (correlation >= least) & (np.abs(flat[a] - flat[b]).mean(axis=1) <= 10)
    return keep


def _close_hashes(hashes: npt.NDArray[np.uint64]) -> Pairs:
    count = len(hashes)
    found = [np.empty(0, np.int64)]
    for band in range(4):
        bits = (hashes >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = np.lexsort((hashes, bits))  # equal bands side by side, equal hashes closest
        sorted_bits, sorted_hashes = bits[order], hashes[order]
        for step in range(1, min(_NEIGHBOURS, count - 1) + 1):
            same = np.flatnonzero(sorted_bits[step:] == sorted_bits[:-step])
            if not len(same):
                break
            different = sorted_hashes[same] ^ sorted_hashes[same + step]
            for _ in range(3):  # clears the lowest set bit: what is zero after three had at most three
                different &= different - np.uint64(1)
            close = same[different == 0]
            first, second = order[close], order[close + step]
            found.append(np.minimum(first, second) * count + np.maximum(first, second))
    pairs = np.sort(np.concatenate(found))
    pairs = pairs[np.diff(pairs, prepend=-1) != 0]  # several bands find the same pair
    return np.stack([pairs // max(1, count), pairs % max(1, count)], axis=1)
