"""Looking into a trained network: what it looks at in an image, where it sees a class, what a number is made of.

Attribution: ``fn(model, image, target=None, layer=None) -> Attribution`` for every method in ``METHODS``;
``attributions`` for several images at once; ``gradient_of`` for the gradient of any number with respect to any node.
``trust`` measures whether to believe a map. ``layer_arithmetic`` works one number of a layer out, forward and backward;
``shift_curve`` says what moving the image does.

What a layer has learned: ``activations`` and ``filters`` as they are; ``channel_statistics``, ``exciting`` and
``embed`` over data; ``maximise``, ``deep_dream``, ``invert`` by making images; ``adversarial``, ``fooling``.
"""

from __future__ import annotations

from fovea.explain.arithmetic import LayerArithmetic, layer_arithmetic
from fovea.explain.attacks import Adversarial, adversarial, fooling
from fovea.explain.base import METHODS, Attribution, Method, attributions, find_method
from fovea.explain.boxes import Box
from fovea.explain.channels import ChannelStatistics, channel_statistics
from fovea.explain.class_maps import ClassMap, class_map, fully_convolutional
from fovea.explain.embedding import Embedding, embed
from fovea.explain.gradients import gradient_of
from fovea.explain.layers import default_layer, layers_with_space
from fovea.explain.maps import activations
from fovea.explain.methods import (
    deconvnet,
    deeplift,
    default_method,
    grad_cam,
    grad_cam_pp,
    gradient,
    gradient_x_input,
    guided_backprop,
    guided_grad_cam,
    hires_cam,
    integrated_gradients,
    layer_cam,
    lrp_epsilon,
    lrp_gamma,
    lrp_z_plus,
    occlusion,
    rise,
    score_cam,
    smoothgrad,
    vargrad,
)
from fovea.explain.patches import Exciting, exciting
from fovea.explain.shift import ShiftCurve, shift_curve
from fovea.explain.trusting import TrustReport, trust, trusts
from fovea.explain.visualise import Dream, Inversion, Visualisation, deep_dream, invert, maximise
from fovea.explain.weights import Filters, filters

__all__ = [
    "METHODS",
    "Adversarial",
    "Attribution",
    "Box",
    "ChannelStatistics",
    "ClassMap",
    "Dream",
    "Embedding",
    "Exciting",
    "Filters",
    "Inversion",
    "LayerArithmetic",
    "Method",
    "ShiftCurve",
    "TrustReport",
    "Visualisation",
    "activations",
    "adversarial",
    "attributions",
    "channel_statistics",
    "class_map",
    "deconvnet",
    "deep_dream",
    "deeplift",
    "default_layer",
    "default_method",
    "embed",
    "exciting",
    "filters",
    "find_method",
    "fooling",
    "fully_convolutional",
    "grad_cam",
    "grad_cam_pp",
    "gradient",
    "gradient_of",
    "gradient_x_input",
    "guided_backprop",
    "guided_grad_cam",
    "hires_cam",
    "integrated_gradients",
    "invert",
    "layer_arithmetic",
    "layer_cam",
    "layers_with_space",
    "lrp_epsilon",
    "lrp_gamma",
    "lrp_z_plus",
    "maximise",
    "occlusion",
    "rise",
    "score_cam",
    "shift_curve",
    "smoothgrad",
    "trust",
    "trusts",
    "vargrad",
]
