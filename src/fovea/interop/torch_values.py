"""What a PyTorch file's names stand for: storages, tensors as views of them, and the few plain classes beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import ModelFileError
from fovea.interop.pickle_values import Built, Global, Record, text_of

__all__ = ["ELEMENTS", "Allowance", "Storage", "names_of", "tensor"]

Array = npt.NDArray[Any]

ELEMENTS = {
    "Float": "f4",
    "Double": "f8",
    "Half": "f2",
    "BFloat16": "u2",
    "Long": "i8",
    "Int": "i4",
    "Short": "i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
}
"""Storage classes (torch.FloatStorage) and the elements they hold."""
MAX_DIMENSIONS = 32


class Allowance:
    """Bytes that may still be made of a file, where a few lines could name one storage a million times."""

    def __init__(self, where: str, file_size: int) -> None:
        self.where = where
        self.left = 16 * file_size + (1 << 20)

    def take(self, count: int) -> None:
        """Raises ModelFileError where a file makes far more than it holds."""
        self.left -= count
        if self.left < 0:
            raise ModelFileError(
                self.where, "expected about as many numbers as the file holds, got far more; it is damaged"
            )


@dataclass(frozen=True)
class Storage:
    """One block of numbers that tensors are views of."""

    kind: str
    elements: Array

    @staticmethod
    def kind_of(where: str, name: Any) -> str:
        """The kind of element behind a storage class. Raises ModelFileError for one that NumPy has no dtype for."""
        text = text_of(name)
        kind = text.removeprefix("torch.").removeprefix("cuda.").removesuffix("Storage")
        if kind not in ELEMENTS or not text.endswith("Storage"):
            raise ModelFileError(
                where, f"expected tensors of {', '.join(ELEMENTS)}, got {text[:100]}; convert them with .float()"
            )
        return kind

    @classmethod
    def itemsize(cls, where: str, name: Any) -> int:
        """Bytes of one element."""
        return np.dtype(ELEMENTS[cls.kind_of(where, name)]).itemsize

    @classmethod
    def of(cls, where: str, name: Any, count: Any, content: bytes | memoryview, order: str) -> Storage:
        """``count`` elements from raw bytes in the byte order "little" or "big"."""
        kind = cls.kind_of(where, name)
        dtype = np.dtype(ELEMENTS[kind]).newbyteorder("<" if order == "little" else ">")
        if type(count) is not int or count < 0 or len(content) < count * dtype.itemsize:
            raise ModelFileError(
                where,
                f"expected a storage of {text_of(count)[:30]} elements, got {len(content):,} bytes; it is cut short",
            )
        raw = np.frombuffer(content, dtype, count)
        if kind == "BFloat16":  # the upper half of a float32
            return cls(kind, (raw.astype(np.uint32) << 16).view(np.float32))
        return cls(kind, raw.astype(dtype.newbyteorder("="), copy=False))

    def part(self, where: str, start: int, count: int) -> Storage:
        """Elements ``start`` to ``start + count``."""
        if start < 0 or count < 0 or start + count > self.elements.size:
            raise ModelFileError(where, "expected a part inside its storage; the file is damaged")
        return Storage(self.kind, self.elements[start : start + count])


def tensor(where: str, storage: Any, offset: Any, size: Any, stride: Any) -> Array:
    """A copy of the view: C order, memory of its own."""
    if not isinstance(storage, Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise TypeError("tensor")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or len(size) > MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in numbers):
        got = ", ".join(text_of(number)[:30] for number in numbers[:8])
        raise ModelFileError(where, f"expected sizes and strides of a tensor, got {got}; the file is damaged")
    elements = storage.elements
    count, last = 1, offset
    for length, step in zip(size, stride, strict=True):
        count *= length
        last += (length - 1) * step
    if count == 0:
        return np.zeros(size, elements.dtype)
    if last >= elements.size or count > elements.size:  # the second: a step of 0 repeats an element without end
        raise ModelFileError(
            where, f"expected a tensor inside its storage, got the shape {str(size)[:80]}; the file is damaged"
        )
    itemsize = elements.dtype.itemsize
    view = np.lib.stride_tricks.as_strided(
        elements[offset:], size, [step * itemsize for step in stride], writeable=False
    )
    return np.array(view, order="C")


def _mapping(pairs: Any = ()) -> dict[Any, Any]:
    return {key if isinstance(key, (str, int)) else text_of(key): value for key, value in pairs}


class _Dtype(Built):
    """A NumPy dtype; the state that follows names the byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        if code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
            raise TypeError("dtype")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        """The second entry is "<", ">" or "|"."""
        self.dtype = self.dtype.newbyteorder(state[1])


def _scalar(dtype: Any, content: Any) -> Any:
    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes) or len(content) != dtype.dtype.itemsize:
        raise TypeError("scalar")
    return np.frombuffer(content, dtype.dtype)[0].item()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise TypeError("encode")
    return text.encode("latin-1")


def names_of(where: str, allowance: Allowance, shapes_only: bool = False) -> Mapping[str, Global]:
    """The names that a PyTorch file may use, each with our own function. ``shapes_only``: tensors stay None."""

    def rebuild(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Array | None:
        if shapes_only:
            return None
        array = tensor(where, storage, offset, size, stride)
        allowance.take(array.nbytes)
        return array

    def parameter(data: Any, *_: Any) -> Any:
        return data

    makers: dict[str, Callable[..., Any]] = {
        "collections.OrderedDict": _mapping,
        "torch._utils._rebuild_tensor": rebuild,
        "torch._utils._rebuild_tensor_v2": rebuild,
        "torch._utils._rebuild_parameter": parameter,
        "torch.Size": lambda sizes=(): tuple(sizes),
        "torch.device": lambda *parts: ":".join(map(text_of, parts)),
        "argparse.Namespace": Record,
        "numpy.dtype": _Dtype,
        "numpy.core.multiarray.scalar": _scalar,
        "numpy._core.multiarray.scalar": _scalar,
        "_codecs.encode": _encode,
    }
    plain = [
        f"torch.{cuda}{kind}{what}" for cuda in ("", "cuda.") for kind in ELEMENTS for what in ("Storage", "Tensor")
    ]
    dtypes = [f"torch.{name}" for name in ("float16", "float32", "float64", "bfloat16", "int64", "int32", "uint8")]
    return {
        **{name: Global(name, make) for name, make in makers.items()},
        **{name: Global(name) for name in (*plain, *dtypes)},
    }
