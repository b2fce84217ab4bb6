"""Sections about the network itself: first-layer filters, feature maps of one sample, and the table of layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fovea.graph.graph import Graph, Node
from fovea.graph.summary import summarize
from fovea.model import Model
from fovea.report import pictures
from fovea.report.facts import Facts
from fovea.report.page import Section, count, table, text

__all__ = ["feature_maps", "filters", "layers"]

_SHOWN = {
    "relu",
    "relu6",
    "leakyrelu",
    "prelu",
    "silu",
    "gelu",
    "hardswish",
    "elu",
    "selu",
    "softplus",
    "mish",
    "tanh",
    "sigmoid",
    "add",
    "concat",
    "maxpool",
    "avgpool",
}
_LAYERS = 6


def filters(model: Model) -> Section:
    """The weights of the first convolution, or of the first dense layer that sees the whole input."""
    graph = model.graph
    first = next((node for node in graph.nodes.values() if node.op.kind in ("conv", "dense")), None)
    drawn = ""
    if first is not None:
        weight = model.parameters()[f"{first.name}.weight"]
        drawn = pictures.filters(weight, graph.shape(first.inputs[0]) if weight.ndim > 2 else graph.input_shapes[0])
    if first is None or not drawn:
        return Section("filters", "First layer", "<p>The first layer has no weights that make a picture.</p>")
    shape = " x ".join(map(str, weight.shape))
    note = f"{first.name}.weight, {shape}: what each output channel looks for in the input. "
    if len(graph.input_shapes[0]) == 2:
        note += "Each curve is one of them over time."
    elif graph.input_shapes[0][-1] == 3:
        note += "Colours are red, green and blue of the input."
    else:
        note += "Bright raises the output, dark lowers it."
    return Section("filters", "First-layer filters", f"<p>{text(note)}</p>{drawn}")


def feature_maps(facts: Facts) -> Section:
    """What several layers make of one sample."""
    if facts.inputs is None or not len(facts.inputs) or facts.split is None or facts.model.preprocessing is None:
        return Section(
            "maps", "Feature maps", f"<p>Not shown: {text(facts.absent or 'the model has no preprocessing')}</p>"
        )
    chosen = _chosen(facts)
    sample = facts.inputs[:1]
    kept = facts.model.forward(facts.model.preprocessing.apply_pixels(sample), keep=[node.name for node in chosen])
    parts = [
        f'<div class="sample"><h3>input <small>{text(facts.split.ids[0])}</small></h3>'
        f"{pictures.sample(facts.split.kind, sample[0], facts.split.ids[0])}</div>"
    ]
    for node in chosen:
        activation = np.asarray(kept[node.name])[0]
        shape = " x ".join(map(str, activation.shape))
        drawn = pictures.maps(activation, activation.ndim - 1)
        parts.append(f"<div><h3>{text(node.name)} <small>{shape}</small></h3>{drawn}</div>")
    note = "One sample on its way through the network; "
    if facts.split.kind == "signal":
        note += "rows are channels (at most 32), time runs to the right, from the lowest value (dark) to the highest."
    else:
        note += "at most 16 channels a layer, each from its lowest value (dark) to its highest."
    if facts.split.kind in ("volume", "clip"):
        note += f" Of a {facts.split.kind} the middle {'slice' if facts.split.kind == 'volume' else 'frame'} is shown."
    return Section("maps", "Feature maps", f'<p>{note}</p><div class="maps">{"".join(parts)}</div>')


def _chosen(facts: Facts) -> list[Node]:
    """Up to six layers, evenly spread over those whose output is worth a look."""
    graph = facts.model.graph
    depth = len(graph.input_shapes[0])
    spatial = [node for node in graph.nodes.values() if node.op.kind in _SHOWN and len(node.output_shapes[0]) == depth]
    if not spatial:
        spatial = [node for node in graph.nodes.values() if node.op.kind in (*_SHOWN, "conv", "dense")]
    rows = np.unique(np.linspace(0, len(spatial) - 1, min(_LAYERS, len(spatial))).round().astype(int))
    return [spatial[row] for row in rows]


def layers(model: Model, graph: Graph | None = None) -> Section:
    """Every layer: output shape, parameters, MACs, memory, receptive field; of the model's graph, or at other sizes."""
    summary = model.summary() if graph is None else summarize(graph)
    rows: list[tuple[Any, ...]] = [
        (
            row["name"], row["op"], " x ".join("?" if size is None else str(size) for size in row["output_shape"]),
            row["parameters"] or "", _open(row["macs"]), _open(row["activation_bytes"]), _axes(row["receptive_field"]),
            _axes(row["jump"]),
        )
        for row in summary.rows
    ]  # fmt: skip
    head = ["layer", "op", "output", "parameters", "MACs", "bytes", "receptive field", "jump"]
    shown = table(head, rows, left=3)
    totals = summary.totals
    note = (
        f"{count(totals['parameters'])} parameters; for one sample {_open(totals['macs'])} MACs (FLOPs = 2 x MACs) "
        f"and {_open(totals['activation_bytes'])} bytes of activations. The receptive field is what one output "
        "element sees of the input; its jump is how far neighbours are apart there."
    )
    if len(rows) > 30:
        shown = f"<details><summary>{len(rows)} layers</summary>{shown}</details>"
    return Section("network", "Network", f"<p>{text(note)}</p>{shown}")


def _open(value: int | None) -> str:
    return "open" if value is None else count(value) if value else ""


def _axes(values: list[int | None] | None) -> str:
    if values is None:
        return ""
    words = ["all" if value is None else str(value) for value in values]
    return words[0] if len(set(words)) == 1 else " x ".join(words)
