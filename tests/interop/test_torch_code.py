"""Models as PyTorch source: every op, whole networks, files that PyTorch reads without fovea."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import fovea  # noqa: E402  # the export needs PyTorch
from fovea import models  # noqa: E402
from fovea.cli import main  # noqa: E402
from fovea.engines.reference import ReferenceEngine  # noqa: E402
from fovea.errors import ModelFileError  # noqa: E402
from fovea.graph.store import ParameterStore  # noqa: E402
from fovea.interop.load import export_file  # noqa: E402
from fovea.interop.torch_code.export import export_torch, torch_source  # noqa: E402
from fovea.model import Model  # noqa: E402
from tests.op_samples import SAMPLES, Sample  # noqa: E402

WRITTEN = [  # a gradient rule of its own is refused below
    sample
    for sample in SAMPLES
    if not sample.op.is_loss and getattr(sample.op, "backward_rule", "standard") == "standard"
]


def network_of(model: Model) -> Any:
    """The module that the source makes, with its weights."""
    text, state = torch_source(model)
    module = types.ModuleType("exported")
    module.__file__ = "exported.py"
    exec(compile(text, "exported.py", "exec"), module.__dict__)
    names = [name for name, value in vars(module).items() if isinstance(value, type) and name != "nn"]
    network = getattr(module, names[-1])()
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in state.items()})
    return network.eval()


def as_theirs(x: Any) -> Any:
    tensor = torch.from_numpy(np.array(x))
    return tensor.movedim(-1, 1) if tensor.ndim > 2 else tensor


def agree(ours: Any, theirs: Any, spatial: bool) -> None:
    """Equal values; feature maps are compared in PyTorch's order."""
    wanted = np.moveaxis(ours, -1, 1) if spatial and ours.ndim > 2 else ours
    assert tuple(theirs.shape) == wanted.shape
    np.testing.assert_allclose(theirs.detach().numpy(), wanted, atol=2e-5 * max(1.0, np.abs(wanted).max()), rtol=1e-4)


@pytest.mark.parametrize("sample", WRITTEN, ids=[sample.id for sample in WRITTEN])
def test_every_op_computes_what_it_declares(sample: Sample) -> None:
    graph, inputs = sample.graph(), sample.inputs()
    store = ParameterStore.for_graph(graph)
    arrays = {**sample.parameters(), **sample.buffers()}
    store.load({f"node.{name}": array for name, array in arrays.items()})
    model = Model.from_store(graph, store)
    network = network_of(model)
    given = inputs or (np.zeros((sample.n, 1), np.float32),)
    expected = ReferenceEngine().compile(graph, store, batch_size=sample.n).forward(*given)
    found = network(*map(as_theirs, given))
    several = isinstance(expected, tuple)
    plain = sample.op.kind in ("flatten", "reshape", "transpose", "matmul", "dense", "constant", "layernorm")
    plain |= sample.op.kind == "reduce" and not sample.op.keepdims  # type: ignore[attr-defined]
    for ours, theirs in zip(expected if several else [expected], found if several else [found], strict=True):
        agree(ours, theirs, not plain)


ZOO: dict[str, tuple[int, ...]] = {
    "lenet5": (28, 28, 1), "mlp": (8, 8, 1), "resnet20": (32, 32, 3), "mobilenetv3_small": (64, 64, 3),
    "shufflenetv2": (64, 64, 3), "densenet121": (32, 32, 3), "googlenet": (64, 64, 3), "squeezenet": (64, 64, 3),
    "efficientnet_b0": (64, 64, 3), "convnext_tiny": (64, 64, 3), "conv1d": (400, 1), "conv3d": (16, 16, 16, 1),
}  # fmt: skip


def lively(model: Model) -> Model:
    """Statistics and factors that matter."""
    rng = np.random.default_rng(5)
    values = {
        path: rng.uniform(0.5, 1.5, array.shape)
        for path, array in model.store.tensors().items()
        if path.endswith(("running_var", "scale1.weight", "norm1.weight"))
    }
    model.store.load(values)
    return model


@pytest.mark.parametrize("name", ZOO)
def test_networks_of_the_zoo(name: str) -> None:
    model = lively(models.create(name, 5, ZOO[name], seed=3))
    x = np.random.default_rng(0).standard_normal((2, *ZOO[name])).astype(np.float32)
    agree(model(x), network_of(model)(as_theirs(x)), True)


