"""Broken and hostile files of every format that we read: one line, bounded memory, no crash, no hang."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
exporting = pytest.importorskip("fovea.interop.onnx.export")
FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
ROOT = Path(__file__).parents[2]


def results(folder: Path, count: int = 0, seed: int = 0) -> dict[str, Any]:
    """What ``hostile_reader`` found, in a process with limits."""
    command = [sys.executable, "-m", "tests.interop.hostile_reader", str(folder), str(count), str(seed)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}, capture_output=True,
        text=True, timeout=550, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == []
    assert found["megabytes"] < 1500
    return found


def graph(nodes: list[Any], weights: dict[str, Any], shape: list[Any] | None = None, outputs: str = "y") -> Any:
    made = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", FLOAT, shape or ["n", 4, 8, 8])],
        [helper.make_empty_tensor_value_info(name) for name in outputs.split()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def varied() -> Any:
    """A network of many operators, with a chain of shapes."""
    make, rng = helper.make_node, np.random.default_rng(0)
    nodes = [
        make("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        make("BatchNormalization", ["c", "one", "b", "b", "one"], ["n"]),
        make("PRelu", ["n", "slope"], ["r"]),
        make("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        make("Resize", ["p", "", "scales"], ["u"], mode="linear"),
        make("Concat", ["u", "r"], ["j"], axis=1),
        make("Split", ["j"], ["s", "t"], axis=1),
        make("Slice", ["s", "from", "to", "axes"], ["k"]),
        make("Pad", ["k", "pads"], ["q"]),
        make("Mul", ["q", "t"], ["m"]),
        make("Shape", ["m"], ["shape"]),
        make("Gather", ["shape", "zero"], ["batch"], axis=0),
        make("Unsqueeze", ["batch", "axis"], ["rows"]),
        make("Concat", ["rows", "rest"], ["target"], axis=0),
        make("Transpose", ["m"], ["last"], perm=[0, 2, 3, 1]),
        make("Reshape", ["last", "target"], ["f"]),
        make("ReduceMean", ["f"], ["a"], axes=[1]),
        make("ConstantOfShape", ["width"], ["h"], value=numpy_helper.from_array(np.ones(1, np.float32))),
        make("MatMul", ["a", "h"], ["o"]),
        make("LpPool", ["m"], ["l"], kernel_shape=[2, 2], p=3),
        make("Softmax", ["o"], ["y"], axis=-1),
    ]
    weights = {"w": rng.standard_normal((4, 4, 3, 3)).astype("f4"), "b": np.zeros(4, "f4"), "one": np.ones(4, "f4")}
    weights |= {"slope": np.full((4, 1, 1), 0.1, "f4"), "scales": np.array([1, 1, 2, 2], "f4"), "zero": np.array(0)}
    weights |= {"from": np.array([0]), "to": np.array([7]), "axes": np.array([3]), "axis": np.array([0])}
    weights |= {"pads": np.array([0, 0, 0, 0, 0, 0, 0, 1]), "rest": np.array([-1, 4]), "width": np.array([4, 5])}
    return graph(nodes, weights, outputs="y l")


def originals(folder: Path, suffix: str) -> Path:
    """A few whole files of one format."""
    target = folder / suffix
    target.mkdir()
    how = fovea.Preprocessing(size=(12, 12), channels=1)
    body = [fovea.Conv(4, 3), fovea.BatchNorm(), fovea.ReLU(), fovea.Flatten(), fovea.Dense(3)]
    model = fovea.Model(fovea.Sequential(*body), (12, 12, 1), classes=["a", "b", "c"], preprocessing=how)
    if suffix == "onnx":
        onnx.save(varied(), target / "varied.onnx")
        exporting.export_onnx(model, target / "ours.onnx", images=True)
    elif suffix == "safetensors":
        from safetensors.numpy import save_file

        model.save(target / "ours.safetensors")
        save_file({"fc.weight": np.ones((3, 4), np.float32), "n": np.arange(3)}, target / "foreign.safetensors")
    else:
        torch = pytest.importorskip("torch")
        stored = {"state_dict": {"weight": torch.ones(3, 4)[:, 1:], "bias": torch.ones(3)}, "epoch": 3}
        for zipped in (True, False):
            torch.save(stored, target / f"{zipped}.pth", _use_new_zipfile_serialization=zipped)
    return target


@pytest.mark.parametrize("suffix", ["onnx", "safetensors", "pth"])
def test_mutations(tmp_path: Path, suffix: str) -> None:
    folder = originals(tmp_path, suffix)
    assert results(folder)["refused"] == {}
    found = results(folder, 250)
    assert len(found["refused"]) > 150


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("suffix", ["onnx", "safetensors", "pth"])
def test_many_mutations(tmp_path: Path, suffix: str, seed: int) -> None:
    assert len(results(originals(tmp_path, suffix), 3000, seed)["refused"]) > 2000


def chained(operator: str, count: int, first: str, **attributes: Any) -> list[Any]:
    """y = f(f(...), f(...)): twice as much with every node."""
    names = [first, *(f"v{index}" for index in range(count - 1)), "y"]
    return [helper.make_node(operator, [a, a], [b], **attributes) for a, b in itertools.pairwise(names)]


def looping() -> Any:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Concat", ["v", "v"], ["w"], axis=0)], "body",
        [helper.make_tensor_value_info("i", INT64, []), helper.make_tensor_value_info("go", 9, []),
         helper.make_tensor_value_info("v", FLOAT, None)],
        [helper.make_tensor_value_info("on", 9, []), helper.make_tensor_value_info("w", FLOAT, None)],
    )  # fmt: skip
    return helper.make_node("Loop", ["count", "true", "one"], ["y"], body=body)


def nested(depth: int) -> Any:
    node = helper.make_node("Relu", ["x"], ["y"])
    for _ in range(depth):
        inner = helper.make_graph([node], "g", [], [helper.make_tensor_value_info("y", FLOAT, None)])
        node = helper.make_node("If", ["true"], ["y"], then_branch=inner, else_branch=inner if depth < 12 else None)
    return node


def recursive() -> Any:
    """A function of the file that calls itself."""
    model = graph([helper.make_node("f", ["x"], ["y"], domain="own")], {})
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    again = helper.make_node("f", ["a"], ["b"], domain="own")
    model.functions.append(helper.make_function("own", "f", ["a"], ["b"], [again], opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


def edited(change: Callable[[Any], object]) -> Any:
    model = varied()
    change(model)
    return model


def external(**told: Any) -> Any:
    """A weight that is said to lie elsewhere."""

    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in told.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)

    return edited(change)


def one(operator: str, inputs: str, weights: dict[str, Any] | None = None, **attributes: Any) -> Any:
    """A graph of one node."""
    arrays = {name: np.asarray(array) for name, array in (weights or {}).items()}
    return graph([helper.make_node(operator, inputs.split(" "), ["y"], **attributes)], arrays)


def fields(**values: Any) -> Any:
    """The varied network with other fields of the file."""

    def change(model: Any) -> None:
        model.producer_name = "fovea"
        if "opset" in values:
            model.opset_import[0].version = values["opset"]
        if "dims" in values:
            model.graph.initializer[0].dims[0] = values["dims"]
        if "task" in values:
            helper.set_model_props(model, {"task": values["task"]})

    return edited(change)


def many(count: int, *last: Any, **attributes: Any) -> Any:
    nodes = [helper.make_node("Relu", ["x"], [f"y{index or ''}"], **attributes) for index in range(count)]
    return graph([*nodes, *last], {})


def wide(node: Any, channels: int, **weights: Any) -> Any:
    return graph([node], weights, ["n", channels, 1, 1])


BIG, ONES = np.array([1 << 40, 9]), np.ones(1, np.float32)
FLAT = np.ones((1 << 18, 1), np.float32)
LONG = helper.make_node("No\nsuch\nthing" * 9999, ["x"], ["z"], name="a\nb" * 9999)
HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {
    "weights of another size": (lambda: fields(dims=1 << 50), "damaged"),
    "negative dims": (lambda: fields(dims=-4), "damaged"),
    "constant of a huge shape": (lambda: one("ConstantOfShape", "n", {"n": BIG}), "moderate size"),
    "constants that double": (lambda: graph(chained("Concat", 60, "c", axis=0), {"c": FLAT}), "moderate size"),
    "maps that double": (lambda: graph(chained("Concat", 60, "x", axis=1), {}), ""),
    "range": (lambda: one("Range", "a b c", {"a": 0.0, "b": 1e30, "c": 1e-9}), "moderate size"),
    "tile": (lambda: one("Tile", "n n", {"n": BIG}), "moderate size"),
    "expanded constant": (lambda: one("Expand", "n n", {"n": BIG}), "moderate size"),
    "expanded map": (lambda: one("Expand", "x n", {"n": [1, 4, 1 << 40, 8]}), ""),
    "outer product": (lambda: one("MatMul", "a b", {"a": FLAT, "b": FLAT.T}), "moderate size"),
    "texts of numbers": (lambda: one("Cast", "n", {"n": FLAT}, to=8), "numbers"),
    "endless loop": (lambda: graph([looping()], {"count": 1 << 60, "true": True, "one": ONES}), "operator Loop"),
    "graphs in graphs": (lambda: graph([nested(11)], {"true": np.array(True)}), "operator If"),
    "a function that calls itself": (recursive, "the domain 'own'"),
    "a cycle": (lambda: graph([*chained("Add", 2, "v0")[::-1]], {}), "computed before"),
    "a node that reads itself": (lambda: one("Add", "x y"), "computed before"),
    "huge windows": (lambda: one("MaxPool", "x", kernel_shape=[1 << 40, 2]), "kernel"),
    "huge padding": (lambda: one("AveragePool", "x", kernel_shape=[1, 1], pads=[1 << 30] * 4), ""),
    "huge scales": (lambda: one("Resize", "x  s", {"s": np.array([1, 1, 1e30, 1e30], "f4")}), "scale"),
    "many parts": (lambda: wide(helper.make_node("Split", ["x"], ["y"], axis=1), 1 << 60), ""),
    "many slopes": (lambda: wide(helper.make_node("PRelu", ["x", "s"], ["y"]), 1 << 40, s=ONES), "moderate size"),
    "many nodes": (lambda: many(150_000), "100,000 nodes"),
    "one name, many nodes": (lambda: many(20_000, LONG, name="/a/Relu"), "operator No?such?thing"),
    "a newer opset": (lambda: fields(opset=1 << 40), "expected opset"),
    "an older opset": (lambda: fields(opset=6), ""),
    "nested metadata": (lambda: fields(task="[" * 99_999), "JSON"),
    "metadata of no task": (lambda: fields(task="[1]"), "expected metadata"),
    "weights outside": (lambda: external(location="../../etc/passwd"), "beside it"),
    "weights anywhere": (lambda: external(location="/etc/passwd"), "beside it"),
    "weights without a place": (lambda: external(), "beside it"),
    "weights that are not there": (lambda: external(location="gone.bin"), "no such file"),
    "weights too short": (lambda: external(location="weights too short.onnx", offset=1 << 62), "does not hold"),
    "weights at no number": (lambda: external(location="weights at no number.onnx", offset="x"), "damaged"),
    "weights with a strange name": (lambda: external(location="a\0b"), "damaged"),
}
"""Name -> the model, and a part of the message; no part: it may be read as well, in bounded memory."""


def test_hostile_onnx_files(tmp_path: Path) -> None:
    for name, (make, _) in HOSTILE.items():
        (tmp_path / f"{name}.onnx").write_bytes(make().SerializeToString())
    refused = results(tmp_path)["refused"]
    for name, (_, part) in HOSTILE.items():
        assert part in refused.get(f"{name}.onnx", "read" if part else ""), f"{name}: {refused.get(f'{name}.onnx')}"


def write_pth(path: Path, pickled: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", pickled)
        archive.writestr("net/data/0", bytes(1 << 16))


def shared(final: bytes, first: bytes = b"") -> bytes:
    """A pickle of a tuple of twice a tuple of twice a tuple ..., forty deep: short in the file, endless as a text. It
    is memo 40 for what follows."""
    doubled = b"".join(b"h%ch%c\x86q%c0" % (i, i, i + 1) for i in range(40))
    return b"\x80\x02" + first + b")q\x000" + doubled + final


TEXTS = [b"X%c\x00\x00\x00%s" % (len(text), text) for text in (b"storage", b"0", b"cpu")]
STORAGE = b"(" + TEXTS[0] + b"ctorch\nFloatStorage\n" + TEXTS[1] + TEXTS[2] + b"M\x00\x40tQq\x630"  # 16384, memo 99
VIEW = b"ctorch._utils\n_rebuild_tensor_v2\n(h\x63K\x00%s%s\x89NtR"  # of memo 99: offset 0, sizes, strides


def test_hostile_pth_files(tmp_path: Path) -> None:
    write_pth(tmp_path / "device.pth", shared(b"ctorch\ndevice\nh\x28R."))
    write_pth(tmp_path / "sizes.pth", shared(VIEW % (b"h\x28", b"h\x28") + b".", STORAGE))
    views = VIEW % (b"M\x00\x40\x85", b"K\x01\x85")
    write_pth(tmp_path / "views.pth", b"\x80\x02" + STORAGE + b"](" + views * 20_000 + b"e.")
    with zipfile.ZipFile(tmp_path / "order.pth", "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02}.")
        archive.writestr("net/byteorder", bytes(1 << 26), zipfile.ZIP_DEFLATED)
    refused = results(tmp_path)["refused"]
    parts = {"device.pth": "no dictionary", "sizes.pth": "tuple", "views.pth": "far more", "order.pth": "byteorder"}
    assert set(refused) == set(parts)
    assert all(part in refused[name] for name, part in parts.items())
