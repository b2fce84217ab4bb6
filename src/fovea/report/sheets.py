"""Sheets of pictures as one PNG: feature maps, filters, patches, made images, attacks, embeddings."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.explain.attacks import Adversarial
from fovea.explain.embedding import Embedding
from fovea.explain.patches import Exciting
from fovea.explain.weights import Filters
from fovea.report.lettering import png

__all__ = [
    "MOST_TILES", "Tile", "attack_tiles", "filter_tiles", "filters_drawn", "map_tiles", "patch_tiles", "picture_of",
    "scatter", "sheet", "tile_of",
]  # fmt: skip

Array = npt.NDArray[Any]
_DPI = 110
MOST_TILES = 64
"""Tiles of one sheet."""
_GREY = "#80808080"
_COLOURS = [f"C{i}" for i in range(10)]  # as many classes as the eye tells apart


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture: uint8 H,W or H,W,C, numbers H,W drawn in colours from dark to light, or a signal L,C; its words."""

    value: Array
    words: str = ""
    smooth: bool = False
    is_signal: bool = False


def tile_of(sample: Array, words: str = "", smooth: bool = False) -> Tile:
    """A sample as a tile: a picture, or the lines of a signal L,C."""
    is_signal = sample.ndim == 2 and sample.dtype != np.uint8
    return Tile(sample if is_signal else picture_of(sample), words, smooth, is_signal)


