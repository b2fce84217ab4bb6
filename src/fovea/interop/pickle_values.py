"""A pickle read as data: a small stack machine that builds plain values and executes nothing.

Python's ``pickle`` calls whatever callables a file names. Here the opcodes are parsed by ``pickletools``, which only
parses, and the few names that a file of weights needs are looked up in a table of our own functions. Any other name is
refused by that name. Memory stays below a small multiple of the file's size: the memo is a dictionary (a file may name
memo index 4,000,000,000), and lengths beyond the end of the file are errors.
"""

from __future__ import annotations

import abc
import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any

from fovea.errors import ModelFileError

__all__ = ["Built", "Global", "Record", "read_pickle", "text_of"]


def text_of(value: Any) -> str:
    """A plain value as a text, of anything else its kind alone: lists that hold each other twice over have no end."""
    return str(value) if isinstance(value, (str, int, float, Global, type(None))) else type(value).__name__


class Built(abc.ABC):
    """A value that a file completes with a state after making it."""

    @abc.abstractmethod
    def build(self, state: Any) -> None:
        """Take the state over, or raise."""


class Record(dict[Any, Any], Built):
    """The attributes of an object without behaviour, such as ``argparse.Namespace``."""

    def build(self, state: Any) -> None:
        """Attributes by name."""
        self.update(state)


class Global:
    """A name that the table knows: ``make`` is called with the arguments that the file gives, all of them checked
    values of this module."""

    def __init__(self, name: str, make: Callable[..., Any] | None = None) -> None:
        self.name = name
        self.make = make

    def __repr__(self) -> str:
        return self.name


class _Mark:
    pass


_MARK = _Mark()
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": set,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}
_LITERALS = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
)
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_pickle(
    where: str, file: IO[bytes], names: Mapping[str, Global], persistent: Callable[[Any], Any] | None = None
) -> Any:
    """The value of the pickle at the file's position (``mmap`` counts as a file); afterwards the position is behind it.

    ``names``: "module.name" -> Global. ``persistent``: gives the value of a persistent id. Raises ModelFileError for a
    name or opcode that is not known, and for a damaged stream.
    """
    machine = _Machine(where, names, persistent)
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                break
            machine.step(opcode.name, argument)
        return machine.stack.pop()
    except ModelFileError:
        raise
    except Exception as error:  # anything may stand anywhere in a hostile file
        raise ModelFileError(
            where, f"expected a whole pickle, got {type(error).__name__} while reading it; the file is damaged"
        ) from None


def _keys(items: list[Any]) -> list[Any]:
    """Keys and members of sets: plain ones only. The hash of a tuple nested a million times ends the process."""
    for item in items:
        if not isinstance(item, (str, bytes, int, float, Global, type(None))):
            raise TypeError("key")
    return items


class _Machine:
    def __init__(self, where: str, names: Mapping[str, Global], persistent: Callable[[Any], Any] | None) -> None:
        self.where = where
        self.names = names
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """One opcode."""
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[int(argument)])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name not in ("PROTO", "FRAME"):
            self._other(name, argument)

    def _other(self, name: str, argument: Any) -> None:
        method = getattr(self, f"_op_{name.lower()}", None)
        if method is None:
            raise ModelFileError(
                self.where,
                f"expected a pickle of plain values, got the opcode {name}; save the state_dict, or as safetensors",
            )
        method(argument)

    def _above_mark(self) -> list[Any]:
        position = len(self.stack) - 1
        while self.stack[position] is not _MARK:
            position -= 1
            if position < 0:
                raise ValueError("no mark")
        items = self.stack[position + 1 :]
        del self.stack[position:]
        return items

    def _op_pop(self, _: Any) -> None:
        self.stack.pop()

    def _op_pop_mark(self, _: Any) -> None:
        self._above_mark()

    def _op_dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _op_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._above_mark()))

    def _op_list(self, _: Any) -> None:
        self.stack.append(self._above_mark())

    def _op_frozenset(self, _: Any) -> None:
        self.stack.append(frozenset(_keys(self._above_mark())))

    def _op_dict(self, _: Any) -> None:
        items = self._above_mark()
        self.stack.append(dict(zip(_keys(items[::2]), items[1::2], strict=True)))

    def _op_append(self, _: Any) -> None:
        item = self.stack.pop()
        self._container(list).append(item)

    def _op_appends(self, _: Any) -> None:
        items = self._above_mark()
        self._container(list).extend(items)

    def _op_additems(self, _: Any) -> None:
        items = self._above_mark()
        self._container(set).update(_keys(items))

    def _op_setitem(self, _: Any) -> None:
        value = self.stack.pop()
        (key,) = _keys([self.stack.pop()])
        self._container(dict)[key] = value

    def _op_setitems(self, _: Any) -> None:
        items = self._above_mark()
        self._container(dict).update(zip(_keys(items[::2]), items[1::2], strict=True))

    def _container(self, kind: type[Any]) -> Any:
        top = self.stack[-1]
        if not isinstance(top, kind):
            raise TypeError(kind.__name__)
        return top

    def _op_global(self, argument: str) -> None:
        self.stack.append(self._find(argument.replace(" ", ".", 1)))

    def _op_stack_global(self, _: Any) -> None:
        name = self.stack.pop()
        self.stack.append(self._find(f"{self.stack.pop()}.{name}"))

    def _find(self, name: str) -> Global:
        found = self.names.get(name)
        if found is None:
            raise ModelFileError(
                self.where,
                f"expected weights and plain values, got {name[:200]!r}, which would have to be run; save "
                "model.state_dict() instead of the model, or as safetensors",
            )
        return found

    def _op_reduce(self, _: Any) -> None:
        arguments = self.stack.pop()
        maker = self.stack.pop()
        if not isinstance(maker, Global) or maker.make is None or not isinstance(arguments, tuple):
            raise TypeError("reduce")
        self.stack.append(maker.make(*arguments))

    _op_newobj = _op_reduce

    def _op_build(self, _: Any) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Built):
            target.build(state)
        elif not isinstance(target, dict):  # of a dict only attributes are set: the _metadata of a state_dict
            raise TypeError("build")

    def _op_binpersid(self, _: Any) -> None:
        self._op_persid(self.stack.pop())

    def _op_persid(self, argument: Any) -> None:
        if self.persistent is None:
            raise ValueError("persistent id")
        self.stack.append(self.persistent(argument))
