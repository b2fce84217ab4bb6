"""The measures are those of Quantus (Hedstrom et al. 2023) and scikit-image, on the same maps and networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fovea
from fovea.explain.base import METHODS
from fovea.explain.question import ask
from fovea.explain.trusting.causal import insertion_deletion
from fovea.explain.trusting.explainers import Explainer
from fovea.explain.trusting.localise import localisation
from fovea.explain.trusting.similarity import rank_correlation, structural_similarity
from fovea.explain.trusting.stability import max_sensitivity

quantus = pytest.importorskip("quantus")
torch = pytest.importorskip("torch")

RNG = np.random.default_rng(11)
MAPS = RNG.normal(size=(4, 12, 15))
MASKS = np.zeros((4, 12, 15), bool)
for _number, (_top, _left) in enumerate([(0, 0), (3, 5), (8, 2), (5, 9)]):
    MASKS[_number, _top : _top + 4, _left : _left + 5] = True
QUIET = {"disable_warnings": True, "normalise": False, "abs": False}


def linear() -> tuple[fovea.Model, Any, np.ndarray]:
    """The same linear classifier of 6x8 pixels in both systems, and three images N,H,W,C."""
    model = fovea.Model(fovea.Sequential(fovea.Flatten(), fovea.Dense(3)), input_shape=(6, 8, 1), seed=4)
    twin = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
    with torch.no_grad():
        twin[1].weight.copy_(torch.from_numpy(model.parameters()["dense1.weight"].T))
        twin[1].bias.zero_()
    return model, twin.eval(), RNG.normal(size=(3, 6, 8, 1)).astype(np.float32)


def test_rank_correlation_with_ties() -> None:
    for a, b in ((MAPS[0], MAPS[1]), (np.abs(MAPS[0]).round(), MAPS[0].round()), (MAPS[2], -MAPS[2])):
        assert rank_correlation(a, b) == pytest.approx(
            quantus.similarity_func.correlation_spearman(a.ravel(), b.ravel())
        )


def test_structural_similarity() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    for a, b in ((MAPS[0], MAPS[1]), (MAPS[0], MAPS[0] + 0.3 * MAPS[1])):
        theirs = metrics.structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=2.0
        )
        assert structural_similarity(a, b, 2.0) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("name", ["PointingGame", "RelevanceMassAccuracy", "RelevanceRankAccuracy"])
def test_localisation(name: str) -> None:
    values = np.abs(MAPS) if name == "RelevanceMassAccuracy" else MAPS
    _, twin, _ = linear()
    theirs = getattr(quantus, name)(**QUIET)(
        model=twin, x_batch=values[:, None].astype(np.float32), y_batch=np.zeros(4, int), a_batch=values[:, None],
        s_batch=MASKS[:, None], device="cpu",
    )  # fmt: skip
    field = {"PointingGame": "pointing", "RelevanceMassAccuracy": "mass", "RelevanceRankAccuracy": "rank"}[name]
    ours = [getattr(localisation(one, mask), field) for one, mask in zip(values, MASKS, strict=True)]
    assert ours == pytest.approx([float(one) for one in theirs])


def test_deletion_is_pixel_flipping() -> None:
    model, twin, images = linear()
    targets, maps = [2, 0, 1], RNG.normal(size=(3, 6, 8))
    theirs = quantus.PixelFlipping(features_in_step=4, perturb_baseline=0.0, **QUIET)(
        model=twin, x_batch=images.transpose(0, 3, 1, 2), y_batch=np.array(targets), a_batch=maps[:, None],
        device="cpu",
    )  # fmt: skip
    for image, target, values, curve in zip(images, targets, maps, theirs, strict=True):
        question = ask(model, [image], METHODS["gradient"], [target], None, "probability", None)
        assert insertion_deletion(question, values, 12, seed=0).deletion[1:] == pytest.approx(curve, abs=1e-5)


def test_insertion_is_pixel_flipping_towards_the_image() -> None:
    """Begun at zero, where each step uncovers pixels of the image in place of covering them."""
    model, twin, images = linear()
    targets, maps = [1, 1, 0], RNG.normal(size=(3, 6, 8))
    shown = images.transpose(0, 3, 1, 2)

    def uncover(arr: np.ndarray, indices: np.ndarray, **_: Any) -> np.ndarray:
        uncovered = arr.copy()
        np.put_along_axis(uncovered, indices, np.take_along_axis(shown.reshape(arr.shape), indices, 1), 1)
        return uncovered

    theirs = quantus.PixelFlipping(features_in_step=6, perturb_func=uncover, **QUIET)(
        model=twin, x_batch=np.zeros_like(shown), y_batch=np.array(targets), a_batch=maps[:, None], device="cpu"
    )
    for image, target, values, curve in zip(images, targets, maps, theirs, strict=True):
        question = ask(model, [image], METHODS["gradient"], [target], None, "probability", None)
        found = insertion_deletion(question, values, 8, seed=0)
        assert found.insertion[1:] == pytest.approx(curve, abs=1e-5)


def test_max_sensitivity() -> None:
    """Of gradient x input of a linear network, for the same three perturbations."""
    model, twin, images = linear()
    weight = model.parameters()["dense1.weight"][:, 1].reshape(6, 8)
    moves = RNG.uniform(-0.1, 0.1, (3, 48)).astype(np.float32)
    pending = iter(moves)

    def explain(model: Any, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
        return np.asarray(inputs) * weight

    theirs = quantus.MaxSensitivity(
        nr_samples=3, perturb_func=lambda arr, indices, **_: arr + next(pending), **QUIET
    )(
        model=twin, x_batch=images[:1].transpose(0, 3, 1, 2), y_batch=np.array([1]), a_batch=None,
        explain_func=explain, device="cpu",
    )  # fmt: skip
    ours = Explainer("linear", "linear", lambda model, near: np.stack([one[..., 0] * weight for one in near]))
    near = [images[0] + move.reshape(6, 8, 1) for move in moves]
    assert max_sensitivity(ours, model, images[0, ..., 0] * weight, near) == pytest.approx(float(theirs[0]), rel=1e-5)
