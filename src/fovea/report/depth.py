"""Accuracy by depth: how well a linear probe tells the classes apart behind each block of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fovea.features.depth import DepthProbe, DepthProbes
from fovea.report.figures import draw
from fovea.report.style import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["accuracy_by_depth"]


def accuracy_by_depth(found: DepthProbes, name: str = "depth") -> str:
    """An SVG element: accuracy on held-out folds with its spread over them, and on the validation split, from the first
    layer to the last. ``standalone`` makes a file of it; ``name`` keeps the ids of several figures apart."""

    def paint(axes: Axes) -> None:
        place = np.arange(len(found.probes))
        accuracy = 100 * np.array([one.probe.accuracy for one in found.probes])
        spread = 100 * np.array([one.probe.spread for one in found.probes])
        axes.fill_between(place, accuracy - spread, accuracy + spread, color=COLOURS["accent"], alpha=0.15, linewidth=0)
        label = f"{found.train} training samples, held out in {max(one.probe.folds for one in found.probes)} folds"
        axes.plot(place, accuracy, "o-", color=COLOURS["accent"], markersize=4, label=label)
        judged = [one.accuracy for one in found.probes]
        if all(value is not None for value in judged):
            values = 100 * np.array(judged, np.float64)
            label = f"{found.val} validation samples"
            axes.plot(place, values, "s--", color=COLOURS["second"], markersize=3.5, linewidth=1.1, label=label)
        axes.set_xticks(place, [_label(one) for one in found.probes], rotation=55, ha="right", rotation_mode="anchor")
        axes.tick_params(axis="x", labelsize=7.5)
        axes.set_title(f"{found.data}: accuracy of a linear probe by depth, %")
        axes.legend(loc="lower right")

    return draw(name, paint, (max(3.7, 0.45 * len(found.probes) + 1.6), 3.4))


def _label(one: DepthProbe) -> str:
    """The layer with the length of its code, the middle of a long name left out."""
    short = one.layer if len(one.layer) <= 22 else f"{one.layer[:8]}..{one.layer[-12:]}"
    return f"{short} ({one.channels})"
