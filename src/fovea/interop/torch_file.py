"""PyTorch's files of weights (``.pt``, ``.pth``, ``.th``) read without PyTorch and without running what they contain.

Three formats exist: a zip archive (since 1.6), a stream of pickles followed by raw storages (0.1.12 to 1.5), and a tar
archive (before). All describe a tensor as a view of a storage: dtype, offset, size, stride. ``read_torch_file`` gives
the stored object with NumPy arrays in place of tensors, ``state_dict`` the one dictionary of weights in it.
"""

from __future__ import annotations

import io
import mmap
import os
import pickletools
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from fovea.errors import ModelFileError
from fovea.interop.pickle_values import read_pickle, text_of
from fovea.interop.torch_values import Allowance, Storage, names_of, tensor

__all__ = ["read_torch_file", "state_dict"]

Array = npt.NDArray[Any]
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
USUAL_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params", "ema")
"""Where training scripts put the weights in a larger checkpoint."""


def read_torch_file(path: str | os.PathLike[str]) -> Any:
    """The object that ``torch.save`` stored: dictionaries, lists, numbers, texts, and arrays in place of tensors.

    bfloat16 becomes float32, which holds it exactly; other dtypes stay. Shapes and layouts are PyTorch's. Raises
    ModelFileError, in one line, for a file that is damaged, that is no such file, or that names a class or function:
    nothing is ever called.
    """
    where = str(path)
    try:
        size = Path(path).stat().st_size
        if not size:
            raise ModelFileError(where, "expected a PyTorch file, got an empty one; save or download it again")
        allowance = Allowance(where, size)
        if zipfile.is_zipfile(path):
            return _read_zip(where, path, allowance)
        if tarfile.is_tarfile(path):
            return _read_tar(where, path, allowance)
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _read_legacy(where, cast(IO[bytes], content), allowance)
    except ModelFileError:
        raise
    except OSError as error:
        raise ModelFileError(where, f"expected a file that can be read, got: {error.strerror or error}") from None
    except Exception as error:  # anything may stand anywhere in a hostile file
        raise ModelFileError(
            where, f"expected a whole PyTorch file, got {type(error).__name__} while reading it; the file is damaged"
        ) from None


def state_dict(where: str, stored: Any) -> dict[str, Array]:
    """The weights in what ``read_torch_file`` gave: name -> array, without what is no tensor.

    A dictionary of tensors itself, or the one found under a usual key ("state_dict", "model", ...). Raises
    ModelFileError when there is none, naming what is there.
    """
    if isinstance(stored, dict):
        for candidate in (stored, *(stored.get(key) for key in USUAL_KEYS)):
            if isinstance(candidate, dict):
                arrays = {k: v for k, v in candidate.items() if isinstance(k, str) and isinstance(v, np.ndarray)}
                if arrays and (candidate is not stored or len(arrays) > 1 or len(stored) == 1):
                    return arrays
    names = ", ".join(repr(text_of(key)[:60]) for key in list(stored)[:8]) if isinstance(stored, dict) else ""
    held = f"a dictionary with {names}" if isinstance(stored, dict) else "no dictionary"
    raise ModelFileError(where, f"expected a dictionary of tensors, got {held}; save model.state_dict()")


# --- zip


