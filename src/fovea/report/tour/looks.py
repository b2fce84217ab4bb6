"""What the layers look for: filters, feature maps, and channels by the images that excite them, found and made."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.explain.channels import ChannelStatistics
from fovea.explain.maps import activations
from fovea.explain.patches import Exciting, exciting
from fovea.explain.visualise import Visualisation, maximise
from fovea.explain.weights import filters
from fovea.graph.graph import Ref
from fovea.graph.receptive import receptive_fields
from fovea.report import network, pictures
from fovea.report.page import Section, text
from fovea.report.tour.visit import Visit, evenly

__all__ = ["channels", "feature_maps", "first_filters", "made_for_channels"]

Array = npt.NDArray[Any]
CHANNELS = 4
PATCHES = 6
STEPS = 96
_MAPS = 8
_SHARE = 0.03  # of the time of a tour must be left for images of a layer whose cost is not known yet


def first_filters(visit: Visit) -> Section | None:
    """The filters of the first layer, and what those of the next are and are not."""
    try:
        first = filters(visit.model)
    except Exception as error:  # a network without a convolution
        visit.left_out.append(f"filters: {error}")
        return None
    body = network.filters(visit.model).body
    second = next((node.name for node in visit.model.graph.nodes.values()
                   if node.op.kind == "conv" and node.name != first.layer), None)  # fmt: skip
    if second is not None:
        deep = filters(visit.model, second)
        weight = deep.weight if deep.weight.ndim == 4 else None
        if weight is not None and weight.shape[1] > 1:
            tiles = []
            for channel in range(min(4, len(weight))):
                slices = deep.strongest(channel, min(8, weight.shape[-1]))
                offset = channel // (len(weight) // deep.groups) * weight.shape[-1]
                tiles += [pictures.image(_grey(weight[channel, ..., i - offset]), f"{channel} of {i}") for i in slices]
            body += f'<h3>{text(second)}</h3><p>{text(deep.note())}</p><div class="tiles maps16">{"".join(tiles)}</div>'
    return Section("filters", "First-layer filters", body)


def _grey(values: Array) -> npt.NDArray[np.uint8]:
    size = float(np.abs(values).max()) or 1.0
    return np.round(127.5 + 127.5 * values / size).astype(np.uint8)


def feature_maps(visit: Visit) -> Section | None:
    """What the layers make of the given pictures: of each the channels that answer most."""
    if not len(visit.images) or not visit.stops:
        return None
    found = activations(visit.model, visit.given, visit.stops, engine=visit.engine)
    parts = []
    for row, name in enumerate(visit.names):
        rows = []
        for layer in visit.stops:
            activation = found[layer][row]
            flat = activation.reshape(-1, activation.shape[-1])
            order = np.lexsort((-flat.mean(axis=0), -flat.max(axis=0)))  # of those that reach a limit, the widest
            strongest = np.sort(order[:_MAPS])
            words = ", ".join(str(int(one)) for one in strongest)
            drawn = pictures.maps(activation[..., strongest], activation.ndim - 1)
            shape = " x ".join(map(str, activation.shape))
            rows.append(f"<div><h3>{text(layer)} <small>{shape}; channels {words}</small></h3>{drawn}</div>")
        inner = f'<div class="maps">{"".join(rows)}</div>'
        head = f'<div class="sample">{pictures.sample(visit.known.kind, visit.images[row], name)}</div>'
        parts.append(f"<details{' open' if row == 0 else ''}><summary>{text(name)}</summary>{head}{inner}</details>")
    note = f"The {_MAPS} channels of each layer with the highest values for a picture, each from dark to bright."
    return Section("maps", "Feature maps", f"<p>{note}</p>{''.join(parts)}")


def chosen_channels(visit: Visit, layer: str, statistics: dict[str, ChannelStatistics] | None) -> list[int]:
    """Some channels of a layer, evenly spread over those that change at all."""
    live = np.arange(int(visit.graph.shape(layer)[-1] or 0))
    if statistics is not None and layer in statistics:
        changing = live[~statistics[layer].dead]
        live = changing if len(changing) else live
    return [int(live[row]) for row in evenly(len(live), CHANNELS)]


def made_for_channels(visit: Visit, chosen: dict[str, list[int]]) -> dict[str, Visualisation]:
    """Images made for some channels of each stop, the deepest layers first, as long as time allows."""
    made: dict[str, Visualisation] = {}
    if not visit.has_gradients:
        return made
    rate = 0.0  # seconds for a multiply-add, once a layer has been made
    for layer in reversed(visit.stops):
        work = float(sum(node.op.macs(*node.input_shapes) for node in visit.graph.pruned([Ref(layer)]).nodes.values()))

        def make(layer: str = layer) -> Visualisation:
            return maximise(visit.model, layer, chosen[layer], steps=STEPS, seed=visit.seed, engine=visit.engine)

        before = visit.left
        found = visit.attempt(f"images made for {layer}", make, max(rate * work, _SHARE * visit.seconds))
        if found is not None:
            made[layer], rate = found, max(rate, (before - visit.left) / max(work, 1.0))
    return made


def found_in_data(visit: Visit, chosen: dict[str, list[int]]) -> dict[str, Exciting]:
    """The most exciting patches of the data for the same channels, in one pass."""
    if visit.samples is None or not visit.stops:
        return {}
    return exciting(visit.model, visit.samples, visit.stops, chosen, top_k=PATCHES, engine=visit.engine)


def channels(
    visit: Visit, chosen: dict[str, list[int]], found: dict[str, Exciting], made: dict[str, Visualisation]
) -> Section | None:
    """For some channels of every stop: the image made for it beside the patches that excite it most."""
    if not found and not made:
        return None
    fields = receptive_fields(visit.graph)
    parts = []
    for layer in visit.stops:
        cards = []
        for row, channel in enumerate(chosen[layer]):
            drawn = ""
            if layer in made:
                one = made[layer]
                word = f"made: {one.start[row]:.3g} to {one.values[row]:.3g}" if one.depends[row] else "never changes"
                drawn += f"<figure>{pictures.sample(visit.known.kind, one.images[row], word)}</figure>"
            if layer in found:
                drawn += f'<div class="patches">{_patches(visit, found[layer], row)}</div>'
            cards.append(f'<div class="channel"><h4>channel {channel}</h4>{drawn}</div>')
        words = f"sees {_seen(visit, fields[layer])}"
        words += ", and a factor of all of it" if layer in found and found[layer].gated else ""
        parts.append(f"<h3>{text(layer)} <small>{words}</small></h3><div class='cards'>{''.join(cards)}</div>")
    note = "Some channels of each layer. "
    if made:
        note += """Large: an image made by gradient ascent, from noise, so that the channel answers to it as strongly
            as possible at all positions. """
    if found:
        note += """Small: the parts of the data that excite the channel most, cut out to all that its value depends on.
            What they have in common is what the channel answers to here, and perhaps not all of it."""
    return Section("channels", "What channels look for", f"<p>{text(note)}</p>{''.join(parts)}")


def _seen(visit: Visit, field: Any) -> str:
    """The receptive field in words."""
    whole = [size or 1 for size in visit.graph.input_shapes[0][:-1]]
    if field is None or any(one.jump == 0 or one.size >= size for one, size in zip(field, whole, strict=True)):
        return "all of the input"
    return f"{'x'.join(str(one.size) for one in field)} of the input"


def _patches(visit: Visit, found: Exciting, row: int) -> str:
    tiles = []
    for rank in range(found.values.shape[1]):
        if found.samples[row, rank] < 0:
            continue
        word = f"{found.values[row, rank]:.3g}"
        cut = found.patch(row, rank)
        tiles.append(f"<figure>{pictures.sample(visit.known.kind, cut, word)}<figcaption>{word}</figcaption></figure>")
    return "".join(tiles)
