"""A class map as a picture: the photograph, the heat of one class over it, a colour bar, and where the peak lies."""

from __future__ import annotations

import numpy as np

from fovea.explain.class_maps import ClassMap
from fovea.report.lettering import png

__all__ = ["overlay"]

_HEIGHT, _WIDEST, _DPI = 4.6, 8.0, 110  # inches: a picture for a page
_FAINTEST = 0.25  # the end of the colours at least: a class that is nowhere must not look as if it were somewhere
_COLOURS = "inferno"  # dark to light, even to the eye and for the colour-blind


def overlay(found: ClassMap, index: int) -> bytes:
    """PNG of the image with the heat of class ``index``: the stronger, the less of the photograph shines through.

    The dashed frame is the window that the network was trained on, at the peak.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    height, width = found.image.shape[:2]
    inches = min(_WIDEST, max(3.0, _HEIGHT * width / height))
    figure = Figure(figsize=(inches + 1.0, inches * height / width + 0.6), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    heat, extent = found.heat(index), (0.0, float(width), float(height), 0.0)
    peak, (row, column) = found.peak(index)
    shares = bool(heat.min() >= 0 and heat.max() <= 1)
    low, high = (0.0, max(_FAINTEST, peak)) if shares else (float(heat.min()), float(heat.max()))
    share = np.clip((heat - low) / max(high - low, 1e-12), 0, 1)
    axes.imshow(found.image, extent=extent)
    axes.imshow(heat, extent=extent, cmap=_COLOURS, vmin=low, vmax=high, alpha=0.2 + 0.4 * share)
    frame = (column - found.window[1] / 2, row - found.window[0] / 2)
    axes.add_patch(Rectangle(frame, found.window[1], found.window[0], fill=False, color="white", ls="--", lw=1.2))
    axes.plot([column], [row], "o", mfc="none", mec="white", ms=9, mew=1.5)
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    name = found.classes[index] if len(found.classes[index]) <= 60 else f"{found.classes[index][:57]}..."
    axes.set_title(f"{name}: {peak:.1%} at the ring" if shares else f"{name}: {peak:.3g} at the ring", loc="left")
    colours = ScalarMappable(Normalize(low, high), _COLOURS)
    figure.colorbar(colours, ax=axes, fraction=0.05, pad=0.02, label="probability" if shares else "value")
    return png(figure)
