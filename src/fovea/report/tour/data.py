"""What data say of the network: channels that do nothing, which samples are alike to it, and what each depth knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.explain.channels import ChannelStatistics, activation_layers, channel_statistics
from fovea.explain.embedding import Embedding, embed
from fovea.features.depth import DepthProbes, probe_depths
from fovea.features.extract import codes
from fovea.report import pictures
from fovea.report.depth import accuracy_by_depth
from fovea.report.page import Section, count, percent, table, text
from fovea.report.tour.visit import Visit, evenly

__all__ = ["alike", "dead_channels", "probes", "statistics"]

Array = npt.NDArray[Any]
_SHOWN = 240
_WIDE, _HIGH, _SIDE = 1000, 640, 34


def statistics(visit: Visit) -> dict[str, ChannelStatistics] | None:
    """Of all activations and of the layers at which the tour stops; None without data."""
    if visit.samples is None:
        return None
    names = list(dict.fromkeys([*activation_layers(visit.graph), *visit.stops]))
    return channel_statistics(visit.model, visit.samples, names, engine=visit.engine) if names else None


def dead_channels(visit: Visit, found: dict[str, ChannelStatistics] | None) -> Section | None:
    """A table of the activations: dead, always active, saturated channels, and the share of zeros."""
    wanted = set(activation_layers(visit.graph))
    chosen = [one for name, one in (found or {}).items() if name in wanted]
    if not chosen:
        return None
    rows = [
        (one.layer, one.kind, len(one.mean), int(one.dead.sum()), int(one.always.sum()), int(one.saturated.sum()),
         percent(float(one.zeros.mean()), 1))
        for one in chosen
    ]  # fmt: skip
    dead, all_ = sum(row[3] for row in rows), sum(row[2] for row in rows)
    head = ["activation", "op", "channels", "dead", "always active", "saturated", "zeros"]
    note = f"""Over {count(chosen[0].samples)} samples. Dead channels never change: {dead} of {count(all_)}. Always
        active ones lie above the lower limit everywhere, so that their rectifier does nothing; saturated
        ones lie at a limit nine times out of ten (of ReLU6 the upper)."""
    shown = table(head, rows, left=2)
    if len(rows) > 14:
        noted = [row for row in rows if row[3]]
        some = f"<p>Layers with dead channels:</p>{table(head, noted, left=2)}" if noted else ""
        shown = f"{some}<details><summary>all {len(rows)} activations</summary>{shown}</details>"
    return Section("dead", "Channels that do nothing", f"<p>{text(note)}</p>{shown}")


def alike(visit: Visit) -> Section | None:
    """The data in the plane, by the features that the classifier reads."""
    if visit.samples is None or visit.known.kind not in ("image", "clip") or len(visit.samples) < 3:
        return None
    if visit.is_detector:
        visit.left_out.append("the data in the plane: a detector has a code for every place, none for the picture")
        return None
    samples = visit.samples.take(evenly(len(visit.samples), _SHOWN))

    def make() -> tuple[Embedding, str]:
        found = codes(visit.model, samples, engine=visit.engine)
        method = "tsne" if _has_sklearn() and len(samples) >= 10 else "pca"
        return embed(found.array, method, seed=visit.seed), next(iter(found.nodes.values()))

    made = visit.attempt("the data in the plane", make, 0.02 * visit.seconds)
    if made is None:
        return None
    points, layer = made
    assert visit.data is not None
    targets = samples.targets if visit.labelled else None
    names = visit.data.classes
    few = targets is not None and len(names) <= 10 and visit.data.task == "classification"
    drawn = _plane(points.points, samples.inputs, targets if few else None)
    how = "the two principal components"
    if points.method == "tsne":
        how = "t-SNE: neighbours are alike to the network, distances between groups say nothing"
    key = "".join(f'<span class="swatch s{i}">{text(name)}</span> ' for i, name in enumerate(names)) if few else ""
    note = f"{len(samples)} samples of {visit.data.name} by their codes at {layer}, in {how}."
    return Section("alike", "What is alike to it", f"<p>{text(note)}</p><p>{key}</p>{drawn}")


def _has_sklearn() -> bool:
    import importlib.util

    return importlib.util.find_spec("sklearn") is not None


def _plane(points: Array, samples: Array, targets: Array | None) -> str:
    """Thumbnails at their points, framed in the colours of their classes."""
    low, high = points.min(axis=0), points.max(axis=0)
    places = (points - low) / np.maximum(high - low, 1e-12) * [_WIDE - _SIDE, _HIGH - _SIDE]
    parts = []
    for number, (place, sample) in enumerate(zip(places, samples, strict=True)):
        x, y = place[0], _HIGH - _SIDE - place[1]
        still = sample[len(sample) // 2] if sample.ndim == 4 else sample
        style = f"left:{100 * x / _WIDE:.2f}%;top:{100 * y / _HIGH:.2f}%;width:{100 * _SIDE / _WIDE:.2f}%"
        name = f' class="s{int(targets[number])}"' if targets is not None else ""
        parts.append(f'<div style="{style}"{name}>{pictures.image(_small(still))}</div>')
    return f'<div class="plane">{"".join(parts)}</div>'


def _small(image: Array) -> Array:
    from fovea.data import spatial

    side = max(image.shape[:2])
    if side <= 48:
        return image
    height, width = (max(1, round(n * 48 / side)) for n in image.shape[:2])
    return spatial.resize(image, height, width)


def probes(visit: Visit) -> Section | None:
    """The accuracy of a linear probe by depth, where the data have classes."""
    if visit.data is None or not visit.labelled or visit.data.task != "classification" or len(visit.data.classes) < 2:
        return None
    data = visit.data
    if min(data.train.class_counts()) < 5:
        visit.left_out.append("probes by depth: every class needs five samples")
        return None

    def make() -> DepthProbes:
        return probe_depths(visit.model, data, engine=visit.engine, seed=visit.seed)

    found = visit.attempt("probes by depth", make, 0.1 * visit.seconds)
    if found is None:
        return None
    note = """A linear classifier learned from the codes of each layer: how much of the answer is there already,
        for one that only adds up (Alain and Bengio 2016)."""
    return Section("probes", "What each depth knows", f"<p>{text(note)}</p><figure>{accuracy_by_depth(found)}</figure>")
