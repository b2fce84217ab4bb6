"""Feature visualisation: the image that excites a channel, a neuron or a class most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import progress, random
from fovea.data.preprocess import Preprocessing
from fovea.errors import ConfigError, DataError
from fovea.explain.visualise.ascent import Adam
from fovea.explain.visualise.canvas import Canvas
from fovea.explain.visualise.climbed import Goal, channel_goal, class_goal
from fovea.explain.visualise.colours import Colours, colours_for
from fovea.explain.visualise.objectives import units, with_diversity
from fovea.explain.visualise.part import Part, own_size, part_of, resized
from fovea.explain.visualise.transforms import Movement
from fovea.graph.graph import Graph, Ref
from fovea.graph.receptive import receptive_fields
from fovea.model import Model

__all__ = ["Visualisation", "maximise"]

Array = npt.NDArray[Any]
_AT_ONCE = 8
_LR, _START, _DIVERSITY = 0.1, 0.01, 0.5
_FIELDS, _SMALLEST, _STEP = 2, 96, 32
"""An image twice as wide as the receptive field shows a texture, or a part with what is around it."""
_COARSE = 96
"""From here on the canvas has half of the detail: what is finer than two pixels is noise to the eye."""


@dataclass(frozen=True, eq=False)
class Visualisation:
    """Images that a network was asked to draw, in the order of channels and, for each, ``count`` of them.

    ``images``: uint8 N,H,W,C (clips N,T,H,W,C); of signals and volumes float32 network input. ``x``: the same as
    network input. ``names``: what each was made for. ``values``: what it reaches, as it is shown; ``start``: what
    the noise that it was made from reached. ``node``: whose output they are of (what a
    rectifier is given, not what it returns).
    ``depends``: N, False where the input changes nothing (a channel without weights): there the noise is shown.
    """

    images: Array
    x: npt.NDArray[np.float32]
    names: tuple[str, ...]
    channels: tuple[int, ...]
    values: npt.NDArray[np.float32]
    start: npt.NDArray[np.float32]
    node: str
    depends: npt.NDArray[np.bool_]


def maximise(
    model: Model,
    layer: str | None = None,
    channels: Any = None,
    *,
    target: Any = None,
    neuron: Any = None,
    count: int = 1,
    steps: int = 128,
    movement: float = 1.0,
    size: int | tuple[int, ...] | None = None,
    images: Array | None = None,
    seed: int = 0,
    engine: str | None = None,
) -> Visualisation:
    """Images that make ``channels`` of a layer as large as possible, or the logit of the classes ``target``.

    Ascent with Adam on Fourier coefficients in decorrelated colours, on a randomly shifted, turned and scaled copy in
    every step; the contrast stays at most that of a photograph. What is climbed is how strongly a channel answers at
    all positions (its texture; see ``objectives.units``), or with ``neuron`` its value at one position (``(row,
    column)`` or "centre"; its shape). ``count``: several images for each channel, kept apart by the diversity of their
    Gram matrices. ``movement``: factor on how far copies are moved; 0 shows what the network looks like without.
    ``size``: of the images; else at most the network's own, and no more than the receptive field asks for. ``images``:
    uint8 N,H,W,C from which the statistics of colours are taken (else: of photographs).

    A signal or volume is made as network input with mean square 1, and shifted only. Raises GraphError with near names,
    ConfigError for channels, classes and options out of range, EngineError for an int8 model, DataError for one without
    preprocessing. Source: Olah, Mordvintsev and Schubert 2017, "Feature Visualization"; Erhan et al. 2009.
    """
    known = _preprocessing(model)
    _check(layer, channels, target, count, steps, movement)
    spatial = _size(model, size)
    if size is None:
        graph = model.graph.at((*spatial, known.channels))
    else:  # only the part below the layer has to allow it
        graph = model.graph if layer is None else resized(model, Ref(layer), spatial, "visualise")
    goal = channel_goal(graph, layer, channels, neuron) if layer is not None else class_goal(model, graph, target)
    colours = colours_for(known, images) if known.kind in ("image", "clip") else None
    jobs = [index for index in range(len(goal.channels)) for _ in range(count)]
    parts: list[tuple[Array, ...]] = []
    at_once = max(count, _AT_ONCE // count * count)
    part, canvas = _prepared(
        model, goal, graph, known, colours, spatial, size, movement, engine, min(at_once, len(jobs))
    )
    with progress.bar(len(jobs) * steps, f"visualising {goal.node.node}", unit="steps") as bar:
        for first in range(0, len(jobs), at_once):
            rows = jobs[first : first + at_once]
            parts.append(_climb(part, canvas, goal, rows, first, steps, seed, count, bar))
    shown, x, values, start, depends = (np.concatenate(column) for column in zip(*parts, strict=True))
    if not depends.any():
        raise ConfigError(
            "visualise", f"expected a channel that depends on the input, got {goal.names[0]}, whose gradient is zero "
            "everywhere; choose another",
        )  # fmt: skip
    pictures = shown if colours is None else np.round(shown * 255).astype(np.uint8)
    return Visualisation(
        pictures, x, tuple(goal.names[i] for i in jobs), tuple(goal.channels[i] for i in jobs),
        values.astype(np.float32), start.astype(np.float32), goal.node.node, depends,
    )  # fmt: skip


def _climb(
    part: Part, canvas: Canvas, goal: Goal, rows: list[int], first: int, steps: int, seed: int, count: int, bar: Any
) -> tuple[Array, ...]:
    """The images of some jobs: as shown, as network input, their values, those of the start, and ``depends``.

    Noise and movements have keys of each job's own number: how many are computed at once changes nothing but rounding.
    """
    objective = units([goal.channels[row] for row in rows], goal.position)
    diverse = count > 1 and len(part.shape) > 1  # a vector has no style: its images differ by their noise alone
    climbed = with_diversity(objective, rows, _DIVERSITY) if diverse else objective
    numbers = np.arange(first, first + len(rows))
    coefficients, adam = canvas.start(seed, numbers, _START), Adam(_LR)
    start = objective(part.outputs(canvas.paint(coefficients).x))[0]
    depends = np.zeros(len(rows), bool)
    for step in range(steps):
        painted = canvas.paint(coefficients, random.fold_in(random.key(seed, "visualise movement", step), numbers))
        values, gradient = part.climb(painted.x, climbed)
        if step == 0:
            depends[:] = gradient.reshape(len(rows), -1).any(axis=1)
        share = min(1.0, 2.0 * (1.0 - step / steps))  # slower in the second half: what was found is drawn cleanly
        coefficients = canvas.held(coefficients + adam.step(canvas.adjoint(painted, gradient), share))
        bar.update(len(rows), value=float(values.mean()))
    painted = canvas.paint(coefficients)
    shown = painted.x if canvas.colours is None else painted.shown
    return shown, painted.x, objective(part.outputs(painted.x))[0], start, depends


def _prepared(
    model: Model, goal: Goal, graph: Graph, known: Preprocessing, colours: Colours | None, spatial: tuple[int, ...],
    size: Any, movement: float, engine: str | None, batch: int,
) -> tuple[Part, Canvas]:  # fmt: skip
    """The part of the network and the canvas; without a size at most the one that the receptive field asks for."""
    wanted = spatial
    if size is None and goal.position is None and known.kind == "image":
        fields = receptive_fields(graph)[goal.node.node]
        if fields is not None and all(field.jump for field in fields):
            side = max(_SMALLEST, _FIELDS * max(field.size for field in fields))
            wanted = tuple(min(own, -(-side // _STEP) * _STEP) for own in spatial)
    try:
        part = part_of(model, goal.node, "visualise", size=wanted, engine=engine, batch_size=batch)
    except ConfigError:
        if wanted == spatial:
            raise
        wanted = spatial
        part = part_of(model, goal.node, "visualise", size=wanted, engine=engine, batch_size=batch)
    detail = 0.5 if min(wanted) >= _COARSE else 1.0
    return part, Canvas(known, wanted, colours, Movement().scaled(movement), detail)


def _preprocessing(model: Model) -> Preprocessing:
    if not isinstance(model, Model):
        raise ConfigError("visualise", f"expected a Model, got {type(model).__name__}; load one with fovea.load")
    if model.preprocessing is None:
        raise DataError(
            "visualise", "expected a model that knows its preprocessing, so that pixels have a range, got one without; "
            "import it with --preprocess, or set model.preprocessing",
        )  # fmt: skip
    return model.preprocessing


def _size(model: Model, size: Any) -> tuple[int, ...]:
    own = model.graph.input_shapes[0][:-1]
    if size is None:
        return own_size(model, "visualise")
    given = tuple(size) if isinstance(size, (tuple, list)) else (size,) * len(own)
    whole = all(isinstance(n, int) and not isinstance(n, bool) and 8 <= n <= 4096 for n in given)
    if len(given) != len(own) or not whole:
        raise ConfigError("visualise", f"expected size as one or {len(own)} integers from 8, got {size!r}; give 128")
    return given


def _check(layer: Any, channels: Any, target: Any, count: int, steps: int, movement: float) -> None:
    if (layer is None) == (target is None) or (layer is not None and channels is None):
        raise ConfigError(
            "visualise", "expected a layer with channels, or a target, got "
            f"layer={layer!r}, channels={channels!r}, target={target!r}; give one of both",
        )  # fmt: skip
    for name, value, most in (("count", count, 64), ("steps", steps, 100_000)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise ConfigError("visualise", f"expected {name} as an integer from 1 to {most}, got {value!r}")
    if isinstance(movement, bool) or not isinstance(movement, (int, float)) or not 0 <= movement <= 4:
        raise ConfigError("visualise", f"expected movement as a number from 0 to 4, got {movement!r}; 1 is usual")
