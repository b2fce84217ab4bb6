"""Pickles of plain data, read without running them.

A pickle is a program for a small stack machine; Python's own reader calls whatever functions it names. This reader
walks the instructions (``pickletools.genops`` only splits them), builds dicts, lists, tuples, numbers, strings and
NumPy arrays of numbers, and refuses everything else by name. Nothing that a pickle names is imported or called.
"""

from __future__ import annotations

import pickletools
from typing import Any

import numpy as np

from fovea.errors import DataError

__all__ = ["read_pickle"]

_RECONSTRUCT = {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}
_FROM_BUFFER = {"numpy.core.numeric _frombuffer", "numpy._core.numeric _frombuffer"}  # protocol 5
_ALLOWED = _RECONSTRUCT | _FROM_BUFFER | {"numpy ndarray", "numpy dtype", "_codecs encode"}
_DTYPES = {"u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "b1"}
_LITERALS = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_TUPLE": (),
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BYTEARRAY8",
}  # fmt: skip
_SILENT = {"PROTO", "FRAME", "STOP"}


class _Mark:
    """Where a list, tuple or dict begins on the stack."""


class _Name:
    """A module and attribute that the pickle mentions; never looked up."""

    def __init__(self, text: str) -> None:
        self.text = text


class _Dtype:
    def __init__(self, code: str) -> None:
        self.code, self.order = code, "|"


class _Array:
    """A NumPy array whose state has not come yet."""

    def __init__(self) -> None:
        self.value: Any = None


def read_pickle(data: bytes, name: str) -> Any:
    """The object that a pickle describes. Python 2 strings become ``str`` (latin-1). Raises DataError."""
    try:
        return _finish(_run(data, name))
    except DataError:
        raise
    except (
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        AttributeError,
        UnicodeError,
        OverflowError,
        MemoryError,
        RecursionError,
    ) as error:
        raise DataError(name, f"is not a pickle of plain data: {str(error)[:120]}") from None


def _run(data: bytes, name: str) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(data):
        code = opcode.name
        if code in _VALUES:
            stack.append(argument)
        elif code in _LITERALS:
            value = _LITERALS[code]
            stack.append(value() if isinstance(value, type) else value)
        elif code == "MARK":
            stack.append(_Mark)
        elif code in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument or 0)] = stack[-1]
        elif code == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif code in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument or 0)])
        elif code not in _SILENT:
            _combine(code, argument, stack, name)
    if len(stack) != 1:
        raise DataError(name, "is not a pickle of one object")
    return stack[0]


def _combine(code: str, argument: Any, stack: list[Any], name: str) -> None:
    if code in ("TUPLE1", "TUPLE2", "TUPLE3"):
        count = int(code[-1])
        stack[-count:] = [tuple(stack[-count:])]
    elif code in ("TUPLE", "LIST", "DICT"):
        items = _pop_mark(stack)
        stack.append(items if code == "LIST" else _pairs(items) if code == "DICT" else tuple(items))
    elif code == "APPEND":
        value = stack.pop()
        _list(stack[-1]).append(value)
    elif code == "APPENDS":
        values = _pop_mark(stack)
        _list(stack[-1]).extend(values)
    elif code == "SETITEM":
        value, key = stack.pop(), stack.pop()
        _dict(stack[-1]).update(_pairs([key, value]))
    elif code == "SETITEMS":
        items = _pop_mark(stack)
        _dict(stack[-1]).update(_pairs(items))
    elif code in ("GLOBAL", "STACK_GLOBAL"):
        text = f"{stack.pop(-2)} {stack.pop()}" if code == "STACK_GLOBAL" else str(argument)
        if text not in _ALLOWED:
            raise DataError(
                name, f"is a pickle that names {text.replace(' ', '.')!r}; only plain data and arrays are read"
            )
        stack.append(_Name(text))
    elif code == "REDUCE":
        arguments, function = stack.pop(), stack.pop()
        stack.append(_reduce(function, arguments))
    elif code == "BUILD":
        state = stack.pop()
        _build(stack[-1], state)
    elif code == "POP":
        stack.pop()
    elif code == "POP_MARK":
        _pop_mark(stack)
    else:
        raise DataError(name, f"is a pickle with the instruction {code}; only plain data and arrays are read")


def _pop_mark(stack: list[Any]) -> list[Any]:
    for index in range(len(stack) - 1, -1, -1):
        if stack[index] is _Mark:
            items = stack[index + 1 :]
            del stack[index:]
            return items
    raise ValueError("a mark is missing")


def _pairs(items: list[Any]) -> dict[Any, Any]:
    # hashing a tuple of shared tuples can take for ever: plain keys only
    if not all(isinstance(key, (str, bytes, int)) for key in items[::2]):
        raise TypeError("a key that is not a text or an integer")
    return dict(zip(items[::2], items[1::2], strict=True))


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("append to something that is not a list")
    return value


def _dict(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise TypeError("item of something that is not a dict")
    return value


def _reduce(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise TypeError("a call of something that is not a name")
    if function.text in _RECONSTRUCT:
        return _Array()
    if function.text in _FROM_BUFFER:
        raw, dtype, shape, order = arguments
        array = _Array()
        _build(array, (1, shape, dtype, order == "F", raw))
        return array
    if function.text == "numpy dtype":
        if not isinstance(arguments[0], str) or arguments[0] not in _DTYPES:
            name = arguments[0][:20] if isinstance(arguments[0], str) else type(arguments[0]).__name__
            raise ValueError(f"arrays of dtype {name!r} are not read")
        return _Dtype(str(arguments[0]))
    if (
        function.text == "_codecs encode"
        and isinstance(arguments[0], str)
        and arguments[1:] in (("latin1",), ("latin-1",))
    ):
        return arguments[0].encode("latin-1")  # how Python 3 writes bytes for Python 2
    raise ValueError(f"a call of {function.text}")


def _build(target: Any, state: Any) -> None:
    if isinstance(target, _Dtype):
        target.order = state[1] if state[1] in ("<", ">", "|") else "|"
    elif isinstance(target, _Array):
        _, shape, dtype, fortran, raw = state
        raw = raw.encode("latin-1") if isinstance(raw, str) else bytes(raw) if isinstance(raw, bytearray) else raw
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes) or not isinstance(shape, tuple):
            raise TypeError("an array without plain numbers")
        if not all(isinstance(side, int) and side >= 0 for side in shape):
            raise ValueError(f"an array of shape {shape}")
        flat = np.frombuffer(raw, np.dtype(dtype.order + dtype.code))
        target.value = flat.reshape(shape, order="F" if fortran else "C")
    else:
        raise TypeError("a state for something that is not an array")


def _finish(value: Any, done: dict[int, Any] | None = None, depth: int = 0) -> Any:
    """Replace the placeholders of arrays; what remains of names and marks is refused.

    ``done`` holds finished containers by identity: a shared one is walked once, however often the pickle refers to it.
    """
    done = {} if done is None else done
    if depth > 100:
        raise ValueError("nested more than 100 deep")
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("an array without values")
        result = value.value
    elif isinstance(value, dict):
        result = {_finish(key, done, depth + 1): _finish(item, done, depth + 1) for key, item in value.items()}
    elif isinstance(value, list):
        result = [_finish(item, done, depth + 1) for item in value]
    elif isinstance(value, tuple):
        result = tuple(_finish(item, done, depth + 1) for item in value)
    else:
        raise ValueError(f"a {type(value).__name__.strip('_')} where data should be")
    done[id(value)] = result
    return result
