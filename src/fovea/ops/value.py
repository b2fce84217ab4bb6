"""Symbolic values: what ops are called on when a network is written down. A graph is traced back from them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fovea.errors import GraphError

if TYPE_CHECKING:
    from fovea.ops.base import Op

__all__ = ["Application", "Scope", "Value", "apply", "scope"]


@dataclass(eq=False)
class Scope:
    """A level of node names: ``stage1.block0``. ``name`` None means "kind + count", chosen when the graph is built."""

    stem: str
    name: str | None
    parent: Scope | None
    order: int


@dataclass(eq=False)
class Application:
    """One op applied to values: a node before it has its final name."""

    op: Op
    inputs: tuple[Value, ...]
    name: str | None
    scope: Scope | None
    order: int


@dataclass(eq=False, frozen=True)
class Value:
    """The output number ``index`` of an application. Supports + - * / with other values."""

    source: Application = field(repr=False)
    index: int = 0

    def __add__(self, other: Value) -> Any:
        return self._binary("add", other)

    def __sub__(self, other: Value) -> Any:
        return self._binary("sub", other)

    def __mul__(self, other: Value) -> Any:
        return self._binary("multiply", other)

    def __truediv__(self, other: Value) -> Any:
        return self._binary("div", other)

    def _binary(self, kind: str, other: Value) -> Any:
        from fovea.ops.base import OPS  # the registry needs Value first

        return OPS[kind]()(self, other)


_counter = itertools.count()
_current: ContextVar[Scope | None] = ContextVar("fovea_scope", default=None)


@contextlib.contextmanager
def scope(stem: str, name: str | None = None) -> Iterator[None]:
    """Nodes made inside get names below this one: ``with scope("block"):`` gives block1.conv1, block1.relu1, ..."""
    token = _current.set(Scope(stem, name, _current.get(), next(_counter)))
    try:
        yield
    finally:
        _current.reset(token)


def apply(op: Op, values: tuple[Value, ...], name: str | None) -> Any:
    """Record op(values); a Value, or a tuple of them when the op has several outputs."""
    for value in values:
        if not isinstance(value, Value):
            raise GraphError(
                op.kind,
                f"expected symbolic values such as fovea.Input((32, 32, 3)), got {type(value).__name__}; "
                "to compute on arrays build a fovea.Model and call it",
            )
    if name is not None and (not isinstance(name, str) or not name or "." in name):
        raise GraphError(op.kind, f"expected a node name without dots, got {name!r}; scopes give the dotted path")
    application = Application(op, values, name, _current.get(), next(_counter))
    if op.num_outputs == 1:
        return Value(application, 0)
    return tuple(Value(application, index) for index in range(op.num_outputs))
