"""Codes: what any layers of a network say of each sample, N,D, in one pass over the data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import fovea
from fovea.engines.base import Engine
from fovea.engines.registry import get_engine
from fovea.errors import ConfigError, NonFiniteError
from fovea.features import cache as disk
from fovea.features.nodes import taken_nodes
from fovea.features.passes import POOLINGS, cut, passes
from fovea.features.samples import Samples, samples_of
from fovea.graph.serialize import graph_to_dict
from fovea.model import Model

__all__ = ["POOLINGS", "Codes", "codes", "cut"]

Array = npt.NDArray[Any]


class Codes(dict[str, npt.NDArray[np.float32]]):
    """Codes by the name that was asked for: float32 N,D each. ``nodes``: which node of the network was taken for it."""

    def __init__(self, arrays: Mapping[str, Array], nodes: Mapping[str, str]) -> None:
        super().__init__(arrays)
        self.nodes = dict(nodes)

    @property
    def array(self) -> npt.NDArray[np.float32]:
        """The codes of the only layer that was asked for. Raises ConfigError when there are several."""
        if len(self) != 1:
            raise ConfigError("codes", f"expected one layer, got {', '.join(self)}; take one by its name")
        return next(iter(self.values()))


def codes(
    model: Model,
    samples: Any,
    layers: str | Sequence[str] | None = None,
    *,
    pooling: str = "mean",
    engine: str | Engine | None = None,
    batch_size: int | None = None,
    cache: bool = True,
) -> Codes:
    """Activations of layers as features of each sample, in order, of those that can be read: name -> float32 N,D.

    ``samples``: a split of a data set (``data.train``), uint8 images (N,H,W,C or a list of H,W,C), or paths; they go
    through the model's own preprocessing. ``layers``: names of nodes or scopes; a layer's code is taken behind the
    normalisation and activation that follow it, ``.nodes`` says at which node. None: what the last dense (or
    1x1-convolution) layer reads, the features that training put before the classifier.
    ``pooling`` of maps N,*spatial,C: their "mean" over all positions (N,C), "max", or "none" (flattened, in the order
    of the axes).

    One pass for any number of layers, through the part of the network that they need, piece by piece: memory does not
    grow with the number of samples but for the codes. ``cache``: keep them on disk and find them there, by the weights
    up to the layer, preprocessing and the contents of the files (see ``fovea.features.cache``).

    Raises ConfigError and GraphError for layers and options that make no sense, DataError for samples that cannot be
    read or do not fit the model. Source: Donahue et al. 2014, "DeCAF"; Razavian et al. 2014.

    >>> import fovea
    >>> model = fovea.models.lenet5(preprocessing=fovea.Preprocessing(size=(28, 28), channels=1))
    >>> images = np.zeros((5, 28, 28, 1), np.uint8)
    >>> {name: code.shape for name, code in codes(model, images, ["conv1", "dense1"], cache=False).items()}
    {'conv1': (5, 6), 'dense1': (5, 120)}
    """
    if not isinstance(model, Model):
        raise ConfigError("codes", f"expected a Model, got {type(model).__name__}; load one")
    if pooling not in POOLINGS:
        raise ConfigError("codes", f"expected pooling as one of {', '.join(POOLINGS)}, got {pooling!r}; choose one")
    if batch_size is not None and (isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1):
        raise ConfigError("codes", f"expected batch_size as an integer of at least 1, got {batch_size!r}; leave it out")
    asked, chosen = taken_nodes(model.graph, layers), get_engine(engine)
    wanted = list(dict.fromkeys(asked.values()))
    stream = samples_of(model, samples)
    keys = _keys(model, wanted, pooling, chosen, stream) if cache else {}
    found = {node: entry for node in wanted if cache and (entry := disk.read(keys[node])) is not None}
    if found:
        stream.settle(next(iter(found.values()))[1])
    arrays = {node: entry[0] for node, entry in found.items()}
    missing = [node for node in wanted if node not in found]
    if missing:
        arrays |= _computed(model, missing, pooling, chosen, batch_size, stream)
        for node in missing if cache else ():
            disk.write(keys[node], arrays[node], stream.readable)
    return Codes({name: arrays[node] for name, node in asked.items()}, asked)


def _computed(
    model: Model, nodes: list[str], pooling: str, engine: Engine, batch_size: int | None, stream: Samples
) -> dict[str, Array]:
    results: list[Array] = []
    done = 0
    for piece, values in passes(cut(model, nodes, pooling), stream, engine, batch_size):
        results = results or [np.empty((len(stream), value.shape[1]), np.float32) for value in values]
        for result, value in zip(results, values, strict=True):
            result[done : done + len(piece)] = value
        done += len(piece)
    arrays = {node: result[:done] for node, result in zip(nodes, results, strict=True)}
    for node, array in arrays.items():
        if not np.isfinite(array).all():
            raise NonFiniteError(node, "expected finite codes, got infinite ones or nan; the weights are broken")
    return arrays


def _keys(model: Model, nodes: list[str], pooling: str, engine: Engine, stream: Samples) -> dict[str, str]:
    """The cache key of each node: all that decides its codes."""
    contents = hashlib.sha256(b"".join(stream.digests())).hexdigest()
    scales = {} if model.quantization is None else model.quantization.scales
    tensors, digests, result = model.store.tensors(), dict[str, str](), {}
    for node in nodes:
        graph = cut(model, [node], pooling).graph
        for path in {**graph.parameters(), **graph.buffers()}:
            if path not in digests:
                scale = scales[path].tobytes() if path in scales else b""
                digests[path] = hashlib.sha256(tensors[path].tobytes() + scale).hexdigest()
        facts = {
            "fovea": fovea.__version__,
            "graph": graph_to_dict(graph),
            "tensors": {path: digests[path] for path in {**graph.parameters(), **graph.buffers()}},
            "preprocessing": None if stream.known is None else stream.known.to_dict(),
            "quantization": None if model.quantization is None else model.quantization.to_dict(),
            "computed": [engine.name, model.precision, pooling],
            "contents": [len(stream), contents],
        }
        result[node] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return result