def picture_of(sample: Array) -> Array:
    """What can be drawn of a sample: an image, the middle slice of a volume, the middle frame of a clip, a signal."""
    if sample.ndim == 4:
        sample = sample[len(sample) // 2]
    if sample.ndim == 3 and sample.shape[-1] not in (1, 3):
        sample = sample[..., :1]
    return sample[..., 0] if sample.ndim == 3 and sample.shape[-1] == 1 else sample


def sheet(tiles: Sequence[Tile], title: str, note: str = "", columns: int = 8, side: float = 1.35) -> bytes:
    """PNG of at most 64 tiles in rows, with a title above and a note below. ``side``: inches of one tile."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = list(tiles)[:MOST_TILES]
    columns = max(1, min(columns, len(shown)))
    rows = -(-len(shown) // columns)
    lines = textwrap.wrap(note, int(max(4.0, side * columns) * 14))
    extra = 0.2 if any(tile.words for tile in shown) else 0.05
    alone = shown[0].value if len(shown) == 1 and not shown[0].is_signal else None
    tall = side if alone is None else side * min(1.0, max(0.1, alone.shape[0] / alone.shape[1]))  # a matrix may be wide
    height = rows * (tall + extra * (1 + max(tile.words.count("\n") for tile in shown))) + 0.45 + 0.17 * len(lines)
    figure = Figure(figsize=(max(4.0, side * columns + 0.2), height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(rows, columns)).reshape(-1)
    for panel, tile in zip(axes, shown, strict=False):
        _draw(panel, tile)
    for panel in axes[len(shown) :]:
        panel.set_axis_off()
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    if lines:
        figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=8, color="#555555")
    return png(figure)


def _draw(panel: Any, tile: Tile) -> None:
    value = tile.value
    panel.set(xticks=[], yticks=[])
    for spine in panel.spines.values():
        spine.set_visible(False)
    if tile.is_signal:
        panel.plot(value, linewidth=0.8)
    else:
        how = "bilinear" if tile.smooth else "nearest"
        if value.ndim == 3:
            panel.imshow(value, interpolation=how)
        elif value.dtype == np.uint8:
            panel.imshow(value, cmap="gray", vmin=0, vmax=255, interpolation=how)
        else:
            high = float(value.max())
            panel.imshow(value, cmap="viridis", vmin=float(value.min()), vmax=high if high > value.min() else None,
                         interpolation=how)  # fmt: skip
    if tile.words:
        panel.set_title(tile.words, fontsize=6.5, loc="left", pad=2)


def map_tiles(activation: Array) -> tuple[list[Tile], str]:
    """Channels of one sample's feature map ``*spatial,C``, the strongest first where there are more than a sheet holds;
    and a note."""
    count = activation.shape[-1]
    peaks = activation.reshape(-1, count).max(axis=0)
    order = np.arange(count) if count <= MOST_TILES else np.argsort(-peaks, kind="stable")[:MOST_TILES]
    note = "Each channel from its lowest value (dark) to its highest, which stands above it."
    if count > MOST_TILES:
        note += f" The {MOST_TILES} of {count} channels with the highest values; the array holds all."
    if activation.ndim == 1:
        width = int(np.ceil(np.sqrt(count)))
        padded = np.pad(activation, (0, width * width - count), constant_values=float(activation.min()))
        return [Tile(padded.reshape(width, width))], f"{count} numbers in rows, from the lowest (dark) to the highest."
    is_signal = activation.ndim == 2
    planes = [np.asarray(activation[:, [c]] if is_signal else _plane(activation[..., c])) for c in order]
    words = [f"{c}: {peaks[c]:.3g}" for c in order]
    return [Tile(one, word, is_signal=is_signal) for one, word in zip(planes, words, strict=True)], note


def _plane(values: Array) -> Array:
    """One channel as something to draw: of volumes the middle slice."""
    return np.asarray(values[len(values) // 2] if values.ndim == 3 else values, np.float32)


def filter_tiles(found: Filters, rgb: bool) -> list[Tile]:
    """Filters of a first layer in the colours of the input; of deeper ones, for each output, its strongest slices; of
    1x1 convolutions one matrix, rows for channels and columns for channels below."""
    weight, drawn = found.weight, filters_drawn(found, rgb)
    if weight.ndim == 3:  # of a signal
        return [Tile(np.asarray(one), str(i), is_signal=True) for i, one in enumerate(weight[:drawn])]
    if weight.ndim == 5:
        weight = weight[:, weight.shape[1] // 2]
    if found.is_first and rgb and weight.shape[-1] == 3:
        return [Tile(_stretched(one), str(i)) for i, one in enumerate(weight[:drawn])]
    if found.is_pointwise and weight.shape[-1] > 1:
        return [Tile(_stretched(weight.reshape(len(weight), -1)))]
    tiles = []
    offset = len(weight) // found.groups
    for channel in range(drawn):
        for below in found.strongest(channel, min(8, weight.shape[-1])):
            plane = weight[channel, ..., below - channel // offset * weight.shape[-1]]
            tiles.append(Tile(_stretched(plane), f"{channel}, of {below}"))
    return tiles


def filters_drawn(found: Filters, rgb: bool) -> int:
    """How many of the filters, the first ones, a sheet holds."""
    count, below = len(found.weight), found.weight.shape[-1]
    if found.weight.ndim == 3 or below == 1 or (found.is_first and rgb and below == 3):
        return min(count, MOST_TILES)
    return count if found.is_pointwise else min(count, MOST_TILES // 8)


def _stretched(values: Array) -> npt.NDArray[np.uint8]:
    """Numbers around 0 as bytes around middle grey: no weight is grey, the largest is black or white."""
    size = float(np.abs(values).max()) or 1.0
    return np.round(127.5 + 127.5 * values / size).astype(np.uint8)


def patch_tiles(found: Exciting, most: int = 9) -> list[Tile]:
    """The most exciting patches, one row of ``most`` for each channel."""
    tiles = []
    for row, channel in enumerate(found.channels):
        for rank in range(min(most, found.values.shape[1])):
            if found.samples[row, rank] < 0:
                tiles.append(Tile(np.zeros((1, 1, 3), np.uint8), "none"))
                continue
            word = f"{channel}: " if rank == 0 else ""
            tiles.append(tile_of(found.patch(row, rank), f"{word}{found.values[row, rank]:.3g}"))
    return tiles


def attack_tiles(found: Adversarial) -> list[Tile]:
    """Three tiles for each image: as it was, what was added (amplified), what it became; and what is said of both."""
    tiles = []
    for row, (image, changed, shown) in enumerate(zip(found.images, found.changed, found.amplified(), strict=True)):
        before, after = (_said(one[row]) for one in (found.before, found.after))
        most = int(np.abs(found.perturbation[row]).max())
        tiles += [
            Tile(picture_of(image), before), Tile(picture_of(shown), f"added: at most {most} of 255,\nenlarged"),
            Tile(picture_of(changed), after),
        ]  # fmt: skip
    return tiles


def _said(one: Any) -> str:
    record = one.to_dict()
    name = str(record["label"])
    return f"{name if len(name) <= 28 else name[:26] + '..'}\n{record['probability']:.1%}"


def scatter(found: Embedding, pictures: Sequence[Array] | None, targets: Array | None, names: Sequence[str]) -> bytes:
    """PNG of an embedding: every sample as a thumbnail (``pictures``) or a point, framed by the colour of its class."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    figure = Figure(figsize=(8, 7.2), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    marked = targets if targets is not None and len(names) <= len(_COLOURS) else None
    colours = [_GREY] * len(found.points) if marked is None else [_COLOURS[int(one)] for one in marked]
    axes.scatter(found.points[:, 0], found.points[:, 1], c=colours, s=12)
    for point, picture, colour in zip(found.points, pictures or (), colours, strict=False):
        small = picture_of(picture)
        zoom = 30 / max(small.shape[:2])
        box = OffsetImage(small, zoom=zoom, cmap="gray")
        frame = {"edgecolor": colour, "linewidth": 0.3 if marked is None else 1.5}
        axes.add_artist(AnnotationBbox(box, (float(point[0]), float(point[1])), pad=0.05, bboxprops=frame))
    if marked is not None:
        for index in np.unique(marked).tolist():
            axes.scatter([], [], color=_COLOURS[index], label=names[index])
        axes.legend(fontsize=8, frameon=False, loc="best")
    if found.explained is not None:
        axes.set(xlabel=f"{found.explained[0]:.1%} of the variance", ylabel=f"{found.explained[1]:.1%} of the variance")
    else:
        axes.set(xticks=[], yticks=[])
    axes.set_title({"pca": "Codes on their two principal components", "tsne": "Codes by t-SNE: neighbours are alike, "
                    "distances between groups say nothing"}[found.method], loc="left", fontsize=10)  # fmt: skip
    return png(figure)
