"""``export_torch``: a model becomes a Python file with a plain ``nn.Module`` and a file with its ``state_dict``."""

from __future__ import annotations

import os
from pathlib import Path

import fovea
from fovea.engines.torch.state import save_state
from fovea.errors import ModelFileError
from fovea.graph.graph import Ref
from fovea.graph.serialize import write_atomically
from fovea.interop.torch_code import moves
from fovea.interop.torch_code.layers import RULES
from fovea.interop.torch_code.writer import Array, Writer, identifier
from fovea.model import Model

__all__ = ["export_torch", "torch_source"]

_NOT_CLASSES = ("F", "CLASSES", "None", "True", "False")
"""Names that the source needs for something else."""
_ = moves  # its rules join the table when it is imported


def export_torch(model: Model, path: str | os.PathLike[str]) -> Path:
    """Write ``NAME.pth``, a ``state_dict`` that ``torch.load(weights_only=True)`` reads, and ``NAME.py`` beside it.

    The source needs PyTorch alone. Its class takes float32 N,C,*spatial, normalised, as PyTorch's networks do, and
    gives what the network gives: feature maps as N,C,*spatial. ``load()`` in it makes the network with its weights.
    Both files are written atomically; returns the path of the first. Raises ModelFileError, in one line, for open input
    sizes, a quantised model, an op that PyTorch has no equal of, or a disk that is full.

    >>> export_torch(model, "digits.pth")  # doctest: +SKIP
    """
    weights = Path(path)
    if weights.suffix in ("", ".py"):  # the source has that name
        weights = weights.with_suffix(".pth")
    source = weights.with_suffix(".py")
    text, state = torch_source(model, weights.name, str(path))
    try:
        write_atomically(source, lambda temporary: _write(temporary, text))
        write_atomically(weights, lambda temporary: save_state(temporary, state))
    except OSError as error:
        raise ModelFileError(
            str(path), f"expected to write the file, got: {error.strerror or error}; free space or change the path"
        ) from None
    return weights


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def torch_source(model: Model, weights: str = "model.pth", where: str = "export") -> tuple[str, dict[str, Array]]:
    """The Python source, and the arrays of its state_dict; ``weights`` is the file that the source reads them from."""
    if any(size is None for shape in model.graph.input_shapes for size in shape):
        shapes = model.graph.input_shapes
        raise ModelFileError(where, f"expected closed input sizes, got {shapes}; give --input-shape, or build it so")
    if model.quantization is not None:
        raise ModelFileError(where, "expected a float32 model, got one quantised to int8; export what it was made from")
    write = Writer(where, model.graph, model.store)
    graph = write.graph
    inputs = [write.begin(model.graph.node(name)) for name in model.graph.inputs]
    if any(node.op.kind == "constant" for node in graph.nodes.values()):
        write.forward.append(f"n = {inputs[0]}.shape[0]")
    for node in graph.nodes.values():
        if node.op.kind == "input":
            continue
        if node.op.kind not in RULES:
            raise write.refuse(node, "PyTorch has nothing like it; leave the node out")
        RULES[node.op.kind](write, node)
    outputs = [write.values[ref].name for ref in graph.outputs]
    return _text(model, write, inputs, outputs, weights), write.state


def _text(model: Model, write: Writer, inputs: list[str], outputs: list[str], weights: str) -> str:
    name = "".join(part[:1].upper() + part[1:] for part in identifier(model.name or "network").split("_"))
    name += "Network" if name in _NOT_CLASSES else ""
    arguments = ", ".join(f"{one}: torch.Tensor" for one in inputs)
    several = len(outputs) > 1
    annotation = f"tuple[{', '.join(['torch.Tensor'] * len(outputs))}]" if several else "torch.Tensor"
    takes = [_described(model, Ref(one), var) for one, var in zip(model.graph.inputs, inputs, strict=True)]
    gives = [_given(model, write, ref) for ref in model.graph.outputs]
    init = "\n".join(f"        {line}" for line in write.init)
    forward = "\n".join(f"        {line}" for line in write.forward)
    classes = "None" if model.classes is None else "(\n" + "".join(f"    {one!r},\n" for one in model.classes) + ")"
    return f'''"""A network in PyTorch, written by fovea {fovea.__version__}; its weights are in {_plain(weights)}."""

from __future__ import annotations

import pathlib

import torch
import torch.nn.functional as F
from torch import nn

CLASSES = {classes}
"""What the outputs stand for."""


class {name}(nn.Module):
    """Takes {"; ".join(takes)}. Gives {"; ".join(gives)}.{_preprocessing(model)}"""

    def __init__(self) -> None:
        super().__init__()
{init}

    def forward(self, {arguments}) -> {annotation}:
{forward}
        return {", ".join(outputs)}


def load(path: str | pathlib.Path = pathlib.Path(__file__).with_name({weights!r})) -> {name}:
    """The network with its weights, for inference."""
    network = {name}()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()
'''


def _described(model: Model, ref: Ref, variable: str) -> str:
    shape = model.graph.shape(ref)
    sizes = [shape[-1], *shape[:-1]] if len(shape) > 1 else shape
    return f"{variable}, float32 {_sizes(('N', *sizes))}"


def _given(model: Model, write: Writer, ref: Ref) -> str:
    shape, value = model.graph.shape(ref), write.values[ref]
    sizes = [shape[-1], *shape[:-1]] if value.first and shape else shape
    return f"{value.name}, {_sizes(('N', *sizes))}"


def _sizes(sizes: tuple[object, ...]) -> str:
    return f"({', '.join(map(str, sizes))})"


def _preprocessing(model: Model) -> str:
    """How an image becomes the network's input, in words."""
    record = model.preprocessing
    if record is None:
        return ""
    fields = record.normalize()
    words = ", ".join(f"{name} {value}" for name, value in fields.items())
    return f"\n\n    Input is (pixel * scale - mean) / std, with {_plain(words)}.\n    "


def _plain(text: str) -> str:
    """A text that cannot end a docstring."""
    return "".join(letter if letter.isprintable() and letter not in '\\\\"' else "_" for letter in text)
