"""ONNX files as models: axis order, names, batches, and files that are broken or hostile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea.errors import ModelFileError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
helper = onnx.helper
nets = pytest.importorskip("tests.interop.onnx_nets")
compare, conv, network, normal = nets.compare, nets.conv, nets.network, nets.normal
loading = pytest.importorskip("fovea.interop.onnx.load")
import_model, load_onnx = loading.import_model, loading.load_onnx

WEIGHTS = os.environ.get("FOVEA_WEIGHTS")


def test_flatten_before_gemm_permutes_rows() -> None:
    nodes = [
        conv("x", "a", "c.weight", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["f"]),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["y"], transB=1),
    ]
    weights = {"c.weight": normal(4, 3, 3, 3), "fc.weight": normal(5, 4 * 6 * 7), "fc.bias": normal(5)}
    imported = compare(network(nodes, {"x": ["n", 3, 6, 7]}, ["y"], weights))
    assert [node.op.kind for node in imported.model.graph.nodes.values()] == [
        "input",
        "conv",
        "relu",
        "reshape",
        "dense",
    ]
    assert list(imported.model.parameters()) == ["c.weight", "fc.weight", "fc.bias"]
    assert imported.transposes == ()


def test_reshape_transpose_reshape_is_a_channel_shuffle() -> None:
    nodes = [
        conv("x", "a", "w"),
        helper.make_node("Reshape", ["a", "split"], ["b"]),
        helper.make_node("Transpose", ["b"], ["c"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["c", "joined"], ["d"]),
        conv("d", "y", "v", group=2),
    ]
    weights = {"w": normal(6, 3, 1, 1), "v": normal(4, 3, 1, 1)}
    weights |= {"split": np.array([1, 2, 3, 4, 5]), "joined": np.array([1, 6, 4, 5])}
    imported = compare(network(nodes, {"x": [1, 3, 4, 5]}, ["y"], weights))
    kinds = [node.op.kind for node in imported.model.graph.nodes.values()]
    assert kinds == ["input", "conv", "channelshuffle", "conv"]
    assert imported.transposes == ()


def test_heads_of_a_detector_need_no_transpose() -> None:
    """Maps of two sizes to rows of boxes, as single-shot detectors are exported, for one image."""
    nodes, joined = [], []
    for i, side in enumerate((4, 2)):
        nodes += [
            conv("x", f"a{i}", f"w{i}", strides=[4 // side, 4 // side], kernel_shape=[1, 1]),
            helper.make_node("Transpose", [f"a{i}"], [f"t{i}"], perm=[0, 2, 3, 1]),
            helper.make_node("Shape", [f"t{i}"], [f"s{i}"]),
            helper.make_node("Gather", [f"s{i}", "zero"], [f"n{i}"]),
            helper.make_node("Unsqueeze", [f"n{i}", "zeros"], [f"u{i}"]),
            helper.make_node("Concat", [f"u{i}", "rest"], [f"r{i}"], axis=0),
            helper.make_node("Reshape", [f"t{i}", f"r{i}"], [f"b{i}"]),
        ]
        joined.append(f"b{i}")
    nodes += [
        helper.make_node("Concat", joined, ["all"], axis=1),
        helper.make_node("Slice", ["all", "two", "four", "two"], ["size"]),
        helper.make_node("Exp", ["size"], ["grown"]),
        helper.make_node("Mul", ["grown", "anchors"], ["scaled"]),
        helper.make_node("Softmax", ["all"], ["scores"], axis=2),
    ]
    weights = {"w0": normal(8, 3, 1, 1), "w1": normal(8, 3, 1, 1), "zero": np.array(0), "zeros": np.array([0])}
    weights |= {"rest": np.array([-1, 4]), "two": np.array([2]), "four": np.array([4])}
    weights |= {"anchors": np.abs(normal(1, 40, 2))}
    imported = compare(network(nodes, {"x": [1, 3, 4, 4]}, ["scaled", "scores"], weights))
    assert imported.transposes == ()


def test_what_must_be_moved_is_told() -> None:
    nodes = [conv("x", "a", "w"), helper.make_node("Reshape", ["a", "flat"], ["y"], name="rows")]
    weights = {"w": normal(4, 3, 1, 1), "flat": np.array([0, 20])}
    imported = compare(network(nodes, {"x": ["n", 3, 1, 5]}, ["y"], weights))
    assert imported.transposes == ("y",)


def test_squeeze_and_excitation_broadcasts() -> None:
    nodes = [
        conv("x", "a", "w"),
        helper.make_node("GlobalAveragePool", ["a"], ["g"]),
        conv("g", "h", "v"),
        helper.make_node("Sigmoid", ["h"], ["s"]),
        helper.make_node("Mul", ["s", "a"], ["m"]),
        helper.make_node("Add", ["offset", "m"], ["y"]),
    ]
    weights = {"w": normal(4, 3, 3, 3), "v": normal(4, 4, 1, 1), "offset": normal(4, 1, 1)}
    assert compare(network(nodes, {"x": ["n", 3, 6, 7]}, ["y"], weights)).transposes == ()


GELU = {
    "as PyTorch writes it": ["s = Div(x, r)", "e = Erf(s)", "p = Add(e, one)", "m = Mul(x, p)", "y = Mul(m, half)"],
    "half first": ["h = Mul(half, x)", "s = Mul(q, x)", "e = Erf(s)", "p = Add(one, e)", "y = Mul(h, p)"],
    "half on the sum": ["s = Mul(x, q)", "e = Erf(s)", "p = Add(e, one)", "m = Mul(p, half)", "y = Mul(m, x)"],
}


def gelu(lines: list[str], outputs: list[str]) -> Any:
    nodes = [onnx.parser.parse_node(line) for line in lines]
    numbers = {"r": 2**0.5, "q": 0.5**0.5, "one": 1.0, "half": 0.5}
    return network(nodes, {"x": ["N", 4]}, outputs, {name: np.float32(one) for name, one in numbers.items()})


@pytest.mark.parametrize("name", GELU)
def test_gelu_in_parts_becomes_one_node(name: str) -> None:
    imported = compare(gelu(GELU[name], ["y"]))
    assert [node.op.kind for node in imported.model.graph.nodes.values()] == ["input", "gelu"]


def test_an_error_function_that_is_no_gelu_is_refused() -> None:
    for lines, outputs in ((GELU["half first"], ["y", "p"]), (["y = Erf(x)"], ["y"])):
        with pytest.raises(ModelFileError, match="Erf"):
            import_model("net.onnx", gelu(lines, outputs))


def test_slopes_of_the_last_axis() -> None:
    slope = np.linspace(-0.5, 0.5, 5).astype(np.float32)
    nodes = [helper.make_node("PRelu", ["x", "slope"], ["y"])]
    compare(network(nodes, {"x": ["N", 3, 5]}, ["y"], {"slope": slope}))


def test_a_constant_along_axes_that_memory_has_merged() -> None:
    """One group of all: normalised as a single run of numbers, then scaled by row again."""
    names = ["one", "nought"]
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["r"]),
        helper.make_node("InstanceNormalization", ["r", *names], ["n"]),
        helper.make_node("Reshape", ["n", "back"], ["b"]),
        helper.make_node("Mul", ["b", "scale"], ["y"]),
    ]
    scale = np.arange(1.0, 10.0, dtype=np.float32).reshape(1, 9, 1, 1)
    sizes = {"flat": np.array([0, 1, -1]), "back": np.array([0, 9, 7, 1]), "scale": scale}
    ones = {"one": np.ones(1, np.float32), "nought": np.zeros(1, np.float32)}
    compare(network(nodes, {"x": ["N", 9, 7, 1]}, ["y"], {**sizes, **ones}))


def test_sizes_may_stay_open_and_be_given() -> None:
    nodes = [conv("x", "a", "w"), helper.make_node("GlobalAveragePool", ["a"], ["g"])]
    nodes.append(helper.make_node("Flatten", ["g"], ["y"]))
    model = network(nodes, {"x": ["n", 3, "h", "w"]}, ["y"], {"w": normal(4, 3, 3, 3)})
    imported = import_model("net.onnx", model)
    assert imported.model.graph.input_shapes == ((None, None, 3),)
    assert imported.model(normal(2, 9, 8, 3)).shape == (2, 4)
    assert compare(model, input_shape=(6, 7, 3)).model.graph.input_shapes == ((6, 7, 3),)


def test_an_imported_network_trains(tmp_path: Path) -> None:
    nodes = [
        conv("x", "a", "c.weight"),
        helper.make_node("BatchNormalization", ["a", "bn.weight", "bn.bias", "bn.mean", "bn.var"], ["b"]),
        helper.make_node("Relu", ["b"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "fc.weight"], ["y"], transB=1),
    ]
    weights = {"c.weight": normal(8, 3, 3, 3), "fc.weight": normal(2, 8), "bn.mean": normal(8), "bn.bias": normal(8)}
    weights |= {"bn.weight": np.ones(8, np.float32), "bn.var": np.ones(8, np.float32)}
    onnx.save(network(nodes, {"x": ["n", 3, 6, 6]}, ["y"], weights), tmp_path / "net.onnx")
    model = fovea.load(tmp_path / "net.onnx")
    y = np.arange(16) % 2
    x = normal(16, 6, 6, 3) + y[:, None, None, None].astype(np.float32)
    plan = model.compile("native", 16, training=True, loss=fovea.SoftmaxCrossEntropy(), optimizer=fovea.SGD())
    losses = [plan.train_step(x, y, lr=0.1).loss for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]
    again = fovea.load(model.save(tmp_path / "net.safetensors"))
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.skipif(WEIGHTS is None, reason="needs published weights: set FOVEA_WEIGHTS")
@pytest.mark.parametrize("name", ["ultraface_rfb_320", "fastestdet_coco"])
def test_published_detectors(name: str) -> None:
    model = onnx.load(Path(WEIGHTS or "") / f"{name}.onnx")
    given = {tensor.name for tensor in model.graph.initializer}
    for one in [one for one in model.graph.input if one.name in given]:  # else onnxruntime warns of each
        model.graph.input.remove(one)
    assert compare(model, tolerance=1e-5).transposes == ()


def broken(**changes: Any) -> Any:
    nodes = changes.get("nodes", [conv("x", "a", "w"), helper.make_node("Relu", ["a"], ["y"])])
    return network(
        nodes, changes.get("inputs", {"x": ["n", 3, 6, 6]}), ["y"], changes.get("weights", {"w": normal(4, 3, 3, 3)})
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (broken(nodes=[helper.make_node("Relu", ["a"], ["y"])]), "'a' to be computed before"),
        (broken(nodes=[conv("b", "a", "w"), helper.make_node("Relu", ["a"], ["b"])]), "'b' to be computed before"),
        (broken(nodes=[helper.make_node("NonMaxSuppression", ["x", "x"], ["y"])]), "operator NonMaxSuppression of"),
        (broken(nodes=[helper.make_node("QuantizeLinear", ["x", "w"], ["y"])]), "a network in float32"),
        (broken(nodes=[conv("x", "y", "w", group=7)]), "groups"),
        (broken(nodes=[conv("x", "y", "w", pads=[1])]), "4 pads"),
        (broken(nodes=[conv("x", "y", "w", strides=[0, 0])]), "stride"),
        (broken(nodes=[helper.make_node("Relu", ["x"], ["z"])]), "output 'y' to be computed"),
        (broken(inputs={"x": ["n", 5, 6, 6]}), "weight of shape"),
        (broken(weights={"w": np.zeros((4, 3, 3), np.float32)}), "weights with 4 axes"),
        (
            broken(nodes=[helper.make_node("ConstantOfShape", ["n"], ["y"])], weights={"n": np.array([1 << 40, 9])}),
            "moderate size",
        ),
        (broken(nodes=[helper.make_node("Reshape", ["x", "n"], ["y"])], weights={"n": np.array([-1, -1])}), "one -1"),
        (broken(nodes=[helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0, 2, 3])]), "batch axis"),
        (broken(nodes=[helper.make_node("Softmax", ["x"], ["y"], axis=0)]), "batch axis"),
        (broken(nodes=[helper.make_node("Relu", ["x"], ["y"], domain="com.example")]), "com.example"),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_named(model: Any, message: str) -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        import_model("net.onnx", model)
    assert "\n" not in str(caught.value)


def test_broken_files_end_in_one_line(tmp_path: Path) -> None:
    whole = broken().SerializeToString()
    rng = np.random.default_rng(0)
    files = [whole[:length] for length in range(0, len(whole), 5)]
    for _ in range(400):
        mutated = bytearray(whole)
        for position in rng.integers(0, len(whole), 4):
            mutated[position] = rng.integers(256)
        files.append(bytes(mutated))
    messages = []
    for data in files:
        (tmp_path / "a.onnx").write_bytes(data)
        try:
            load_onnx(tmp_path / "a.onnx")
        except ModelFileError as error:
            messages.append(str(error))
    assert len(messages) > len(files) // 4
    assert not any("\n" in message for message in messages)
