"""fovea: convolutional networks, complete.

Define, train, adapt, look inside, detect, export and serve, fast on the CPU that you have. Every public
name lives here::

    import fovea

    net = fovea.Sequential(fovea.Conv(32, 3), fovea.ReLU(), fovea.GlobalAvgPool(), fovea.Dense(10))

Names load on first use (PEP 562): ``import fovea`` costs NumPy and little more, whatever the package grows to.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> the module that defines it. A name that is not here is not public.
_PUBLIC: dict[str, str] = {
    "FoveaError": "fovea.errors",
}

# Sub-packages that users reach as attributes: fovea.models.lenet5(...).
_SUBPACKAGES: tuple[str, ...] = ("errors", "random")

__all__ = [*_PUBLIC, *_SUBPACKAGES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
    elif name in _SUBPACKAGES:
        value = importlib.import_module(f"fovea.{name}")
    else:
        raise AttributeError(f"module 'fovea' has no attribute {name!r}")
    globals()[name] = value  # found once, then an ordinary attribute
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
