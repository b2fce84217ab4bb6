"""A process of its own that reads broken files within limits: ``python -m tests.interop.hostile_reader FOLDER N SEED``.

Every file of the folder is read as it is (N = 0) or in N mutations. The last line of the output is JSON: how many were
read and refused, what went wrong ("wrong": another exception, or a message of several lines), and how many megabytes
the process grew. A crash, a hang and memory without bound end it by a signal.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from fovea.errors import FoveaError
from fovea.interop.load import load
from fovea.interop.torch_file import read_torch_file, state_dict
from fovea.models.foreign import read_foreign

SECONDS, MEGABYTES = 240, 3000
NUMBERS = [-(1 << 63), -1, 0, 1, 3, 7, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 63) - 1, 1_000_003]


def read(path: Path) -> None:
    """As a user would."""
    if path.suffix == ".onnx":
        load(path)
    elif path.suffix == ".pth":
        state_dict(str(path), read_torch_file(path))
    elif read_foreign(path) is None:
        load(path)


def mutated(whole: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """Bytes changed, cut or repeated; of ONNX files also numbers, names and operators where they stand."""
    if suffix == ".onnx" and rng.integers(3):
        return other_fields(whole, rng)
    data = bytearray(whole)
    head = min(len(data), 2000) if rng.integers(2) else len(data)  # headers are where the trouble is
    for _ in range(int(rng.integers(1, 6))):
        place = int(rng.integers(0, max(1, head)))
        match rng.integers(0, 6):
            case 0:
                data[place : place + 1] = bytes([rng.integers(256)])
            case 1:
                data[place : place + 8] = int(rng.choice(NUMBERS[5:])).to_bytes(8, "little")
            case 2:
                del data[place : place + int(rng.integers(1, 40))]
            case 3:
                data[place:place] = data[place : place + int(rng.integers(1, 200))]
            case 4:
                data[place : place + 3] = rng.choice([b"999", b"-1,", b"[[[", b'"":', b"\x80\x04", b"ctO"])
            case _:
                del data[int(rng.integers(0, max(1, len(data)))) :]
    return bytes(data)


def other_fields(whole: bytes, rng: np.random.Generator) -> bytes:
    """An ONNX file that parses, with other numbers, names and operators in it."""
    proto = onnx.load_model_from_string(whole)
    graph = proto.graph
    for _ in range(int(rng.integers(1, 4))):
        node = graph.node[rng.integers(len(graph.node))]
        other = graph.node[rng.integers(len(graph.node))]
        tensor = graph.initializer[rng.integers(len(graph.initializer))]
        number = int(rng.choice(NUMBERS))
        ints = [one for one in node.attribute if one.ints]
        match rng.integers(0, 9):
            case 0 if tensor.dims:
                tensor.dims[rng.integers(len(tensor.dims))] = number
            case 1 if ints:
                chosen = ints[rng.integers(len(ints))]
                chosen.ints[rng.integers(len(chosen.ints))] = number
            case 2 if node.input:
                node.input[rng.integers(len(node.input))] = other.output[0]  # cycles, other shapes
            case 3:
                node.op_type = other.op_type
            case 4:
                del node.attribute[:]
            case 5:
                graph.node.remove(node) if len(graph.node) > 1 else None
            case 6 if tensor.raw_data:
                tensor.raw_data = tensor.raw_data[: rng.integers(len(tensor.raw_data))]
            case 7 if tensor.data_type == onnx.TensorProto.INT64 and len(tensor.raw_data) >= 8:
                tensor.raw_data = number.to_bytes(8, "little", signed=True) + tensor.raw_data[8:]
            case _:
                tensor.data_type = int(rng.integers(0, 24))
    return proto.SerializeToString()


def files(folder: Path, count: int, seed: int) -> Iterator[tuple[str, Path]]:
    """What to read, and what it was made from."""
    originals = sorted(path for path in folder.iterdir() if path.is_file())
    if not count:
        yield from ((path.name, path) for path in originals)
        return
    with tempfile.TemporaryDirectory() as made:
        for path in originals:
            whole = path.read_bytes()
            for number in range(count):
                target = Path(made) / f"a{path.suffix}"
                target.write_bytes(mutated(whole, path.suffix, np.random.default_rng((seed, number))))
                yield f"{path.name}, seed ({seed}, {number})", target


def main(folder: str, count: str, seed: str) -> None:
    """Read everything, then say what came of it."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEGABYTES << 20, MEGABYTES << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result: dict[str, Any] = {"read": 0, "refused": {}, "wrong": []}
    for name, path in files(Path(folder), int(count), int(seed)):
        try:
            read(path)
            result["read"] += 1
        except FoveaError as error:
            message = str(error)
            result["refused"][name] = message[-300:]
            if "\n" in message or len(message) > 1000:
                result["wrong"].append(f"{name}: a message of {len(message)} characters")
        except Exception as error:  # whatever comes is the answer
            result["wrong"].append(f"{name}: {type(error).__name__} {str(error)[:200]}")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    result["megabytes"] = grown / (1 << 10 if sys.platform == "linux" else 1 << 20)
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
