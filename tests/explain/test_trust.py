"""Trust: each measure by hand, the verdicts on a trained network, and what it refuses."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import fovea
from fovea.errors import FoveaError
from fovea.explain import TrustReport, trust, trusts
from fovea.explain.base import METHODS
from fovea.explain.question import ask
from fovea.explain.trusting.causal import area, insertion_deletion, order_of
from fovea.explain.trusting.explainers import Explainer, blob, edges, of_method, random_cam
from fovea.explain.trusting.localise import box_mask, localisation
from fovea.explain.trusting.randomise import cascade, layers_from_the_top
from fovea.explain.trusting.similarity import rank_correlation, similarities, structural_similarity
from fovea.explain.trusting.stability import max_sensitivity, neighbours
from fovea.graph.graph import Ref
from fovea.report.trust import trust_picture
from tests.interop.test_onnx_boxes import photo, random_detector

RNG = np.random.default_rng(8)


# --- similarity


def test_rank_correlation_by_hand() -> None:
    assert rank_correlation(np.array([1, 2, 3]), np.array([10, 20, 500])) == pytest.approx(1)
    assert rank_correlation(np.array([1, 2, 3]), np.array([3, 2, 1])) == pytest.approx(-1)
    # ranks 1 2 3 4 and 1.5 1.5 3.5 3.5: covariance 4, variances 5 and 4
    assert rank_correlation(np.array([1, 2, 3, 4]), np.array([0, 0, 7, 7])) == pytest.approx(4 / 20**0.5)
    assert rank_correlation(np.array([1, 2, 3]), np.zeros(3)) == 0


def test_similarity_of_a_map_with_itself_and_its_negative() -> None:
    values = RNG.normal(size=(15, 12))
    assert similarities(values, values) == pytest.approx((1, 1, 1, 1))
    turned = similarities(values, -3 * values)  # size does not count, the sign does
    assert turned[0] == turned[2] == pytest.approx(1)
    assert turned[1] == pytest.approx(-1)
    assert turned[3] < -0.5


def test_structural_similarity_of_constants_is_its_first_factor() -> None:
    a, b = np.full((11, 11), 0.5), np.full((11, 11), 0.25)
    assert structural_similarity(a, b, 1.0) == pytest.approx((2 * 0.125 + 1e-4) / (0.25 + 0.0625 + 1e-4))
    assert structural_similarity(a[:4, :6], a[:4, :6], 1.0) == pytest.approx(1)  # smaller than the window


# --- insertion, deletion, localisation, sensitivity


def two_pixels() -> tuple[fovea.Model, np.ndarray]:
    """A network whose logit is the sum of two pixels, against 0; and an image where these are 2 and 3."""
    model = fovea.Model(fovea.Sequential(fovea.Flatten(), fovea.Dense(2)), input_shape=(4, 4, 1))
    weight = np.zeros((16, 2), np.float32)
    weight[[5, 10], 0] = 1
    model.store.load({"dense1.weight": weight, "dense1.bias": [0, 0]})
    image = np.ones((4, 4, 1), np.float32)
    image[1, 1], image[2, 2] = 2, 3
    return model, image


def test_insertion_and_deletion_by_hand() -> None:
    model, image = two_pixels()
    question = ask(model, [image], METHODS["gradient"], [0], None, "probability", None)
    values = np.zeros((4, 4))
    values[2, 2], values[1, 1] = 9, 8  # the right two first
    found = insertion_deletion(question, values, 16, seed=0)
    p5, p2, p3, half = (float(1 / (1 + np.exp(-z))) for z in (5, 2, 3, 0))
    assert found.deletion == pytest.approx([p5, p2] + [half] * 15, abs=1e-6)
    assert found.insertion == pytest.approx([half, p3] + [p5] * 15, abs=1e-6)
    assert found.deletion_auc == pytest.approx(((p5 + p2) / 2 + (p2 + half) / 2 + 14 * half) / 16, abs=1e-6)
    worst = insertion_deletion(question, -values, 16, seed=0)
    assert worst.deletion_auc > found.deletion_auc
    assert worst.insertion_auc < found.insertion_auc


def test_orders_and_areas() -> None:
    assert order_of(np.array([[1, 5], [3, 2]]), 0).tolist() == [1, 2, 3, 0]
    tied = order_of(np.zeros((4, 4)), 0)
    assert sorted(tied.tolist()) == list(range(16))
    assert tied.tolist() != list(range(16))
    assert tied.tolist() == order_of(np.zeros((4, 4)), 0).tolist()
    assert area(np.array([1.0, 0.0, 0.0])) == 0.25


def test_localisation_by_hand() -> None:
    values = np.array([[5.0, 1, 0], [2, -9, 0], [0, 0, 2]])
    mask = np.array([[True, True, False], [False, True, False], [False, False, False]])
    found = localisation(values, mask)
    assert found.pointing == 1
    assert found.mass == pytest.approx(6 / 10)  # negative values do not count
    assert found.rank == pytest.approx(1 / 3)  # the three highest are 5, 2, 2
    assert found.area == pytest.approx(3 / 9)
    assert localisation(-values, mask)[:1] == (1.0,)
    assert localisation(np.zeros((3, 3)), mask).mass == 0


def test_boxes_move_with_the_image() -> None:
    known = fovea.Preprocessing(size=(10, 10))  # 40x20 pixels: halved, then 5 cut off left and right
    mask = box_mask([[10, 4, 20, 8]], (20, 40), (10, 10), known)
    assert np.argwhere(mask).tolist() == [[row, column] for row in (2, 3) for column in range(5)]
    both = box_mask([[0, 0, 1, 1], [2, 2, 4, 4]], (4, 4), (4, 4), None)
    assert both.sum() == 5


def test_max_sensitivity_by_hand() -> None:
    doubled = Explainer("double", "double", lambda model, images: np.stack([2 * image[..., 0] for image in images]))
    image = np.array([[[3.0], [4.0]]])
    near = [image + 0.5, image - [[[0.0], [1.0]]]]
    assert max_sensitivity(doubled, fovea.models.mlp(), 2 * image[..., 0], near) == pytest.approx(2 / 10)
    assert max_sensitivity(doubled, fovea.models.mlp(), np.zeros((1, 2)), near) == 0


def test_neighbours_stay_near() -> None:
    image = RNG.integers(0, 256, (6, 5, 3), np.uint8)
    near = neighbours(image, 0.02, 4, seed=1)
    steps = np.stack(near).astype(int) - image
    assert len(near) == 4
    assert np.abs(steps).max() == 5
    assert all(one.dtype == np.uint8 for one in near)
    assert np.array_equal(near[2], neighbours(image, 0.02, 4, seed=1)[2])
    floats = neighbours(image / np.float32(255), 0.1, 2, seed=1)
    assert np.abs(np.stack(floats) - image / np.float32(255)).max() <= 0.1


def test_edges_and_blob() -> None:
    step = np.zeros((4, 6, 1))
    step[:, 3:] = 10
    found = edges([step])[0]
    assert found[:, 2].tolist() == found[:, 3].tolist() == [40] * 4
    assert found[:, [0, 1, 4, 5]].max() == 0
    assert edges([step.transpose(1, 0, 2)])[0].T.tolist() == found.tolist()
    middle = blob([np.zeros((5, 9, 3))])[0]
    assert middle.argmax() == 2 * 9 + 4
    assert np.allclose(middle, middle[::-1, ::-1])


def test_integrated_gradients_are_compared_in_fixed_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def attributions(model: object, images: list[np.ndarray], *_: object, **options: object) -> list[object]:
        asked.append(options)
        return [SimpleNamespace(values=image[..., 0]) for image in images]

    monkeypatch.setattr("fovea.explain.trusting.explainers.attributions", attributions)
    image, model = np.zeros((4, 4, 1), np.float32), fovea.models.mlp()
    for name, options in (("integrated_gradients", {}), ("integrated_gradients", {"tolerance": 0.1}), ("gradient", {})):
        of_method(METHODS[name], None, 0, options).maps(model, [image])
    assert asked == [{"steps": 32, "tolerance": None}, {"tolerance": 0.1}, {}]


def test_a_random_cam_is_never_empty() -> None:
    net = fovea.Sequential(fovea.Conv(1, 3, use_bias=False), fovea.ReLU(), fovea.GlobalAvgPool(), fovea.Dense(2))
    model = fovea.Model(net, input_shape=(8, 8, 1), seed=1)
    model.store.load({"conv1.weight": np.ones((3, 3, 1, 1), np.float32)})
    image = RNG.uniform(0, 1, (8, 8, 1)).astype(np.float32)
    maps = [random_cam(model, [image], "relu1", seed, None)[0] for seed in range(6)]
    assert all(one.max() > 0 for one in maps)  # one channel: half of the weights are below 0
    assert rank_correlation(maps[0], maps[1]) == pytest.approx(1)


# --- randomisation


def test_the_cascade_goes_from_the_top_to_the_bottom() -> None:
    model = fovea.models.small_cnn(3, (16, 16, 1), seed=5)
    node = model.graph.outputs[0]
    layers = layers_from_the_top(model, node)
    assert layers[:2] == ("head.dense1", "stage2.batchnorm2")
    before = {path: array.copy() for path, array in model.store.tensors().items()}
    networks = list(cascade(model, node, seed=9, most=100))
    assert [label for label, _ in networks] == list(layers)
    for count, (_, network) in enumerate(networks, 1):
        for path, array in network.store.tensors().items():
            same = np.array_equal(array, before[path])
            if "conv" in path or path.endswith("dense1.weight"):
                assert same == (path.rpartition(".")[0] not in layers[:count])
    assert all(np.array_equal(array, before[path]) for path, array in model.store.tensors().items())
    few = [label for label, _ in cascade(model, node, seed=9, most=3)]
    assert (few[0], few[-1], len(few)) == (layers[0], layers[-1], 3)
    assert layers_from_the_top(model, Ref("stage1.relu1")) == ("stage1.batchnorm1", "stage1.conv1")


def test_the_cascade_begins_above_what_is_explained() -> None:
    """Of the second output its own layer, not that of the first."""
    x = fovea.Input((8, 8, 1))
    pooled = fovea.GlobalAvgPool()(fovea.ReLU()(fovea.Conv(4, 3)(x)))
    model = fovea.Model(fovea.Graph(inputs=x, outputs=[fovea.Dense(3)(pooled), fovea.Dense(2)(pooled)]), seed=0)
    image = RNG.uniform(0, 1, (8, 8, 1)).astype(np.float32)
    assert trust(model, image, "gradient", ("dense2", 1), samples=1, steps=2).depths == ("trained", "dense2", "conv1")


def test_a_box_is_one_cell_for_all_networks_and_images() -> None:
    """Other weights find other boxes, or none: what is compared stays the cell that found this one."""
    model, image = random_detector(0), photo(0, 96, 96)
    number = 7
    report = trust(model, image, "gradient", fovea.explain.Box(number), samples=2, steps=4, depths=3)
    seen = fovea.explain.gradient(model, image, fovea.explain.Box(number))
    assert report.attribution.name == seen.name
    assert report.attribution.box == seen.box
    assert np.allclose(report.maps[0], seen.values, atol=1e-6)
    (found,) = fovea.detect(model, image)
    assert report.method.causal.deletion[0] == pytest.approx(found.objects[number - 1].score, abs=1e-5)  # a probability
    assert report.depths[1] in layers_from_the_top(model, _node_of(model, image, number))


def _node_of(model: fovea.Model, image: np.ndarray, number: int) -> Ref:
    box = fovea.explain.Box(number)
    return ask(model, [image], METHODS["gradient"], [box], None, "logit", None).scores[0].node


def test_an_empty_map_follows_nothing() -> None:
    net = fovea.Sequential(fovea.Conv(2, 3), fovea.ReLU(), fovea.GlobalAvgPool(), fovea.Dense(2))
    model = fovea.Model(net, input_shape=(8, 8, 1), seed=1)
    model.store.load({"conv1.bias": np.full(2, -100, np.float32)})
    image = RNG.uniform(0, 1, (8, 8, 1)).astype(np.float32)
    report = trust(model, image, "grad_cam", 0, samples=1, steps=2, boxes=[[0, 0, 4, 4]])
    assert report.is_empty
    assert not report.follows
    assert report.verdict == "Grad-CAM shows nothing here: its map is 0 everywhere, so that none of this counts"
    assert report.method.localisation is not None
    assert report.method.localisation.pointing == report.method.localisation.rank == 0.25  # it points nowhere
    assert trust_picture(report).startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def reports() -> dict[str, list[TrustReport]]:
    """Three digits, enlarged, and what four methods make of a LeNet-5 that knows digits."""
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits().images[[0, 3, 14]]
    model = fovea.models.lenet5(weights="mnist")
    names = ["gradient", "grad_cam", "integrated_gradients", "guided_backprop"]
    found: dict[str, list[TrustReport]] = {name: [] for name in names}
    for digit in digits:
        large = Image.fromarray((digit * 15.9).astype(np.uint8)).resize((20, 20), Image.Resampling.BICUBIC)
        image = np.pad(np.asarray(large), 4)[..., None]
        for one in trusts(model, image, names, samples=3, steps=16, boxes=[[4, 4, 24, 24]]):
            found[one.attribution.method].append(one)
    return found


def test_agreement_with_the_literature(reports: dict[str, list[TrustReport]]) -> None:
    """Adebayo et al. 2018, figures 2 to 4: gradients and Grad-CAM change with the weights of the top layers, guided
    backpropagation keeps its map until the lowest ones become random."""
    for digit in range(3):
        gradient, cam, guided = (reports[name][digit].method for name in ("gradient", "grad_cam", "guided_backprop"))
        for depth in range(1, 4):  # the dense layers alone
            assert guided.similarity["spearman_abs"][depth] > 0.6
            assert guided.similarity["spearman_abs"][depth] > gradient.similarity["spearman_abs"][depth] + 0.1
            assert guided.similarity["ssim_abs"][depth] > gradient.similarity["ssim_abs"][depth] + 0.1
        assert guided.kept > gradient.kept + 0.15
        assert guided.kept > cam.kept + 0.15
    assert all(one.follows for name in ("gradient", "grad_cam", "integrated_gradients") for one in reports[name])
    assert not any(one.follows for one in reports["guided_backprop"])
    assert METHODS["guided_backprop"].fails_randomisation


def test_baselines_know_nothing(reports: dict[str, list[TrustReport]]) -> None:
    report = reports["grad_cam"][0]
    assert report.depths == ("trained", "dense3", "dense2", "dense1", "conv2", "conv1")
    by_name = {one.name: one for one in report.baselines}
    assert set(by_name) == {"edges", "random_cam", "blob"}
    assert by_name["edges"].kept == by_name["blob"].kept == pytest.approx(1)
    # a random CAM sees the dense layers not at all
    assert by_name["random_cam"].similarity["spearman"][:4] == pytest.approx((1, 1, 1, 1))
    assert by_name["random_cam"].similarity["spearman"][4] < 0.9
    assert by_name["blob"].max_sensitivity == 0
    assert report.method.causal.deletion[0] == pytest.approx(report.method.causal.insertion[-1], abs=1e-6)
    assert report.method.localisation is not None
    assert report.method.localisation.area == pytest.approx(400 / 784)


def test_reports_repeat_and_are_json(reports: dict[str, list[TrustReport]]) -> None:
    model, image = two_pixels()
    first, second = (trust(model, image, "gradient_x_input", 0, samples=2, steps=4, draws=2) for _ in range(2))
    assert first.to_dict() == second.to_dict()
    assert first.to_dict() != trust(model, image, "gradient_x_input", 0, samples=2, steps=4, draws=2, seed=1).to_dict()
    plain = json.loads(json.dumps(reports["grad_cam"][0].to_dict()))
    assert plain["follows"] is True
    assert plain["measures"][0]["localisation"]["pointing"] in (0, 1)
    assert "follows the weights" in plain["verdict"]
    assert [one.name for one in first.baselines] == ["edges", "blob"]  # no convolution, no CAM


def test_several_draws_are_averaged() -> None:
    model, image = two_pixels()
    one, other, both = (
        np.array(
            trust(model, image, "gradient_x_input", 0, samples=1, steps=2, draws=draws, seed=seed).method.similarity[
                "spearman"
            ]
        )
        for draws, seed in ((1, 0), (1, 1), (2, 0))
    )
    assert both == pytest.approx((one + other) / 2)


def test_reports_are_drawn(reports: dict[str, list[TrustReport]]) -> None:
    assert trust_picture(reports["guided_backprop"][0]).startswith(b"\x89PNG")


def test_images_are_measured_as_the_network_sees_them() -> None:
    """What is cut away before the network counts for nothing, and the map has the network's size."""
    known = fovea.Preprocessing(size=(8, 8), channels=1, resize_to=12)
    model = fovea.models.small_cnn(3, (8, 8, 1), seed=1)
    model.preprocessing = known
    image = RNG.integers(0, 256, (24, 36, 1), np.uint8)
    report = trust(model, image, "gradient", samples=1, steps=2, depths=2, boxes=[[0, 0, 36, 24]])
    assert report.maps.shape == (3, 8, 8)
    seen = fovea.explain.gradient(model, image)
    assert np.array_equal(report.attribution.image, seen.image)
    assert np.allclose(report.maps[0], seen.values, atol=1e-6)
    assert report.method.localisation is not None
    assert report.method.localisation.area == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": 0}, "expected depths as an integer of at least 1"),
        ({"draws": True}, "expected draws as an integer"),
        ({"radius": 0}, "expected radius as a share"),
        ({"method": "gradcam"}, "did you mean grad_cam"),
        ({"boxes": [[3, 3, 1, 4]]}, "expected x1 < x2 and y1 < y2"),
        ({"boxes": [[9, 9, 11, 11]]}, "expected a box inside of what the network sees"),
        ({"boxes": "1,2,3,4"}, "expected boxes x1,y1,x2,y2"),
        ({"target": 5}, "expected a class from 0 to 1"),
        ({"window": 3}, "expected its own options, got 'window'"),
    ],
)
def test_mistakes_are_told_in_one_sentence(options: dict[str, object], message: str) -> None:
    model, image = two_pixels()
    with pytest.raises(FoveaError) as error:
        trust(model, image, **{"method": "gradient", **options})  # type: ignore[arg-type]
    assert message in str(error.value)
    assert "\n" not in str(error.value)
