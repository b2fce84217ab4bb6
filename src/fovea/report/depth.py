"""Accuracy by depth: how well a linear probe tells the classes apart behind each block of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fovea.features.depth import DepthProbes
from fovea.report.figures import draw
from fovea.report.style import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["accuracy_by_depth", "depth_curve"]


def accuracy_by_depth(found: DepthProbes, name: str = "depth") -> str:
    """An SVG element: accuracy on held-out folds with its spread over them, and on the validation split, from the first
    layer to the last. ``standalone`` makes a file of it; ``name`` keeps the ids of several figures apart."""
    labels = [(one.layer, one.channels) for one in found.probes]
    held_out = [(one.probe.accuracy, one.probe.spread) for one in found.probes]
    words = f"{found.train} training samples, held out in {max(one.probe.folds for one in found.probes)} folds"
    judged = [one.accuracy for one in found.probes]
    title = f"{found.data}: accuracy of a linear probe by depth, %"
    return depth_curve(name, title, labels, held_out, judged, (words, f"{found.val} validation samples"))


def depth_curve(
    name: str, title: str, layers: Sequence[tuple[str, int]], held_out: Sequence[tuple[float, float]],
    judged: Sequence[float | None], words: tuple[str, str], marked: str | None = None,
) -> str:  # fmt: skip
    """An SVG element of probes by depth: ``layers`` with the length of their codes, accuracy with its spread, accuracy
    on the validation split (drawn when all have one); ``words`` explain the two; a ring at the layer ``marked``."""

    def paint(axes: Axes) -> None:
        place = np.arange(len(layers))
        accuracy, spread = 100 * np.asarray(held_out, np.float64).T
        axes.fill_between(place, accuracy - spread, accuracy + spread, color=COLOURS["accent"], alpha=0.15, linewidth=0)
        axes.plot(place, accuracy, "o-", color=COLOURS["accent"], markersize=4, label=words[0])
        if all(value is not None for value in judged):
            values = 100 * np.array(judged, np.float64)
            axes.plot(place, values, "s--", color=COLOURS["second"], markersize=3.5, linewidth=1.1, label=words[1])
        for index, (layer, _) in enumerate(layers):
            if layer == marked:
                axes.plot(index, accuracy[index], "o", color=COLOURS["ink"], markersize=10, fillstyle="none")
        axes.set_xticks(place, [_label(*one) for one in layers], rotation=55, ha="right", rotation_mode="anchor")
        axes.tick_params(axis="x", labelsize=7.5)
        axes.set_title(title)
        axes.legend(loc="lower right")

    return draw(name, paint, (max(3.7, 0.45 * len(layers) + 1.6), 3.4))


def _label(layer: str, size: int) -> str:
    """The layer with the length of its code, the middle of a long name left out."""
    short = layer if len(layer) <= 22 else f"{layer[:8]}..{layer[-12:]}"
    return f"{short} ({size})"
