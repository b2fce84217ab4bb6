"""One exception family. Every message is one line: ``[where] what was expected, what came, how to fix it``."""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DataError",
    "EngineError",
    "FoveaError",
    "GraphError",
    "MissingExtra",
    "ModelFileError",
    "NonFiniteError",
    "OpError",
    "ShapeError",
]


class FoveaError(Exception):
    """Something a user can cause and can fix.

    ``where`` names the op, node, file or command; ``message`` says what was expected, what came, how to fix it.
    """

    elsewhere = False
    """Whether another of several processes has met it, and says it."""

    def __init__(self, where: str, message: str) -> None:
        self.where = where
        self.message = " ".join(message.split())
        super().__init__(f"[{where}] {self.message}")

    def __reduce__(self) -> tuple[object, ...]:
        """Other processes are told of it as it is."""
        return _again, (type(self), self.where, self.message)


def _again(kind: type[FoveaError], where: str, message: str) -> FoveaError:
    error = kind.__new__(kind)
    FoveaError.__init__(error, where, message)
    return error


class OpError(FoveaError):
    """An op was declared with arguments that no input could make valid."""


class ShapeError(FoveaError):
    """Shapes that do not fit: the op's rule, a node's inputs, or an array handed to a plan."""


class GraphError(FoveaError):
    """A graph that is not a valid directed acyclic graph, or a node name that it does not have."""


class EngineError(FoveaError):
    """An engine that is not installed, or cannot compute what was asked of it."""


class DataError(FoveaError):
    """Data that cannot be read, or are not what was asked for."""


class ModelFileError(FoveaError):
    """A model file that is damaged, hostile, or from a format this version does not know."""


class ConfigError(FoveaError):
    """An option with a value that makes no sense."""


class NonFiniteError(FoveaError):
    """A loss or activation that became infinite or not a number."""


class MissingExtra(FoveaError):
    """A feature whose optional dependencies are not installed."""

    def __init__(self, where: str, extra: str, why: str) -> None:
        super().__init__(where, f"{why} needs the extra {extra!r}; install it with: pip install 'fovea[{extra}]'")
