"""Parameters, MACs, shapes and receptive fields of the zoo, by shape inference alone, against published figures."""

from __future__ import annotations

import pytest

from fovea import models
from fovea.graph.receptive import receptive_fields
from fovea.graph.summary import summarize
from fovea.ops import Dense, MaxPool
from fovea.ops.window import ReceptiveField

# Parameters and MACs (both for the default input and classes) as torchvision 0.2x reports them for its models of these
# names; the CIFAR networks' counts are those of the paper's layer table (section 4.2) written out.
PUBLISHED = {
    "alexnet": (61_100_840, 0.714e9),
    "convnext_tiny": (28_589_128, 4.456e9),
    "densenet121": (7_978_856, 2.834e9),
    "efficientnet_b0": (5_288_548, 0.386e9),
    "googlenet": (6_624_904, 1.498e9),
    "lenet5": (61_706, 416_520),
    "mobilenetv2": (3_504_872, 300.8e6),
    "mobilenetv3_large": (5_483_032, 216.6e6),
    "mobilenetv3_small": (2_542_856, 56.5e6),
    "resnet18": (11_689_512, 1.814e9),
    "resnet20": (269_722, 40.55e6),
    "resnet32": (464_154, 68.86e6),
    "resnet34": (21_797_672, 3.664e9),
    "resnet50": (25_557_032, 4.089e9),
    "resnet56": (853_018, 125.5e6),
    "shufflenetv2": (2_278_604, 144.9e6),
    "squeezenet": (1_248_424, 0.819e9),
    "vgg11": (132_863_336, 7.609e9),
    "vgg16": (138_357_544, 15.47e9),
    "vgg19": (143_667_240, 19.632e9),
}


@pytest.mark.parametrize("name", models.names("classification"))
def test_parameters_are_those_of_the_record(name: str) -> None:
    record = models.architecture(name)
    graph = record.graph()
    assert summarize(graph).totals["parameters"] == record.parameters
    assert graph.output_shapes == ((record.num_classes,),)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name: str) -> None:
    parameters, macs = PUBLISHED[name]
    totals = summarize(models.architecture(name).graph()).totals
    assert totals["parameters"] == parameters
    assert totals["macs"] == pytest.approx(macs, rel=5e-4)  # published to three or four digits


def test_projection_shortcuts_add_two_convolutions_and_norms() -> None:
    totals = summarize(models.resnet20.graph(shortcut="projection")).totals
    assert totals["parameters"] == 272_474
    assert totals["parameters"] - 269_722 == (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)


def test_lenet5_layer_by_layer() -> None:
    rows = {row["name"]: row for row in summarize(models.lenet5.graph()).rows}
    sizes = {name: row["output_shape"] for name, row in rows.items() if row["op"] in ("Conv", "MaxPool", "Dense")}
    assert sizes == {
        "conv1": [28, 28, 6],
        "maxpool1": [14, 14, 6],
        "conv2": [10, 10, 16],
        "maxpool2": [5, 5, 16],
        "dense1": [120],
        "dense2": [84],
        "dense3": [10],
    }
    counts = {name: row["parameters"] for name, row in rows.items() if row["parameters"]}
    assert counts == {"conv1": 156, "conv2": 2_416, "dense1": 48_120, "dense2": 10_164, "dense3": 850}


def test_the_course_notes_dense_layer() -> None:
    # 128 x 128 x 3 values, 1,000 units: 49,152 x 1,000 weights
    assert Dense(1000, use_bias=False).parameters((49_152,))["weight"].size == 49_152_000
    graph = models.mlp.graph(num_classes=2, input_shape=(128, 128, 3), hidden=(1000,))
    assert graph.shape("flatten1") == (49_152,)
    assert graph.parameters()["dense1.weight"].size == 49_152_000


def test_the_course_notes_pooling_halves_space_and_keeps_depth() -> None:
    assert MaxPool(2).output_shapes((256, 256, 64)) == ((128, 128, 64),)
    assert MaxPool(2).parameters((256, 256, 64)) == {}


def test_pooling_shrinks_the_dense_layers_behind_it() -> None:
    # What the course notes call fewer parameters: none in the pooling layer, fewer in the dense layer after it.
    assert Dense(10, use_bias=False).parameters((256 * 256 * 64,))["weight"].size == 41_943_040
    assert Dense(10, use_bias=False).parameters((128 * 128 * 64,))["weight"].size == 10_485_760


# Size and jump of the field of one element of the last feature map, as in Araujo et al. 2019, table 1 (alexnet and
# vgg16). Their resnet50 has 483: its strides stand at the 1x1 convolutions, so that the 3x3 of three blocks reach twice
# as far: 483 - 2 x (4 + 8 + 16) = 427. lenet5 and vgg_small by hand.
FIELDS = {
    "alexnet": ("features.maxpool3", 195, 32),
    "lenet5": ("maxpool2", 16, 4),
    "resnet50": ("stage4.block2.relu3", 427, 32),
    "vgg16": ("stage5.maxpool1", 212, 32),
    "vgg_small": ("stage3.maxpool1", 36, 8),
}


@pytest.mark.parametrize("name", FIELDS)
def test_receptive_field(name: str) -> None:
    node, size, jump = FIELDS[name]
    fields = receptive_fields(models.architecture(name).graph())[node]
    assert fields is not None
    assert [(field.size, field.jump) for field in fields] == [(size, jump), (size, jump)]


def test_receptive_field_goes_through_shortcuts() -> None:
    fields = receptive_fields(models.resnet20.graph())
    # stem 3x3, then six 3x3 convolutions at jump 1: 1 + 2 x 7 = 15, centred
    assert fields["stage1.block2.relu2"] == (ReceptiveField(15, 1, -7), ReceptiveField(15, 1, -7))


def test_any_number_of_classes_and_size() -> None:
    graph = models.resnet18.graph(num_classes=3, input_shape=(None, None, 1))
    assert graph.output_shapes == ((3,),)
    assert graph.at((65, 97, 1)).shape("stage4.block1.relu2") == (3, 4, 512)
    assert models.vgg11.graph(5, (None, None, 3)).parameters()["head.dense1.weight"].shape == (25_088, 4096)
    assert models.squeezenet.graph(7).parameters()["head.conv1.weight"].shape == (1, 1, 512, 7)


@pytest.mark.parametrize(
    ("name", "shape", "last"),
    [
        ("small_cnn", (8, 8, 1), (2, 2, 64)),
        ("small_cnn", (28, 28, 1), (3, 3, 128)),
        ("small_cnn", (128, 128, 3), (4, 4, 256)),
        ("small_cnn", (32, 4, 3), (4, 1, 128)),
        ("conv1d", (8000, 1), (7, 128)),
        ("conv1d", (128, 6), (8, 64)),
        ("conv3d", (24, 24, 24, 1), (3, 3, 3, 64)),
        ("conv3d", (8, 64, 64, 3), (1, 4, 4, 128)),
    ],
)
def test_depth_follows_the_input(name: str, shape: tuple[int, ...], last: tuple[int, ...]) -> None:
    graph = models.architecture(name).graph(4, shape)
    cube = name == "conv3d" and max(shape[:-1]) <= 32  # about one voxel: the head sees where a feature lies
    assert graph.node("head.flatten1" if cube else "head.globalavgpool1").input_shapes == (last,)
    assert graph.output_shapes == ((4,),)


def test_small_networks_leave_sizes_open() -> None:
    graph = models.small_cnn.graph(2, (None, None, 3))
    assert graph.output_shapes == ((2,),)
    assert graph.at((100, 60, 3)).output_shapes == ((2,),)
