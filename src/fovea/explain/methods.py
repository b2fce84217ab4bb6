"""All methods of attribution, and the order in which a person meets them."""

from __future__ import annotations

from fovea.explain.backward_rules import deconvnet, guided_backprop
from fovea.explain.base import METHODS, Method
from fovea.explain.cam import grad_cam, grad_cam_pp, guided_grad_cam, hires_cam, layer_cam, score_cam
from fovea.explain.deeplift import deeplift
from fovea.explain.integrated import integrated_gradients
from fovea.explain.layers import default_layer
from fovea.explain.lrp import lrp_epsilon, lrp_gamma, lrp_z_plus
from fovea.explain.occluded import occlusion
from fovea.explain.rise import rise
from fovea.explain.sensitivity import gradient, gradient_x_input, smoothgrad, vargrad
from fovea.explain.target import scored_node
from fovea.model import Model
from fovea.tasks.detect.task import Detection

__all__ = [
    "deconvnet",
    "deeplift",
    "default_method",
    "grad_cam",
    "grad_cam_pp",
    "gradient",
    "gradient_x_input",
    "guided_backprop",
    "guided_grad_cam",
    "hires_cam",
    "integrated_gradients",
    "layer_cam",
    "lrp_epsilon",
    "lrp_gamma",
    "lrp_z_plus",
    "occlusion",
    "rise",
    "score_cam",
    "smoothgrad",
    "vargrad",
]

_ORDER = (
    "grad_cam", "hires_cam", "layer_cam", "grad_cam_pp", "score_cam", "gradient", "gradient_x_input", "smoothgrad",
    "vargrad", "integrated_gradients", "deeplift", "lrp_epsilon", "lrp_gamma", "lrp_z_plus", "occlusion", "rise",
    "deconvnet", "guided_backprop", "guided_grad_cam",
)  # fmt: skip
for _name in _ORDER:
    METHODS[_name] = METHODS.pop(_name)


def default_method(model: Model) -> Method:
    """Grad-CAM; Layer-CAM of a detector, whose boxes have a place; integrated gradients where no convolution leaves a
    map with space; occlusion of an int8 network."""
    if model.quantization is not None:
        return METHODS["occlusion"]
    if len(model.graph.inputs) != 1:
        return METHODS["grad_cam"]  # which says that it needs one input
    node, size = scored_node(model), model.preprocessing.size if model.preprocessing is not None else None
    shape = model.graph.input_shapes[0]
    sizes = size or (256,) * (len(shape) - 1)  # an open size: whether there is a map does not depend on it
    closed = model.graph.at(tuple(known or one for known, one in zip(shape, (*sizes, shape[-1]), strict=True)))
    if not default_layer(closed, node):
        return METHODS["integrated_gradients"]
    return METHODS["layer_cam" if isinstance(model.task, Detection) else "grad_cam"]
