"""Engines by name. Each is imported when it is first asked for."""

from __future__ import annotations

import functools
import importlib
import importlib.util

from fovea.engines.base import Engine
from fovea.errors import EngineError, MissingExtra

__all__ = ["ENGINES", "available_engines", "default_engine", "get_engine"]

ENGINES = {
    "native": ("fovea.engines.native", "NativeEngine", "fovea.engines.native._core"),
    "reference": ("fovea.engines.reference", "ReferenceEngine", "numpy"),
    "torch": ("fovea.engines.torch", "TorchEngine", "torch"),
}
"""Name -> (module, class, the module without which it cannot run), the fastest on a CPU first."""
EXTRAS = {"torch": "torch"}
"""The extra that brings what an engine needs."""


def available_engines() -> list[str]:
    """Names of the engines that can run here."""
    return [name for name, (module, _, needs) in ENGINES.items() if _found(module) and _found(needs)]


@functools.cache  # a search of the disk, and the default engine is asked for at every call of a model
def _found(module: str) -> bool:
    try:
        spec = importlib.util.find_spec(module)
        return spec is not None and spec.origin is not None  # a folder without code is no engine
    except ModuleNotFoundError:
        return False


def default_engine() -> str:
    """The engine used when none is named: native where the compiled core is installed, else reference."""
    return available_engines()[0]


def get_engine(engine: str | Engine | None = None, device: str | None = None) -> Engine:
    """An engine by name; None gives the default, for a device other than the CPU PyTorch's.

    Raises EngineError when it is unknown or cannot run here, MissingExtra when an extra would bring what it needs.
    """
    if isinstance(engine, Engine):
        return engine
    name = engine
    if name is None:
        name = default_engine() if device in (None, "cpu") else "torch"
    if not isinstance(name, str) or name not in ENGINES:
        raise EngineError("engine", f"expected one of {', '.join(ENGINES)}, got {engine!r}; choose one of them")
    return _make(name)


@functools.cache
def _make(name: str) -> Engine:
    module, cls, needs = ENGINES[name]
    if not _found(needs) and name in EXTRAS:
        raise MissingExtra("engine", EXTRAS[name], f"the {name} engine")
    if not (_found(module) and _found(needs)):
        raise EngineError(
            "engine",
            f"the {name} engine cannot run here because {needs} is missing; available: "
            f"{', '.join(available_engines())}",
        )
    engine: Engine = getattr(importlib.import_module(module), cls)()
    return engine
