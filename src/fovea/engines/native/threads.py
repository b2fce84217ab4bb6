"""How many threads the native engine uses, for the whole process."""

from __future__ import annotations

import importlib
from typing import Any

from fovea.errors import ConfigError, EngineError

__all__ = ["get_threads", "set_threads"]


def set_threads(n: int) -> None:
    """Use n threads (1 to 256). Results do not depend on it, bit for bit. Raises ConfigError for another number."""
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= 256:
        raise ConfigError(
            "threads", f"expected an integer from 1 to 256, got {n!r}; give for example the number of cores"
        )
    _core().set_threads(n)


def get_threads() -> int:
    """The number of threads in use; the number of cores when nothing was set."""
    return int(_core().get_threads())


def _core() -> Any:
    try:
        return importlib.import_module("fovea.engines.native._core")
    except ImportError:
        raise EngineError("threads", "expected the compiled core, found none; build it with: make native") from None
