"""Names for imported nodes: those of the network that was exported, where the file still tells them."""

from __future__ import annotations

import re
from collections.abc import Iterable

import onnx

__all__ = ["Names"]


class Names:
    """Gives every node a name of its own.

    In order: the common stem of its weights ("layer1.0.conv1.weight" -> "layer1.0.conv1"), the path that exporters
    write into the node's name ("/layer1/layer1.0/conv1/Conv" or "conv1/Conv" -> "layer1.0.conv1"), kind and count.
    """

    def __init__(self, weight_names: Iterable[str]) -> None:
        self._weights = set(weight_names)
        self._taken: set[str] = set()
        self._counts: dict[str, int] = {}
        self._used: dict[str, int] = {}

    def take(self, name: str) -> str:
        """This name, or with a number behind it when it is in use."""
        name = re.sub(r"[^\w.\-]", "_", name)[:200] or "node"
        free, count = name, self._used.get(name, 0)
        while free in self._taken:
            count = max(count, 1) + 1
            free = f"{name}_{count}"
        self._used[name] = count
        self._taken.add(free)
        return free

    def for_node(self, node: onnx.NodeProto, kind: str, hint: str = "") -> str:
        """The name of a node of ours that comes from a node of the file."""
        if kind in ("conv", "convtranspose", "dense", "batchnorm", "groupnorm", "layernorm", "prelu"):
            stems = [name.rsplit(".", 1)[0] for name in node.input[1:] if name in self._weights and "." in name]
            if stems and not stems[0].startswith("onnx::"):
                return self.take(stems[0])
        path = _module_path(node)
        if path:
            return self.take(f"{path}.{hint or kind}" if hint or not _own(kind, node) else path)
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return self.take(f"{kind}{self._counts[kind]}")


def _own(kind: str, node: onnx.NodeProto) -> bool:
    """Whether the node of ours is what the file's node stands for, not a helper beside it."""
    return kind not in ("constant", "reshape", "transpose") or node.op_type.lower() == kind


def _module_path(node: onnx.NodeProto) -> str:
    parts = [part for part in node.name.split("/") if part]
    ends = len(parts) > 1 and parts[-1] == node.op_type
    if not parts or not (node.name.startswith("/") or ends):
        return ""
    if re.fullmatch(rf"{node.op_type}(_\d+)?", parts[-1]):
        parts.pop()
    path: list[str] = []
    for part in parts:
        if path and part.startswith(path[-1] + "."):  # "layer1", "layer1.0": the second repeats the first
            path[-1] = part
        else:
            path.append(part)
    return ".".join(path)
