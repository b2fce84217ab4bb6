"""What is measured: a method of attribution, and maps that know little or nothing of the network, to compare with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.explain.base import Method, attributions
from fovea.explain.gradients import outputs_of
from fovea.explain.layers import default_layer
from fovea.explain.placing import enlarged
from fovea.explain.question import Question, seen_samples
from fovea.graph.graph import Ref
from fovea.model import Model

__all__ = ["Explainer", "baselines", "blob", "edges", "layer_of", "of_method", "random_cam"]

Array = npt.NDArray[Any]
_STEPS = 32
Maps = Callable[[Model, Sequence[Array]], Array]


@dataclass(frozen=True, eq=False)
class Explainer:
    """``maps(model, images)``: images as the network sees them -> maps N,*spatial. ``sees_weights``:
    whether they depend on the network at all."""

    name: str
    title: str
    maps: Maps
    sees_weights: bool = True


def of_method(method: Method, layer: str | None, target: Any, options: dict[str, Any]) -> Explainer:
    """A method with a fixed target and layer, whatever the weights.

    Integrated gradients take a fixed number of steps unless options say otherwise: random networks have kinks without
    end, and a gap of 0.1 %, which costs thousands of steps there, is not what is compared.
    """
    if "tolerance" in method.options and "tolerance" not in options:
        options = {"steps": _STEPS, **options, "tolerance": None}

    def maps(model: Model, images: Sequence[Array]) -> Array:
        found = attributions(model, list(images), method.name, [target] * len(images), layer, **options)
        return np.stack([one.values for one in found])

    return Explainer(method.name, method.title, maps)


def layer_of(question: Question) -> str | None:
    """The layer of the random CAM: the method's, or the default one; None where there is no such map."""
    return question.layer or default_layer(question.graph, question.scores[0].node)


def baselines(question: Question, seed: int) -> tuple[Explainer, ...]:
    """An edge detector, a random CAM of the method's layer (or the default one), a blob in the middle."""
    layer = layer_of(question)
    what = "image" if question.seen.ndim == 4 else "sample"
    found = [Explainer("edges", f"edges of the {what}", lambda model, images: edges(images), False)]
    if layer is not None:
        chosen = layer

        def maps(model: Model, images: Sequence[Array]) -> Array:
            return random_cam(model, images, chosen, seed, question.engine)

        found.append(Explainer("random_cam", "random CAM", maps))
    found.append(Explainer("blob", "blob in the middle", lambda model, images: blob(images), False))
    return tuple(found)


def edges(images: Sequence[Array]) -> npt.NDArray[np.float32]:
    """Sobel's gradient magnitude of the mean over the channels, N,*spatial: differences along one axis, smoothed along
    the others; borders are repeated."""
    grey = np.stack([image.astype(np.float64).mean(-1) for image in images])
    padded = np.pad(grey, ((0, 0), *((1, 1),) * (grey.ndim - 1)), mode="edge")
    axes = range(1, grey.ndim)
    slopes = [functools.reduce(functools.partial(_taps, across=one), axes, padded) for one in axes]
    return np.asarray(np.abs(functools.reduce(np.hypot, slopes)), np.float32)


def _taps(values: Array, axis: int, across: int) -> Array:
    """1, 2, 1 along the axis, or -1, 0, 1 where it is ``across``; two values shorter."""
    before, middle, after = (np.moveaxis(values, axis, -1)[..., at : values.shape[axis] - 2 + at] for at in range(3))
    return np.moveaxis(after - before if axis == across else before + 2 * middle + after, -1, axis)


def blob(images: Sequence[Array]) -> npt.NDArray[np.float32]:
    """A Gaussian in the middle, a quarter of each side wide, N,*spatial: what a photographer's habit alone
    would say."""
    squares = [((np.arange(side) + 0.5 - side / 2) / (side / 4)) ** 2 for side in images[0].shape[:-1]]
    one = np.exp(-functools.reduce(np.add.outer, squares) / 2).astype(np.float32)
    return np.repeat(one[None], len(images), axis=0)


def random_cam(
    model: Model, images: Sequence[Array], layer: str, seed: int, engine: str | None
) -> npt.NDArray[np.float32]:
    """``max(0, sum_k w_k A_k)`` with random w: a CAM without the gradient, from the same feature maps, N,*spatial.
    Where all of it would be below 0, w is turned around."""
    _, x = seen_samples(model, list(images))
    maps = outputs_of(model, x, Ref(layer), engine)
    weights = random.normal(random.key(seed, "random cam"), maps.shape[-1])
    field = maps @ weights
    empty = (field <= 0).reshape(len(field), -1).all(axis=1)
    field = np.where(empty.reshape(-1, *(1,) * (field.ndim - 1)), -field, field)
    return enlarged(model.graph.at(tuple(x.shape[1:])), layer, np.maximum(field, 0))