def test_layers_may_be_called_as_modules_call_their_own_things() -> None:
    names = [one for one in dir(torch.nn.Module()) if not one.startswith("_")] + ["None", "lambda", "x", "F", "self"]
    for name in ("f", "none", "classes", "CLASSES", "net"):
        layers = fovea.Sequential({one: fovea.LayerScale(1.25) for one in names}, fovea.Pad(1), fovea.GlobalMaxPool())
        model = Model(layers, (2, 2, 1), name=name)
        x = np.random.default_rng(0).standard_normal((2, 2, 2, 1)).astype(np.float32)
        agree(model(x), network_of(model)(as_theirs(x)), False)


def test_the_weights_do_not_take_the_place_of_the_source(tmp_path: Path) -> None:
    weights = export_torch(Model(fovea.Dense(2), (3,)), tmp_path / "net.py")
    assert weights == tmp_path / "net.pth"
    assert "class Network" in (tmp_path / "net.py").read_text()
    assert set(torch.load(weights, weights_only=True)) == {"dense1.weight", "dense1.bias"}


def test_several_inputs_and_outputs_constants_and_gradients() -> None:
    a, b = fovea.Input((6, 6, 3), name="left picture"), fovea.Input((4,), name="class")
    y = fovea.Conv(4, 3, padding="same")(a) * b + fovea.Constant(np.arange(4.0))()
    model = Model(fovea.Graph(inputs=[a, b], outputs=[y, fovea.GlobalAvgPool()(y)]), seed=0)
    rng = np.random.default_rng(1)
    x, z = rng.standard_normal((3, 6, 6, 3)).astype(np.float32), rng.standard_normal((3, 4)).astype(np.float32)
    network = network_of(model)
    found = network(as_theirs(x), as_theirs(z))
    for ours, theirs in zip(model(x, z), found, strict=True):
        agree(ours, theirs, True)
    found[1].sum().backward()
    assert network.conv1.weight.grad.abs().sum() > 0


def test_the_files_need_pytorch_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A process that cannot find fovea gets the same numbers; the state is a plain dict of tensors."""
    net = fovea.Sequential(
        {"conv-a;": fovea.Conv(3, 3), "def": fovea.BatchNorm(), "x": fovea.Flatten()}, fovea.Dense(2)
    )
    model = Model(net, (5, 5, 1), classes=["it's", 'a """quote\\'], seed=2, name="odd name; import os")
    model.save(tmp_path / "m.safetensors")
    assert main(["export", str(tmp_path / "m.safetensors"), "--to", "torch", "-o", str(tmp_path / "net")]) == 0
    assert "net.py: the network" in capsys.readouterr().out
    x = np.random.default_rng(2).standard_normal((2, 5, 5, 1)).astype(np.float32)
    np.save(tmp_path / "x.npy", np.moveaxis(x, -1, 1))
    program = (
        "import sys, numpy, torch, net; y = net.load()(torch.from_numpy(numpy.load('x.npy')));"
        "print(y.tolist()); print(list(net.CLASSES)); print('fovea' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    values, classes, loaded = done.stdout.splitlines()
    np.testing.assert_allclose(np.array(eval(values)), model(x), atol=1e-5)
    assert (eval(classes), loaded) == (["it's", 'a """quote\\'], "False")
    state = torch.load(tmp_path / "net.pth", weights_only=True)
    assert type(state) is dict
    assert state["conv_a.weight"].shape == (3, 1, 3, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "torch", "-o", "net.onnx"], r"[--out] expected a file that ends in .pth or .pt, got net.onnx"),
        (["--to", "keras", "-o", "net"], "[--to] expected onnx, torch or fovea, got 'keras'"),
        (["-o", "net.pth", "--images"], "[--images] expected it with an ONNX file, got one for PyTorch"),
        (
            ["-o", "net.pth", "--float16"],
            "[--float16] expected it with a model file (.safetensors), got one for PyTorch",
        ),
        (["-o", "net"], "[--out] expected a file that ends in .onnx, .pth or .safetensors, got net"),
    ],
)
def test_what_cannot_be_written_is_said(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models.create("mlp", 2, (4, 4, 1)).save(tmp_path / "m.safetensors")
    assert main(["export", str(tmp_path / "m.safetensors"), *words]) == 2
    assert message in capsys.readouterr().err


def test_open_sizes_and_gradient_rules_are_refused(tmp_path: Path) -> None:
    net = fovea.Sequential(fovea.Conv(2, 3), fovea.GlobalAvgPool())
    with pytest.raises(ModelFileError, match="expected closed input sizes"):
        export_file(Model(net, (None, None, 1)), tmp_path / "x.pth")
    guided = Model(fovea.Sequential(fovea.ReLU(backward_rule="guided")), (3,))
    with pytest.raises(ModelFileError, match=r"node 'relu1' \(relu\) cannot be written for PyTorch: its gradient"):
        export_file(guided, tmp_path / "x.pth")
    assert list(tmp_path.iterdir()) == []
