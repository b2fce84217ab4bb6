"""Adversarial and fooling images: how little changes a network's mind, and what else it takes for a thing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.data.given import as_samples
from fovea.errors import ConfigError
from fovea.explain.target import class_index, scored_node
from fovea.explain.visualise.part import Part, image_model, own_size, part_of
from fovea.model import Model
from fovea.tasks.base import Prediction
from fovea.tasks.metrics import class_names, softmax

__all__ = ["ATTACKS", "Adversarial", "adversarial", "fooling"]

Array = npt.NDArray[Any]
F32 = npt.NDArray[np.float32]
ATTACKS = ("fgsm", "pgd")
_WHERE = "adversarial"
_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class Adversarial:
    """``images``: uint8 N,H,W,C as the network sees them, ``changed``: the same within ``epsilon`` of a share of 255.

    ``before``, ``after``: what the network says of both. ``targets``: the class that was attacked, or wanted.
    """

    images: npt.NDArray[np.uint8]
    changed: npt.NDArray[np.uint8]
    before: tuple[Prediction, ...]
    after: tuple[Prediction, ...]
    targets: npt.NDArray[np.int64]
    targeted: bool
    epsilon: float
    method: str

    @property
    def flipped(self) -> npt.NDArray[np.bool_]:
        """N: whether the first class is another one than before."""
        pairs = zip(self.before, self.after, strict=True)
        return np.array([one.to_dict()["label"] != two.to_dict()["label"] for one, two in pairs])

    @property
    def perturbation(self) -> npt.NDArray[np.int16]:
        """What was added to each pixel, N,H,W,C, in grey levels."""
        return self.changed.astype(np.int16) - self.images

    def amplified(self) -> npt.NDArray[np.uint8]:
        """The perturbation as a picture: no change is grey, ``epsilon`` up or down is white or black."""
        levels = max(1, int(np.abs(self.perturbation).max()))
        return np.round(127.5 + 127.5 * self.perturbation / levels).astype(np.uint8)


def adversarial(
    model: Model,
    images: Any,
    method: str = "pgd",
    *,
    epsilon: float = 4 / 255,
    targets: Any = None,
    target: Any = None,
    steps: int = 10,
    seed: int = 0,
    engine: str | None = None,
) -> Adversarial:
    """Images (uint8 N,H,W,C, a list of H,W,C, or paths) changed by at most ``epsilon`` of the pixels' range.

    "fgsm" takes one step of the whole epsilon along the sign of the gradient of the cross-entropy,
    ``x + epsilon sign(dL/dx)`` (Goodfellow et al. 2015, "Explaining and harnessing adversarial examples"). "pgd" starts
    at random within epsilon and takes ``steps`` steps of 2.5 epsilon / steps, each brought back into epsilon and into
    0..255 (Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks"); of all steps and the
    images themselves the one with the largest loss is kept. The result is whole pixels: it may be saved and predicted.

    ``targets``: the true classes, by number or name (else what the network says); the loss of theirs is raised.
    ``target``: one class to which all images are to be taken instead; its loss is lowered. Raises ConfigError.
    """
    known = image_model(model, _WHERE)
    if method not in ATTACKS:
        raise ConfigError(_WHERE, f"expected {' or '.join(ATTACKS)}, got {method!r}; choose one of them")
    levels = grey_levels(epsilon)
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= 10_000:
        raise ConfigError(_WHERE, f"expected steps as an integer from 1 to 10000, got {steps!r}; 10 is usual")
    seen = known.apply_spatial(as_samples(images, known))
    logits = _logits(model, seen)
    classes, sign = _attacked(model, logits, targets, target)
    changed = []
    for start in range(0, len(seen), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        part = _part(model, seen[rows], engine)
        if method == "fgsm":
            slope = sign * _slope(part, known, seen[rows].astype(np.float32), classes[rows])[1]
            changed.append(np.clip(seen[rows] + np.float32(levels) * np.sign(slope), 0, 255).astype(np.uint8))
        else:
            keys = random.fold_in(random.key(seed, "pgd"), np.arange(start, start + len(seen[rows])))
            changed.append(_projected(part, known, seen[rows], classes[rows], sign, levels, steps, keys))
    result = np.concatenate(changed)
    before, after = _said(model, logits), _said(model, _logits(model, result))
    return Adversarial(seen, result, before, after, classes, target is not None, levels / 255, method)


def grey_levels(epsilon: float) -> int:
    """Whole grey levels within epsilon. Raises ConfigError for less than one or more than all."""
    if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float)) or not 1 / 255 - 1e-9 <= epsilon <= 1:
        raise ConfigError(_WHERE, f"expected epsilon from 1/255 to 1, got {epsilon!r}; 4/255 is usual")
    return math.floor(epsilon * 255 + 1e-6)


def _projected(
    part: Part, known: Any, seen: Array, classes: Array, sign: float, levels: int, steps: int, keys: Any
) -> npt.NDArray[np.uint8]:
    """PGD: the best whole image of all steps, each within ``levels`` of ``seen``."""
    low = np.maximum(seen.astype(np.float32) - levels, 0)
    high = np.minimum(seen.astype(np.float32) + levels, 255)
    size = int(np.prod(seen.shape[1:]))
    noise = random.uniform(keys, size).reshape(seen.shape)
    pixels = low + (high - low) * noise
    best, most = seen.copy(), sign * _slope(part, known, seen.astype(np.float32), classes)[0]
    for step in range(steps + 1):
        whole = np.round(pixels)
        values, slope = _slope(part, known, whole, classes)
        better = sign * values > most
        best[better], most = whole[better].astype(np.uint8), np.maximum(most, sign * values)
        if step < steps:
            move = np.float32(max(2.5 * levels / steps, 1.0 if steps < levels else 0.5))
            pixels = np.clip(pixels + sign * move * np.sign(slope), low, high)
    return best


def fooling(
    model: Model,
    targets: Any,
    *,
    steps: int = 100,
    seed: int = 0,
    engine: str | None = None,
) -> Adversarial:
    """Noise that a network takes for given classes (numbers or names): one image for each.

    Steps of one grey level along the sign of the gradient, from noise around middle grey: what comes out still looks
    like noise to people. ``before`` is what the network says of the noise. Raises ConfigError.
    Source: Nguyen et al. 2015, "Deep neural networks are easily fooled" (there by evolution and gradient ascent).
    """
    known = image_model(model, "fooling")
    given = targets if isinstance(targets, (list, tuple)) else [targets]
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= 10_000:
        raise ConfigError("fooling", f"expected steps as an integer from 1 to 10000, got {steps!r}; 100 is usual")
    shape = (len(given), *own_size(model, "fooling"), known.channels)
    keys = random.fold_in(random.key(seed, "fooling"), np.arange(len(given)))
    noise = (
        np.round(127.5 + 8 * random.normal(keys, int(np.prod(shape[1:])))).clip(0, 255).reshape(shape).astype(np.uint8)
    )
    logits = _logits(model, noise)
    classes = _numbers(model, given, logits.shape[-1])
    part = _part(model, noise, engine)
    pixels = noise.astype(np.float32)
    for _ in range(steps):
        pixels = np.clip(pixels - np.sign(_slope(part, known, pixels, classes)[1]), 0, 255)
    result = pixels.astype(np.uint8)
    reached = float(np.abs(result.astype(int) - noise).max()) / 255
    return Adversarial(
        noise, result, _said(model, logits), _said(model, _logits(model, result)), classes, True, reached, "fooling"
    )


def _part(model: Model, seen: Array, engine: str | None) -> Part:
    size = tuple(int(n) for n in seen.shape[1:3])
    return part_of(model, scored_node(model), _WHERE, size=size, engine=engine, batch_size=len(seen))


def _slope(part: Part, known: Any, pixels: F32, classes: Array) -> tuple[Array, F32]:
    """The cross-entropy of each image for its class, N, and its gradient at the pixels (at logits: softmax(z) - e)."""

    def loss(outputs: Array) -> tuple[Array, Array]:
        shares = softmax(outputs.reshape(len(outputs), -1))
        rows = np.arange(len(outputs))
        values = -np.log(np.maximum(shares[rows, classes], 1e-300))
        shares[rows, classes] -= 1
        return values, shares.reshape(outputs.shape)

    values, gradient = part.climb(known.apply_pixels(pixels), loss)
    return values, known.apply_pixels_adjoint(gradient)


def _logits(model: Model, seen: Array) -> Array:
    outputs = model.graph.output_shapes
    if len(outputs) != 1:
        raise ConfigError(
            _WHERE, f"expected a classifier with outputs N,classes, got {len(outputs)} outputs; use another"
        )
    logits = np.asarray(model.logits(seen))
    if model.task.kind != "classification" or logits.ndim < 2 or logits[0].size != logits.shape[-1]:
        raise ConfigError(
            _WHERE,
            f"expected a classifier with outputs N,classes, got {model.task.kind} with {logits.shape}; use another",
        )
    return logits.reshape(len(logits), -1)


def _said(model: Model, logits: Array) -> tuple[Prediction, ...]:
    return tuple(model.task.decode(logits, classes=model.classes, top_k=5))


def _numbers(model: Model, given: Any, count: int) -> npt.NDArray[np.int64]:
    names = class_names(model.classes, count)
    chosen = [class_index(names, one, _WHERE) if isinstance(one, str) else one for one in given]
    for one in chosen:
        if isinstance(one, bool) or not isinstance(one, (int, np.integer)) or not 0 <= one < count:
            raise ConfigError(
                _WHERE, f"expected a class from 0 to {count - 1} or its name, got {one!r}; choose another"
            )
    return np.array(chosen, np.int64)


def _attacked(model: Model, logits: Array, targets: Any, target: Any) -> tuple[npt.NDArray[np.int64], float]:
    """The class of each image whose loss is raised (+1) or lowered (-1)."""
    if targets is not None and target is not None:
        raise ConfigError(_WHERE, "expected the true classes (targets) or a wanted one (target), got both; give one")
    if target is not None:
        return np.repeat(_numbers(model, [target], logits.shape[-1]), len(logits)), -1.0
    if targets is None:
        return logits.argmax(axis=1).astype(np.int64), 1.0
    given = list(targets) if isinstance(targets, (list, tuple, np.ndarray)) else [targets]
    if len(given) != len(logits):
        raise ConfigError(_WHERE, f"expected a class for each of {len(logits)} images, got {len(given)}; give as many")
    return _numbers(model, given, logits.shape[-1]), 1.0
