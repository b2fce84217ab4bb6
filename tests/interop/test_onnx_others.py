"""Whole networks that others exported: ONNX's own light models, and what PyTorch's exporter writes of torchvision's."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fovea.model import Model
from tests.models.torchvision_peers import torchvision_models

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
numpy_helper = onnx.numpy_helper
loading = pytest.importorskip("fovea.interop.onnx.load")
ort.set_default_logger_severity(4)

LIGHT = ["densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet"]
LARGE = ["bvlc_alexnet", "zfnet512", "vgg19"]  # dense layers of 150 MB and more


def light(name: str) -> tuple[Any, Path]:
    """The model, and the file of its expected output."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    return onnx.load(folder / f"light_{name}.onnx"), folder / f"light_{name}_output_0.pb"


def only_input(model: Any) -> str:
    weights = {tensor.name for tensor in model.graph.initializer}
    (name,) = [one.name for one in model.graph.input if one.name not in weights]
    return str(name)


def agrees(model: Model, x: np.ndarray, expected: np.ndarray, tolerance: float, engines: tuple[str, ...]) -> None:
    """N,H,W,C in; the output's order is ONNX's but for feature maps, which are of one pixel here."""
    for engine in engines:
        result: Any = model.compile(engine, len(x)).forward(x)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(result.reshape(expected.shape), expected, atol=tolerance * scale, err_msg=engine)


def quick(names: Iterable[str], chosen: Sequence[str]) -> list[Any]:
    """Parameters of a test: what is not chosen is slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name not in chosen)) for name in names]


@pytest.mark.parametrize("name", quick([*LIGHT, *LARGE], LIGHT))
def test_light_models(name: str) -> None:
    """As they are, all weights one number, against the output that ONNX ships."""
    model, output = light(name)
    expected = numpy_helper.to_array(onnx.TensorProto.FromString(output.read_bytes()))
    imported = loading.import_model(name, model)
    assert imported.transposes == ()
    x = (np.arange(224 * 224 * 3, dtype=np.float32) / (224 * 224 * 3)).reshape(1, 3, 224, 224).transpose(0, 2, 3, 1)
    agrees(imported.model, np.ascontiguousarray(x), expected, 1e-3, ("native",))


def drawn(model: Any) -> Any:
    """Weights of the same shapes drawn at random: the numbers of a network that has learned something, more or less."""
    rng = np.random.default_rng(0)
    shapes = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    for node in [node for node in model.graph.node if node.op_type == "ConstantOfShape"]:
        shape = shapes[node.input[0]]
        fan = int(np.prod(shape[1:])) if len(shape) > 1 else 0
        array = rng.normal(0, np.sqrt(2 / fan), shape) if fan else rng.uniform(0.5, 1.5, shape)
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), node.output[0]))
        model.graph.node.remove(node)
    model.ir_version = 8
    given = {one.name for one in model.graph.initializer}
    for one in [one for one in model.graph.input if one.name in given]:  # else onnxruntime warns of each
        model.graph.input.remove(one)
    return model


@pytest.mark.parametrize("name", LIGHT)
def test_light_models_with_weights_of_their_own(name: str) -> None:
    """Against onnxruntime; the reference engine, too, on the two of fewest products."""
    model = drawn(light(name)[0])
    x = np.random.default_rng(1).standard_normal((1, 3, 224, 224)).astype(np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {only_input(model): x})
    imported = loading.import_model(name, model)
    engines = ("reference",) if name in ("squeezenet", "shufflenet") else ()
    agrees(imported.model, np.ascontiguousarray(x.transpose(0, 2, 3, 1)), expected, 1e-3, (*engines, "native"))


QUICK = ("squeezenet1_1", "shufflenet_v2_x0_5")
TWINS = [
    *QUICK,
    "mobilenet_v3_small",
    "resnet18",
    "mobilenet_v2",
    "densenet121",
    "efficientnet_b0",
    "convnext_tiny",
    "regnet_y_400mf",
]


def exported(make: Callable[..., Any]) -> tuple[Any, np.ndarray, np.ndarray]:
    """The file that PyTorch writes of a network, an input N,C,H,W and its output."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = make(weights=None, num_classes=7).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
    x, file = torch.randn(2, 3, 64, 64), io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # this exporter needs nothing else; the newer one does
        torch.onnx.export(network, (x[:1],), file, dynamo=False, dynamic_axes={"x": {0: "n"}}, input_names=["x"])
        return onnx.load_model_from_string(file.getvalue()), x.numpy(), network(x).numpy()


@pytest.mark.parametrize("name", quick(TWINS, QUICK))
def test_networks_that_pytorch_exports(name: str) -> None:
    """Same numbers, and no element moves: shuffles of channels are what the network itself asks for. Layer norm of
    ConvNeXt is the exception: PyTorch writes a Transpose around it, and both fall away here."""
    model, x, expected = exported(getattr(torchvision_models(), name))
    imported = loading.import_model(name, model)
    assert imported.transposes == ()
    assert not [node.name for node in imported.model.graph.nodes.values() if node.op.kind == "transpose"]
    agrees(imported.model, np.ascontiguousarray(x.transpose(0, 2, 3, 1)), expected, 1e-4, ("native", "reference"))
