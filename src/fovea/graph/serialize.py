"""Graphs as plain data, and safetensors files with JSON metadata, read and written safely."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from fovea.errors import FoveaError, ModelFileError
from fovea.graph.graph import Graph, Ref
from fovea.ops.base import op_from_dict

__all__ = [
    "graph_from_dict", "graph_to_dict", "is_plain_safetensors", "read_metadata", "read_tensors", "remove_leftovers",
    "write_atomically", "write_tensors",
]  # fmt: skip

MAX_NODES = 100_000
MAX_METADATA = 64 << 20


def graph_to_dict(graph: Graph) -> dict[str, Any]:
    """JSON-able: nodes in order with op fields and inputs as [node, index], graph inputs and outputs."""
    nodes = [
        {"name": node.name, "op": node.op.to_dict(), "inputs": [list(ref) for ref in node.inputs]}
        for node in graph.nodes.values()
    ]
    return {"nodes": nodes, "inputs": list(graph.inputs), "outputs": [list(ref) for ref in graph.outputs]}


def graph_from_dict(where: str, data: Any) -> Graph:
    """The graph that ``graph_to_dict`` described. Raises ModelFileError for anything that is not a valid graph."""
    try:
        nodes = data["nodes"]
        if not isinstance(nodes, list) or len(nodes) > MAX_NODES:
            raise ModelFileError(where, f"expected a list of at most {MAX_NODES} nodes; the file is damaged")
        entries = [
            (_name(where, node["name"]), op_from_dict(where, node["op"]), _refs(where, node["inputs"]))
            for node in nodes
        ]
        inputs = [_name(where, name) for name in data["inputs"]]
        if not inputs or not data["outputs"]:
            raise ModelFileError(where, "expected a graph with inputs and outputs, got none; the file is damaged")
        return Graph.from_nodes(entries, inputs, _refs(where, data["outputs"]))
    except ModelFileError:
        raise
    except FoveaError as error:
        raise ModelFileError(where, f"expected a valid graph, got: {error}; the file is damaged") from None
    except Exception as error:  # a hostile file may hold anything anywhere
        raise ModelFileError(
            where, f"expected a valid graph, got {type(error).__name__} while reading it; the file is damaged"
        ) from None


def _name(where: str, name: Any) -> str:
    if not isinstance(name, str) or not 0 < len(name) < 500:
        raise ModelFileError(where, "expected node names as short texts; the file is damaged")
    return name


def _refs(where: str, pairs: Any) -> tuple[Ref, ...]:
    refs = []
    for name, index in pairs:
        if isinstance(index, bool) or not isinstance(index, int):
            raise ModelFileError(where, "expected node inputs as [name, index]; the file is damaged")
        refs.append(Ref(_name(where, name), index))
    return tuple(refs)


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place: whatever happens, an old file stays
    whole."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)  # less what the user's umask takes
        mode = os.fstat(handle).st_mode
        os.close(handle)
        write(temporary)
        os.chmod(temporary, mode)  # safetensors puts a file of its own in place
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = str(target)  # the name that the user knows
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    with contextlib.suppress(OSError):  # not every file system lets a folder be synchronised
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Delete temporary files that a killed process left beside ``path``; nobody may be writing it now."""
    target = Path(path)
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            leftover.unlink()


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, Any]
) -> None:
    """A safetensors file with ``metadata`` as JSON under the key "fovea", written atomically.

    NumPy's numbers and arrays in the metadata become lists. Raises ModelFileError for what JSON has no word for,
    OSError when the disk does not take the file.
    """
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    try:
        text = {"fovea": json.dumps(metadata, default=_jsonable)}
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(
            str(path), f"expected metadata that JSON can hold, got: {error}; give numbers, texts, lists and dicts"
        ) from None

    def fill(temporary: Path) -> None:
        try:
            safetensors.numpy.save_file(contiguous, str(temporary), metadata=text)
        except SafetensorError as error:  # a full disk, say
            raise OSError(str(error)) from None

    write_atomically(path, fill)


def _jsonable(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a {type(value).__name__}")


def is_plain_safetensors(path: str | os.PathLike[str]) -> bool:
    """Whether a file is safetensors that something other than fovea wrote: weights without a graph. Only the header is
    read; a file that cannot be read is none."""
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            return "fovea" not in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata of such a file alone: no tensor is read. Raises ModelFileError like ``read_tensors``."""
    return _read(path, None)[1]


def read_tensors(
    path: str | os.PathLike[str], expect: Callable[[dict[str, Any]], Mapping[str, tuple[int, ...]] | None] | None = None
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Tensors and metadata of such a file.

    ``expect(metadata)`` may return the tensor shapes that must be there: they are compared with the header before any
    tensor is read. Raises ModelFileError for files that are missing, truncated, mutated or not fovea's.
    """
    return _read(path, expect or (lambda metadata: None))


def _read(
    path: str | os.PathLike[str], expect: Callable[[dict[str, Any]], Mapping[str, tuple[int, ...]] | None] | None
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Tensors (none without ``expect``) and metadata."""
    where = str(path)
    if not Path(path).is_file():
        raise ModelFileError(where, "expected a model file, found none; check the path")
    try:
        with safe_open(where, framework="numpy") as file:
            text = (file.metadata() or {}).get("fovea")
            if text is None or len(text) > MAX_METADATA:
                raise ModelFileError(
                    where,
                    "expected fovea's metadata in the file, found none; it was not written by fovea (weights "
                    "alone need an architecture)",
                )
            metadata = json.loads(text)
            if not isinstance(metadata, dict):
                raise ModelFileError(where, "expected metadata as an object; the file is damaged")
            if expect is None:
                return {}, metadata
            names = list(file.keys())
            shapes = expect(metadata)
            if shapes is not None:
                _compare(where, {name: tuple(file.get_slice(name).get_shape()) for name in names}, shapes)
            return {name: file.get_tensor(name) for name in names}, metadata
    except FoveaError:
        raise
    except (
        SafetensorError,
        ValueError,
        RecursionError,
        OSError,
        KeyError,
        TypeError,
        MemoryError,
        UnicodeError,
    ) as error:
        raise ModelFileError(
            where,
            f"expected a whole safetensors file, got: {str(error)[:120] or type(error).__name__}; the file is "
            "damaged or of another format",
        ) from None


def _compare(where: str, found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> None:
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or extra:
        raise ModelFileError(
            where, f"expected the tensors of its graph, missing {missing[:3]}, unknown {extra[:3]}; the file is damaged"
        )
    for name, shape in wanted.items():
        if found[name] != shape:
            raise ModelFileError(where, f"expected {name} with shape {shape}, got {found[name]}; the file is damaged")
