"""Accuracy by depth: how well a linear probe tells the classes apart behind each block of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fovea.features.depth import DepthProbes
from fovea.report.figures import draw, picture
from fovea.report.style import COLOURS, LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["accuracy_by_depth", "depth_curve", "depth_picture"]

Pairs = Sequence[tuple[float, float]]


def accuracy_by_depth(found: DepthProbes, name: str = "depth") -> str:
    """An SVG element: accuracy on held-out folds with its spread over them, and on the validation split, from the first
    layer to the last. ``standalone`` makes a file of it; ``name`` keeps the ids of several figures apart."""
    curve = _curve(found)
    return draw(name, lambda axes: curve.paint(axes, COLOURS), curve.size)


def depth_picture(found: DepthProbes) -> bytes:
    """PNG: the same as a picture, the best depth ringed."""
    curve = _curve(found, found.best.layer)
    return picture(lambda axes: curve.paint(axes, LIGHT), curve.size)


def depth_curve(
    name: str, title: str, layers: Sequence[tuple[str, int]], held_out: Pairs, judged: Sequence[float | None],
    words: tuple[str, str], marked: str | None = None,
) -> str:  # fmt: skip
    """An SVG element of probes by depth: ``layers`` with the length of their codes, accuracy with its spread, accuracy
    on the validation split (drawn when all have one); ``words`` explain the two; a ring at the layer ``marked``."""
    curve = _Curve(title, layers, held_out, judged, words, marked)
    return draw(name, lambda axes: curve.paint(axes, COLOURS), curve.size)


def _curve(found: DepthProbes, marked: str | None = None) -> _Curve:
    labels = [(one.layer, one.channels) for one in found.probes]
    held_out = [(one.probe.accuracy, one.probe.spread) for one in found.probes]
    words = f"{found.train} training samples, held out in {found.folds} folds"
    judged = [one.accuracy for one in found.probes]
    title = f"{found.data}: accuracy of a linear probe by depth, %"
    return _Curve(title, labels, held_out, judged, (words, f"{found.val} validation samples"), marked)


@dataclass(frozen=True)
class _Curve:
    """What ``depth_curve`` says."""

    title: str
    layers: Sequence[tuple[str, int]]
    held_out: Pairs
    judged: Sequence[float | None]
    words: tuple[str, str]
    marked: str | None

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return max(3.7, 0.45 * len(self.layers) + 1.6), 3.8

    def paint(self, axes: Axes, colours: Mapping[str, str]) -> None:
        """Draw it with these colours."""
        place = np.arange(len(self.layers))
        accuracy, spread = 100 * np.asarray(self.held_out, np.float64).T
        accent = colours["accent"]
        axes.fill_between(place, accuracy - spread, accuracy + spread, color=accent, alpha=0.15, linewidth=0)
        axes.plot(place, accuracy, "o-", color=accent, markersize=4, label=self.words[0])
        if all(value is not None for value in self.judged):
            values = 100 * np.array(self.judged, np.float64)
            second = colours["second"]
            axes.plot(place, values, "s--", color=second, markersize=3.5, linewidth=1.1, label=self.words[1])
        for index, (layer, _) in enumerate(self.layers):
            if layer == self.marked:
                axes.plot(index, accuracy[index], "o", color=colours["ink"], markersize=10, fillstyle="none")
        axes.set_xticks(place, [_label(*one) for one in self.layers], rotation=55, ha="right", rotation_mode="anchor")
        axes.tick_params(axis="x", labelsize=7.5)
        axes.set_title(self.title)
        axes.figure.legend(loc="outside lower left")  # inside, some network's curves would lie under it


def _label(layer: str, size: int) -> str:
    """The layer with the length of its code, the middle of a long name left out."""
    short = layer if len(layer) <= 22 else f"{layer[:8]}..{layer[-12:]}"
    return f"{short} ({size})"
