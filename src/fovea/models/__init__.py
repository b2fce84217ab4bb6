"""The model zoo: ``fovea.models.NAME(num_classes=, input_shape=, weights=, seed=, ...)`` gives a fovea.Model.

>>> import fovea
>>> fovea.models.lenet5(num_classes=10).summary().totals["parameters"]
61706
"""

from fovea.models.alexnet import alexnet
from fovea.models.default import default_for
from fovea.models.lenet import lenet5
from fovea.models.mlp import mlp
from fovea.models.mobilenet import mobilenetv2
from fovea.models.registry import Architecture, architecture, create, names
from fovea.models.resnet import resnet18, resnet34, resnet50
from fovea.models.resnet_cifar import resnet20, resnet32, resnet56
from fovea.models.small import conv1d, conv3d, small_cnn
from fovea.models.squeezenet import squeezenet
from fovea.models.vgg import vgg11, vgg16, vgg_small

__all__ = [
    "Architecture",
    "alexnet",
    "architecture",
    "conv1d",
    "conv3d",
    "create",
    "default_for",
    "lenet5",
    "mlp",
    "mobilenetv2",
    "names",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet50",
    "resnet56",
    "small_cnn",
    "squeezenet",
    "vgg11",
    "vgg16",
    "vgg_small",
]
