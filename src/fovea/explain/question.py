"""One question to a network: these samples, as it sees them, and what is to be explained of each."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.given import as_samples
from fovea.data.preprocess import SPATIAL_AXES
from fovea.errors import ConfigError, DataError, EngineError, ShapeError
from fovea.explain.base import Method
from fovea.explain.gradients import PLAIN, Gradients, Variant, closed, gradients, outputs_of
from fovea.explain.layers import chosen_layer, shared_layer
from fovea.explain.target import Score, default_score, scores_of
from fovea.graph.graph import Graph, Ref
from fovea.model import Model

__all__ = ["Question", "ask", "seen_samples"]

Array = npt.NDArray[Any]
_LAYOUTS = {2: "T,C", 3: "H,W,C", 4: "D,H,W,C"}


@dataclass(frozen=True, eq=False)
class Question:
    """What a method's function is given.

    ``seen``: samples N,*spatial,C as the network saw them, before the pixel half: uint8 images and clips, float32
    signals and volumes. ``x``: network input N,*spatial,C, float32. ``scores``: one for each
    sample, all of one node. ``layer``: of a method that needs one. ``graph``: the model's, at this size. ``outputs``: a
    node's output for ``x``, computed once.
    """

    model: Model
    graph: Graph
    seen: Array
    x: npt.NDArray[np.float32]
    scores: Sequence[Score]
    layer: str | None
    engine: str | None
    outputs: Callable[[Ref], Array]

    @functools.cached_property
    def values(self) -> Array:
        """The scores of ``x``: N."""
        outputs = self.outputs(self.scores[0].node)
        return np.array([one.values(outputs[i : i + 1])[0] for i, one in enumerate(self.scores)])

    def gradients(
        self, x: Array | None = None, scores: Sequence[Score] | None = None, wrt: Sequence[str] = (), *,
        keep: Sequence[str] = (), variant: Variant = PLAIN, room: int | None = None,
    ) -> Gradients:  # fmt: skip
        """Gradients of the scores, of these inputs or others; a single score holds for all of them."""
        return gradients(
            self.model, self.x if x is None else x, self.scores if scores is None else scores, wrt,
            keep=keep, engine=self.engine, variant=variant, room=room,
        )  # fmt: skip

    def input_gradients(
        self, x: Array | None = None, scores: Sequence[Score] | None = None, *, variant: Variant = PLAIN,
        room: int | None = None,
    ) -> tuple[Array, Array]:  # fmt: skip
        """Scores N and their gradients with respect to the network's input N,*spatial,C."""
        found = self.gradients(x, scores, variant=variant, room=room)
        return found.scores, found.wrt[self.graph.inputs[0]]

    def score(self, x: Array, index: int, room: int | None = None) -> Array:
        """The score of sample ``index`` for other inputs N,*spatial,C -> N."""
        one = self.scores[index]
        return np.asarray(one.values(outputs_of(self.model, x, one.node, self.engine, room)))

    def pixels(self, samples: Array) -> npt.NDArray[np.float32]:
        """Samples as the network saw them -> network input: the baseline "black" is that of zeros."""
        known = self.model.preprocessing
        return np.asarray(samples, np.float32) if known is None else known.apply_pixels(samples)


def ask(
    model: Model, images: Any, method: Method, targets: Any, layer: str | None, score: str | None, engine: str | None
) -> Question:
    """Read the samples, resolve targets and layer; ``score`` None: the method's own. Raises the errors of
    ``attributions``."""
    if not isinstance(model, Model):
        raise ConfigError("explain", f"expected a Model, got {type(model).__name__}; load one with fovea.load")
    if method.needs_gradients and model.quantization is not None:
        raise EngineError(
            method.name, "expected a network with gradients, got one quantised to int8; explain the float32 model that "
            "it was made from, or use occlusion or rise",
        )  # fmt: skip
    if layer is not None and not method.needs_layer:
        raise ConfigError(method.name, f"expected no layer, got {layer!r}: it explains the input; leave it out")
    seen, x = seen_samples(model, images)
    graph = closed(model, tuple(x.shape[1:]))
    given = list(targets) if isinstance(targets, list) else [targets] * len(x)
    if len(given) != len(x):
        raise ConfigError("explain", f"expected a target for each of {len(x)} samples, got {len(given)}; give as many")

    @functools.cache
    def outputs(node: Ref) -> Array:
        return outputs_of(model, x, node, engine)

    scores = scores_of(model, given, score or default_score(model, method.score), outputs, graph.shape)
    if any(one.node != scores[0].node for one in scores):
        raise ConfigError("explain", "expected targets of one node, got several; explain them one after the other")
    if layer is None and scores[0].box is not None:
        sides = graph.outputs[graph.outputs.index(scores[0].node) + len(graph.outputs) // 2]
        layer = shared_layer(graph, scores[0].node, sides) if method.needs_layer else None
    at = chosen_layer(graph, scores[0].node, layer, method.name) if method.needs_layer else None
    return Question(model, graph, seen, x, scores, at, engine, outputs)


def seen_samples(model: Model, samples: Any) -> tuple[Array, npt.NDArray[np.float32]]:
    """Samples as the network saw them, N,*spatial,C (``Preprocessing.dtype``), and its input, float32 N,*spatial,C.

    ``samples``: paths or arrays *spatial,C (images and clips uint8), or an array N,*spatial,C. A model without
    preprocessing takes float32 network input; what is shown of an image is stretched to 0..255, signals and volumes are
    shown as they are. Raises DataError for what cannot be read or is of another kind.
    """
    shapes = model.graph.input_shapes
    if len(shapes) != 1 or len(shapes[0]) - 1 not in SPATIAL_AXES.values():
        raise ShapeError(
            "explain", f"expected a network with one input N,H,W,C, or N,T,C or N,D,H,W,C, got {shapes}; explain "
            "images, signals or volumes",
        )  # fmt: skip
    known = model.preprocessing
    if isinstance(samples, (str, os.PathLike)):
        samples = [samples]
    if len(samples) == 0:
        raise DataError("explain", "expected at least one sample, got none; give a path or an array")
    if known is None:
        x = np.stack([_network_input(sample, len(shapes[0])) for sample in samples])
        return _shown(x) if x.ndim == 4 else x, x
    seen = known.apply_spatial(as_samples(samples if isinstance(samples, np.ndarray) else list(samples), known))
    return seen, np.ascontiguousarray(known.apply_pixels(seen))


def _network_input(image: Any, axes: int) -> npt.NDArray[np.float32]:
    if isinstance(image, (str, os.PathLike)):
        raise DataError(
            "explain", f"expected a model that knows its preprocessing for the file {os.fspath(image)}, got one "
            "without; import it with --preprocess, or set model.preprocessing",
        )  # fmt: skip
    if not isinstance(image, np.ndarray) or image.ndim != axes or image.dtype.kind not in "f":
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise DataError(
            "explain", f"expected network input as a float32 array {_LAYOUTS[axes]}, since the model knows no "
            f"preprocessing, got {got}; set model.preprocessing",
        )  # fmt: skip
    return image.astype(np.float32)


def _shown(x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    axes = tuple(range(1, x.ndim))
    low, high = x.min(axes, keepdims=True), x.max(axes, keepdims=True)
    grey = np.round((x - low) / np.maximum(high - low, 1e-12) * 255).astype(np.uint8)
    shown: npt.NDArray[np.uint8] = grey if x.shape[-1] in (1, 3) else grey.mean(-1, keepdims=True).astype(np.uint8)
    return shown