def _read_zip(where: str, path: str | os.PathLike[str], allowance: Allowance) -> Any:
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        roots = [name[: -len("data.pkl")] for name in entries if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ModelFileError(where, "expected one data.pkl in the archive; this zip file is not PyTorch's")
        root = roots[0]
        if f"{root}constants.pkl" in entries:
            raise ModelFileError(
                where, "expected weights, got a TorchScript program; save its state_dict() with torch.save instead"
            )

        def read(name: str) -> bytes:
            info = entries.get(root + name)
            if info is None or info.compress_type != zipfile.ZIP_STORED:
                raise ModelFileError(where, f"expected an uncompressed entry {name!r}; the file is damaged")
            allowance.take(info.file_size)  # entries may lie over each other
            return archive.read(info)

        order = read("byteorder").decode() if f"{root}byteorder" in entries else "little"
        storages: dict[str, Storage] = {}

        def persistent(identity: Any) -> Storage:
            kind, dtype, key, _, count = identity
            if kind != "storage" or not isinstance(key, str):
                raise ValueError("persistent id")
            if key not in storages:
                storages[key] = Storage.of(where, dtype, count, read(f"data/{key}"), order)
            return storages[key]

        return _read(allowance, io.BytesIO(read("data.pkl")), persistent)


def _read(allowance: Allowance, file: IO[bytes], persistent: Callable[[Any], Any] | None = None) -> Any:
    return read_pickle(allowance.where, file, names_of(allowance.where, allowance), persistent)


# --- a stream of pickles, then storages


def _read_legacy(where: str, content: IO[bytes], allowance: Allowance) -> Any:
    if _first_number(content) != LEGACY_MAGIC:
        raise ModelFileError(
            where, "expected a file that torch.save wrote, got something else; see fovea import --help"
        )
    content.seek(0)
    _read(allowance, content)
    protocol, system = _read(allowance, content), _read(allowance, content)
    if protocol != LEGACY_PROTOCOL or not isinstance(system, dict):
        raise ModelFileError(
            where, f"expected protocol {LEGACY_PROTOCOL}, got {text_of(protocol)[:50]}; the file is damaged"
        )
    order = "little" if system.get("little_endian", True) else "big"
    start = content.tell()
    wanted: dict[str, tuple[Any, int]] = {}  # the numbers stand behind the object: read it once for what it names

    def note(identity: Any) -> Storage:
        _, dtype, key, _, count, _ = _legacy_identity(where, identity)
        wanted.setdefault(key, (dtype, count))
        return Storage.of(where, dtype, 0, b"", order)

    read_pickle(where, content, names_of(where, allowance, shapes_only=True), note)
    keys = [key for key in _read(allowance, content) if isinstance(key, str)]
    storages = {key: _legacy_storage(where, content, *wanted[key], order) for key in keys}

    def persistent(identity: Any) -> Storage:
        _, _, key, _, _, view = _legacy_identity(where, identity)
        return storages[key] if view is None else storages[key].part(where, int(view[1]), int(view[2]))

    content.seek(start)
    return _read(allowance, content, persistent)


def _legacy_identity(where: str, identity: Any) -> Any:
    if isinstance(identity, tuple) and len(identity) == 4 and identity[0] == "module":  # its class, file and source
        raise ModelFileError(where, "expected weights, got a whole model; save model.state_dict() instead")
    usual = isinstance(identity, tuple) and len(identity) == 6 and identity[0] == "storage"
    if not usual or not isinstance(identity[2], str):  # a key of nested tuples ends the process
        raise ValueError("persistent id")
    return identity


def _legacy_storage(where: str, content: IO[bytes], dtype: Any, count: Any, order: str) -> Storage:
    """The number of elements as int64, then the elements."""
    (stored,) = struct.unpack("<q" if order == "little" else ">q", content.read(8))
    if stored != count:
        raise ModelFileError(where, f"expected {text_of(count)[:30]} elements, got {stored:,}; the file is damaged")
    size = stored * Storage.itemsize(where, dtype)
    return Storage.of(where, dtype, count, content.read(max(0, size)), order)


def _first_number(content: IO[bytes]) -> Any:
    """The value of a first pickle that holds one number, else None: any file may begin in any way."""
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name != "PROTO":
                return argument
    except Exception:  # not a pickle
        return None
    return None


# --- tar


def _read_tar(where: str, path: str | os.PathLike[str], allowance: Allowance) -> Any:
    """Entries "storages", "tensors" (sizes and strides), and "pickle", whose persistent ids name tensors."""
    with tarfile.open(path, "r:") as archive:

        def entry(name: str) -> io.BytesIO:
            info = archive.getmember(name) if name in archive.getnames() else None
            file = archive.extractfile(info) if info is not None and not info.issparse() else None
            if info is None or file is None:
                raise ModelFileError(where, f"expected an entry {name!r}; this tar file is not PyTorch's")
            allowance.take(info.size)
            return io.BytesIO(file.read())

        system = _read(allowance, entry("sys_info"))
        order = "little" if system.get("little_endian", True) else "big"
        storages = _tar_storages(allowance, entry("storages"), order)
        tensors = _tar_tensors(allowance, entry("tensors"), storages)

        def persistent(identity: Any) -> Any:
            return identity[0] if isinstance(identity, tuple) else tensors[text_of(identity)]

        return _read(allowance, entry("pickle"), persistent)


def _tar_storages(allowance: Allowance, file: io.BytesIO, order: str) -> dict[str, Storage]:
    storages, where = {}, allowance.where
    for _ in range(_read(allowance, file)):
        key, _, dtype = _read(allowance, file)
        (count,) = struct.unpack("<q" if order == "little" else ">q", file.read(8))
        size = count * Storage.itemsize(where, dtype)
        storages[text_of(key)] = Storage.of(where, dtype, count, file.read(max(0, size)), order)
    for target, root, offset, count in _read(allowance, file):
        storages[text_of(target)] = storages[text_of(root)].part(where, offset, count)
    return storages


def _tar_tensors(allowance: Allowance, file: io.BytesIO, storages: dict[str, Storage]) -> dict[str, Array]:
    tensors, where = {}, allowance.where
    for _ in range(_read(allowance, file)):
        key, storage, _ = _read(allowance, file)
        dimensions = struct.unpack("<i4x", file.read(8))[0]
        numbers = struct.unpack(f"<{2 * dimensions + 1}q", file.read(8 * (2 * dimensions + 1)))
        size, stride = numbers[:dimensions], numbers[dimensions:-1]
        made = tensor(where, storages[text_of(storage)], numbers[-1], size, stride)
        allowance.take(made.nbytes)
        tensors[text_of(key)] = made
    return tensors
