"""Class activation maps: a feature map's channels, weighted by what the gradient says of them, added up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.explain.backward_rules import guided_backprop
from fovea.explain.base import METHODS, Found, method
from fovea.explain.gradients import capacity_of, outputs_of
from fovea.explain.placing import enlarged
from fovea.explain.question import Question
from fovea.explain.sensitivity import strongest
from fovea.graph.graph import Ref

__all__ = ["grad_cam", "grad_cam_pp", "guided_grad_cam", "hires_cam", "layer_cam", "score_cam"]

Array = npt.NDArray[Any]


def _cam(question: Question, combine: Callable[[Array, Array], Array]) -> Found:
    """``combine(A, dS/dA)`` of the layer's output A, N,*positions,K -> maps N,*positions, placed over the input."""
    layer = question.layer
    assert layer is not None
    found = question.gradients(wrt=[layer], keep=[layer])
    return _placed(question, combine(found.kept[layer], found.wrt[layer]), found.scores)


def _placed(question: Question, maps: Array, scores: Array | None = None) -> Found:
    assert question.layer is not None
    return Found(enlarged(question.graph, question.layer, maps), maps, scores=scores)


def _positions(values: Array) -> tuple[int, ...]:
    """The axes of N,*positions,K between the first and the last."""
    return tuple(range(1, values.ndim - 1))


def _positive(values: Array) -> Array:
    return np.maximum(values, 0)


@method("Grad-CAM", needs_layer=True, signed=False)
def grad_cam(question: Question) -> Found:
    """``max(0, sum_k w_k A_k)`` with ``w_k`` the mean of ``dS/dA_k`` over all positions.

    ``raw``: N,*positions of the layer. Source: Selvaraju et al. 2017, equations 1 and 2.
    """
    return _cam(question, lambda a, g: _positive(np.einsum("n...k,nk->n...", a, g.mean(_positions(g)))))


@method("HiResCAM", needs_layer=True)
def hires_cam(question: Question) -> Found:
    """``sum_k A_k dS/dA_k`` at each position, signed; ``raw``: N,*positions of the layer.

    Where a linear layer on the flattened or averaged map gives the score, it is what each position adds to it.
    Source: Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM", equation 3.
    """
    return _cam(question, lambda a, g: np.einsum("n...k,n...k->n...", a, g))


@method("Layer-CAM", needs_layer=True, signed=False)
def layer_cam(question: Question) -> Found:
    """``max(0, sum_k A_k max(0, dS/dA_k))``: weights by position, so that early layers give fine maps.

    ``raw``: N,*positions.

    Source: Jiang et al. 2021, "LayerCAM", equations 6 to 8.
    """
    return _cam(question, lambda a, g: _positive(np.einsum("n...k,n...k->n...", a, _positive(g))))


@method("Grad-CAM++", needs_layer=True, signed=False)
def grad_cam_pp(question: Question) -> Found:
    """``max(0, sum_k w_k A_k)``, ``w_k = sum_ij a_kij max(0, g_kij)``, ``a = g^2 / (2 g^2 + sum_ab A_kab g^3)``.

    With g = dS/dA; the exponential of the paper's score cancels. ``raw``: N,*positions of the layer.
    Source: Chattopadhay et al. 2018, equations 5, 6 and 19.
    """

    def combine(a: Array, g: Array) -> Array:
        below = 2 * g**2 + a.sum(_positions(a), keepdims=True) * g**3
        share = np.divide(g**2, below, out=np.zeros_like(g), where=np.abs(below) > 1e-12)
        return _positive(np.einsum("n...k,nk->n...", a, (share * _positive(g)).sum(_positions(g))))

    return _cam(question, combine)


@method("Score-CAM", needs_layer=True, needs_gradients=False, score="probability", signed=False)
def score_cam(question: Question) -> Found:
    """``max(0, sum_k w_k A_k)``: w is the softmax over k of the score of the image seen through channel k.

    The image is multiplied by the channel, enlarged and stretched to 0..1; what is hidden is zero in network input. As
    many forward passes as channels, in batches. ``raw``: N,*positions of the layer. Source: Wang et al. 2020,
    section 3.
    """
    layer, x = question.layer, question.x
    assert layer is not None
    kept = outputs_of(question.model, x, Ref(layer), question.engine)
    maps = np.empty(kept.shape[:-1], np.float32)
    for i, activations in enumerate(kept):
        channels = np.moveaxis(activations, -1, 0)
        scores = np.zeros(len(channels))
        varied = np.flatnonzero(np.ptp(channels.reshape(len(channels), -1), axis=1) > 0)
        room = capacity_of(question.model, x.shape[1:], len(varied), backward=False)
        for start in range(0, len(varied), room):
            chosen = varied[start : start + room]
            seen = enlarged(question.graph, layer, channels[chosen])
            axes = tuple(range(1, seen.ndim))
            low, high = seen.min(axes, keepdims=True), seen.max(axes, keepdims=True)
            scores[chosen] = question.score(x[i] * ((seen - low) / (high - low))[..., None], i, room)
        weights = np.zeros(len(channels))
        shares = np.exp(scores[varied] - scores[varied].max(initial=-np.inf))
        weights[varied] = shares / max(shares.sum(), 1e-30)
        maps[i] = _positive(activations @ weights.astype(np.float32))
    return _placed(question, maps)


@method("guided Grad-CAM", needs_layer=True, signed=False, fails_randomisation=True)
def guided_grad_cam(question: Question) -> Found:
    """Guided backpropagation times Grad-CAM, N,*spatial,C; ``values`` its largest absolute value over the channels.

    Source: Selvaraju et al. 2017, section 3.2.
    """
    guided = METHODS[guided_backprop.__name__].core(question)
    raw = guided.raw * METHODS[grad_cam.__name__].core(question).values[..., None]
    return Found(strongest(raw), raw, guided.notes, guided.scores)
