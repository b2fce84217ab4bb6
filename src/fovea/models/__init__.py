"""The model zoo: ``fovea.models.NAME(num_classes=, input_shape=, weights=, seed=, ...)`` gives a fovea.Model.

>>> import fovea
>>> fovea.models.lenet5(num_classes=10).summary().totals["parameters"]
61706
"""

from fovea.models.alexnet import alexnet
from fovea.models.convnext import convnext_tiny
from fovea.models.default import default_for
from fovea.models.densenet import densenet121
from fovea.models.detector import detector, detector_medium, detector_nano, detector_small
from fovea.models.googlenet import googlenet
from fovea.models.lenet import lenet5
from fovea.models.mlp import mlp
from fovea.models.mobilenet import mobilenetv2
from fovea.models.packaged import default_weights
from fovea.models.registry import Architecture, architecture, create, names
from fovea.models.resnet import resnet18, resnet34, resnet50
from fovea.models.resnet_cifar import resnet20, resnet32, resnet56
from fovea.models.shufflenet import shufflenetv2
from fovea.models.small import conv1d, conv3d, small_cnn
from fovea.models.squeeze_excite import efficientnet_b0, mobilenetv3_large, mobilenetv3_small
from fovea.models.squeezenet import squeezenet
from fovea.models.vgg import vgg11, vgg16, vgg19, vgg_small

__all__ = [
    "Architecture",
    "alexnet",
    "architecture",
    "conv1d",
    "conv3d",
    "convnext_tiny",
    "create",
    "default_for",
    "default_weights",
    "densenet121",
    "detector",
    "detector_medium",
    "detector_nano",
    "detector_small",
    "efficientnet_b0",
    "googlenet",
    "lenet5",
    "mlp",
    "mobilenetv2",
    "mobilenetv3_large",
    "mobilenetv3_small",
    "names",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet50",
    "resnet56",
    "shufflenetv2",
    "small_cnn",
    "squeezenet",
    "vgg11",
    "vgg16",
    "vgg19",
    "vgg_small",
]
