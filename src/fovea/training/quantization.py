"""``fovea.quantize``: a trained model becomes one that computes on bytes."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.dataset import Dataset
from fovea.errors import ConfigError, DataError
from fovea.graph.fold import folded
from fovea.graph.graph import Graph
from fovea.graph.integer import find_steps
from fovea.graph.quantization import Grid, Quantization, float_weights, int8_weights
from fovea.graph.store import ParameterStore
from fovea.graph.summary import summarize
from fovea.model import Model
from fovea.training.calibration import METHODS, choose_grid, grid_nodes, measure
from fovea.training.prepare import check_model, check_shapes, open_data

__all__ = ["IMAGES", "quantize"]

Array = npt.NDArray[Any]
IMAGES = 512
"""Samples of a calibration; more change little."""
_BATCH, _BATCH_BYTES = 16, 256 << 20


def quantize(
    model: Model,
    data: Dataset | str | os.PathLike[str] | Array,
    *,
    images: int = IMAGES,
    method: str = "mse",
    split: str = "train",
    winograd: bool = True,
) -> Model:
    """An int8 model of a float32 one: weights int8 with a scale for each output channel, activations uint8.

    ``data``: a data set (``images`` samples of a split, spread over it, give the ranges of activations), or float32
    network inputs as an array. ``method``: "mse", "percentile" or "minmax". ``winograd``: 3x3 layers with at least 64
    channels take half the time and twice the rounding error (``fovea.graph.winograd``). The model given stays as it is.

    Raises ConfigError for a model that is quantised already or has nothing to quantise, DataError for unfit data.

    >>> small = fovea.quantize(fovea.load("runs/digits"), "digits")  # doctest: +SKIP
    """
    check_model(model, "quantize")
    if model.quantization is not None:
        raise ConfigError("quantize", "expected a float32 model, got one quantised to int8 already; give the original")
    if method not in METHODS:
        raise ConfigError("quantize", f"expected method as one of {', '.join(METHODS)}, got {method!r}; mse is usual")
    if isinstance(images, bool) or not isinstance(images, int) or images < 1:
        raise ConfigError("quantize", f"expected images as an integer of at least 1, got {images!r}; {IMAGES} is usual")
    if not isinstance(winograd, bool):
        raise ConfigError("quantize", f"expected winograd as True or False, got {winograd!r}; True is usual")
    graph, store = folded(model.graph, model.store)
    plain = Model.from_store(graph, store, model.classes, model.preprocessing, model.task, model.name, model.provenance)
    inputs, pixels = _inputs(plain, data, split, images)
    shared = grid_nodes(graph)
    grids = _grids(plain, inputs, pixels, shared, method)
    scales = _scales(graph, store, grids)
    if not scales:
        raise ConfigError("quantize", f"expected convolutions or dense layers, got {model!r} without; nothing to do")
    about = {"method": method, "samples": len(inputs)}
    for path, scale in scales.items():
        store.parameters[path][...] = float_weights(int8_weights(store.parameters[path], scale), scale)
    own = (model.classes, model.preprocessing, model.task, model.name, model.provenance)
    return Model.from_store(graph, store, *own, Quantization(grids, scales, about, winograd))


def _inputs(model: Model, data: Any, split: str, images: int) -> tuple[Array, bool]:
    """Samples for the calibration, and whether the pixel half of preprocessing is still to be done."""
    if isinstance(data, np.ndarray):
        if not len(data):
            raise DataError("quantize", "expected at least one sample, got none; give some network inputs")
        return data[:images], False
    opened = open_data(data)
    check_shapes(model, opened)
    if model.preprocessing is None:
        raise DataError("quantize", f"expected a model that knows its preprocessing, got {model!r} without one")
    chosen = opened.prepared(model.preprocessing).split(split)
    if not len(chosen):
        raise DataError("quantize", f"expected samples in the split {split!r}, got none; choose another split")
    rows = np.unique(np.linspace(0, len(chosen) - 1, min(images, len(chosen))).astype(np.int64))
    return chosen.inputs[rows], True


def _grids(model: Model, inputs: Array, pixels: bool, shared: dict[str, str], method: str) -> dict[str, Grid]:
    shape = inputs.shape[1:]
    sample_bytes = summarize(model.graph.at(shape)).totals["activation_bytes"]
    size = max(1, min(_BATCH, len(inputs), _BATCH_BYTES // max(1, sample_bytes)))
    source = model.graph.inputs[0]
    probe = model.compile(batch_size=1, pixels=pixels, input_shape=shape)
    added = [name for name in probe.spec.graph.nodes if name not in model.graph.nodes]
    kept = {name: added[0] if added and name == source else name for name in shared}
    plan = model.compile(batch_size=size, pixels=pixels, input_shape=shape, keep=list(kept.values()))
    batches = [slice(start, start + size) for start in range(0, len(inputs), size)]
    ranges = measure(plan, inputs, batches, kept.values(), len(batches))
    groups: dict[str, list[str]] = {}
    for name, root in shared.items():
        groups.setdefault(root, []).append(name)
    chosen = {root: choose_grid([ranges[kept[name]] for name in names], method) for root, names in groups.items()}
    return {name: chosen[root] for name, root in shared.items()}


def _scales(graph: Graph, store: ParameterStore, grids: dict[str, Grid]) -> dict[str, Array]:
    """One scale for every output channel of each layer that a step computes."""
    weights = {f"{name}.weight": node for name, node in graph.nodes.items() if f"{name}.weight" in node.parameters}
    everything = Quantization(grids, {path: np.ones(1) for path in weights})
    scales = {}
    for step in find_steps(graph, everything, ()).values():
        if step is None or step.kind not in ("conv", "depthwise"):
            continue
        name = step.node.name
        weight = store.parameters[f"{name}.weight"].astype(np.float64)
        most = np.abs(weight).reshape(-1, weight.shape[-1]).max(0) / 127
        bias = np.abs(store.parameters.get(f"{name}.bias", np.zeros(1, np.float32)).astype(np.float64))
        fitting = bias / (grids[step.inputs[0].node].scale * 2**28)  # a bias that 32 bits hold
        scale = np.maximum(most, fitting).astype(np.float32)
        scales[f"{name}.weight"] = np.where(scale > 0, scale, np.float32(1))
    return scales
