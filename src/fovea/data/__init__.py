"""Data: a file, folder or name becomes a Dataset, a Dataset has splits, a Loader turns a split into batches.

Names load on first use, as everywhere in fovea. ``fovea.dataset`` opens data; ``check`` and ``fetch`` are modules here.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC: dict[str, str] = {
    "Augment": "fovea.data.augment",
    "Batch": "fovea.data.dataset",
    "CutMix": "fovea.data.mix",
    "DataReport": "fovea.data.check",
    "Dataset": "fovea.data.dataset",
    "Loader": "fovea.data.loader",
    "MixUp": "fovea.data.mix",
    "Preprocessing": "fovea.data.preprocess",
    "Scene": "fovea.data.augment.scene",
    "Split": "fovea.data.dataset",
    "from_arrays": "fovea.data.load",
    "read_image": "fovea.data.decode",
    "read_images": "fovea.data.decode",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fovea.data' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
