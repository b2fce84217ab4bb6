"""What a network is made of, layer by layer: shapes, parameters, MACs, memory, receptive fields."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fovea.graph.graph import Graph
from fovea.graph.receptive import receptive_fields
from fovea.ops.base import Shape

__all__ = ["Summary", "summarize"]


@dataclass(frozen=True)
class Summary:
    """``rows``: one dict per node; ``totals``: parameters, macs, activation_bytes, for ONE sample. ``str()`` is a
    table.

    MACs are multiply-accumulates (FLOPs = 2 x MACs); bytes are float32. None where an open size leaves a figure open.
    """

    name: str
    rows: list[dict[str, Any]]
    totals: dict[str, Any]
    note: str = ""
    """What else there is to say, in a last line."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: name, layers, totals."""
        return {
            "name": self.name, "layers": self.rows, "totals": self.totals, **({"note": self.note} if self.note else {})
        }  # fmt: skip

    def __str__(self) -> str:
        head = ["layer", "op", "output", "parameters", "MACs", "memory", "receptive field", "jump"]
        table = [head] + [
            [
                row["name"],
                row["op"],
                _shape_text(row["output_shape"]),
                f"{row['parameters']:,}" if row["parameters"] else "",
                _count(row["macs"]) if row["macs"] != 0 else "",
                _bytes(row["activation_bytes"]),
                _per_axis(row["receptive_field"]),
                _per_axis(row["jump"]),
            ]
            for row in self.rows
        ]
        widths = [max(len(line[column]) for line in table) for column in range(len(head))]
        left = (0, 1, 2)
        lines = [
            "  ".join(
                cell.ljust(width) if column in left else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in table
        ]
        totals = self.totals
        lines.insert(1, "-" * max(map(len, lines)))
        lines.append("-" * max(map(len, lines)))
        lines.append(
            f"{self.name or 'model'}: {totals['parameters']:,} parameters ({_bytes(4 * totals['parameters'])}), "
            f"{_count(totals['macs'])} MACs and {_bytes(totals['activation_bytes'])} of activations per sample"
        )
        return "\n".join([*lines, self.note] if self.note else lines)


def summarize(graph: Graph, name: str = "", note: str = "") -> Summary:
    """The summary of a graph for its own input shape."""
    fields = receptive_fields(graph)
    rows: list[dict[str, Any]] = []
    for node in graph.nodes.values():
        seen = fields[node.name]
        closed = all(size is not None for shape in (*node.input_shapes, *node.output_shapes) for size in shape)
        elements = sum(math.prod(size or 0 for size in shape) for shape in node.output_shapes)
        rows.append(
            {
                "name": node.name,
                "op": type(node.op).__name__.lstrip("_"),
                "inputs": [ref.node for ref in node.inputs],
                "output_shape": list(node.output_shapes[0]),
                "parameters": sum(spec.size for spec in node.parameters.values()),
                "macs": node.op.macs(*node.input_shapes) if closed else None,
                "activation_bytes": 4 * elements if closed else None,
                "receptive_field": None if seen is None else [field.size or None for field in seen],
                "jump": None if seen is None else [field.jump or None for field in seen],
            }
        )
    totals: dict[str, Any] = {"parameters": sum(row["parameters"] for row in rows)}
    for key in ("macs", "activation_bytes"):
        values = [row[key] for row in rows]
        totals[key] = None if any(value is None for value in values) else sum(values)
    return Summary(name, rows, totals, note)


def _shape_text(shape: Shape | list[int | None]) -> str:
    return " x ".join("?" if size is None else str(size) for size in shape) or "scalar"


def _per_axis(values: list[int | None] | None) -> str:
    if values is None:
        return ""
    texts = ["all" if value is None else str(value) for value in values]
    return texts[0] if len(set(texts)) == 1 else " x ".join(texts)


def _count(value: int | None) -> str:
    if value is None:
        return "open"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}" if value / size < 100 else f"{value / size:.0f}{unit}"
    return str(value)


def _bytes(value: int | None) -> str:
    if value is None:
        return "open"
    for size, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value} B"
