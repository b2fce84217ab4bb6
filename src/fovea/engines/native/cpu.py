"""What the compiled core finds on this machine."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["describe"]


def describe() -> dict[str, Any] | None:
    """``features`` of the CPU, ``isa`` of the kernels in use, ``dot_isa`` for short numbers, ``vector_floats``.

    None without the core.
    """
    try:
        core = importlib.import_module("fovea.engines.native._core")
    except ImportError:
        return None
    return {
        "features": core.cpu_features(), "isa": core.isa(), "dot_isa": core.dot_isa(),
        "vector_floats": core.vector_floats(),
    }  # fmt: skip
