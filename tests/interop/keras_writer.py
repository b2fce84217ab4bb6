"""Files as Keras writes them, in its three formats: the tests need no Keras."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FORMATS", "config", "layers_of", "write"]

Layer = tuple[str, str, dict[str, np.ndarray]]
"""Class, name and arrays by Keras's names."""
FORMATS = ("net.keras", "net.weights.h5", "net.h5")
KERAS = {"weight": "kernel", "bias": "bias", "running_mean": "moving_mean", "running_var": "moving_variance"}
CLASSES = {"conv": "Conv2D", "dense": "Dense", "batchnorm": "BatchNormalization", "layernorm": "LayerNormalization"}


def layers_of(model: Any, names: list[str]) -> list[Layer]:
    """A model of ours as Keras would hold it; depthwise kernels are ``H,W,C,M`` there."""
    layers = []
    for node, name in zip([one for one in model.graph.nodes.values() if one.parameters], names, strict=True):
        arrays = {}
        for path in {**node.parameters, **node.buffers}:
            array, short = model.store.tensors()[path], path.rpartition(".")[2]
            kind = CLASSES.get(node.op.kind, "LayerScale")
            if node.op.kind == "conv" and node.op.groups > 1:
                kind, array = "DepthwiseConv2D", np.moveaxis(array, 2, 3)
            norm = {"weight": "gamma", "bias": "beta"} if "norm" in node.op.kind else {}
            arrays[norm.get(short, KERAS[short])] = array
        layers.append((kind, name, arrays))
    return layers


def config(layers: list[Layer], eps: float | None = None) -> dict[str, Any]:
    """config.json, as far as it is looked at."""
    described = []
    for kind, name, _ in layers:
        fields: dict[str, Any] = {"name": name}
        if eps is not None and kind == "BatchNormalization":
            fields["epsilon"] = eps
        described.append({"module": "keras.layers", "class_name": kind, "config": fields})
    return {"class_name": "Functional", "config": {"name": "net", "layers": described}}


def write(path: Path, layers: list[Layer], eps: float | None = None, names: bool = True) -> Path:
    """One file; ``names``: whether the newer format notes those of layers, as newer versions of Keras do."""
    import h5py

    if path.name.endswith(".weights.h5"):
        with h5py.File(path, "w") as file:
            _numbered(file, layers, names)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.attrs["model_config"] = json.dumps(config(layers, eps))
            _named(file.create_group("model_weights"), layers)
    else:
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            _numbered(file, layers, names=False)  # config.json has them
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", "{}")
            archive.writestr("config.json", json.dumps(config(layers, eps)))
            archive.writestr("model.weights.h5", content.getvalue())
    return path


def _numbered(file: Any, layers: list[Layer], names: bool) -> None:
    counts: dict[str, int] = {}
    for kind, name, arrays in layers:
        snake = re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()
        counts[snake] = counts.get(snake, -1) + 1
        group = file.create_group(f"layers/{snake}_{counts[snake]}/vars" if counts[snake] else f"layers/{snake}/vars")
        if names:
            group.attrs["name"] = name
        for index, array in enumerate(arrays.values()):
            group[str(index)] = array
    file["layers/dropout/seed_generator/vars/0"] = np.zeros(2, np.uint32)
    file["optimizer/vars/0"] = np.zeros((), np.int64)


def _named(root: Any, layers: list[Layer]) -> None:
    root.attrs["layer_names"] = [name for _, name, _ in layers]
    for _, name, arrays in layers:
        group = root.create_group(name)
        group.attrs["weight_names"] = [f"{name}/{short}:0" for short in arrays]
        for short, array in arrays.items():
            group[f"{name}/{short}:0"] = array
