"""Which neighbouring nodes run as one: found before lowering, as rules that replace those of the single nodes.

* convolution (dense) + ReLU or ReLU6: the clamp happens in the convolution's tiles.
* convolution (dense) + batch norm with constant statistics: folded into the weights, renewed when they change; in a
  lean plan in every run, where nothing is differentiated.
* pointwise + depthwise 3x3 + pointwise convolutions (+ addition), each with its batch norm and clamp, where nothing is
  differentiated: one pass in bands of rows, so that the widened activations stay in cache.
* batch norm + addition + ReLU (ReLU6), each of the last two optional: one pass forward after the statistics, and one
  after the sums backward; which elements the ReLU let through follows from its output or from the input again.
* batch norm (+ ReLU or ReLU6) + depthwise 3x3 in training: the convolution normalises the rows that it reads, and takes
  the statistics for a batch norm behind it; what lies between is never stored.
* batch norm (+ ReLU or ReLU6) + pointwise convolution from many channels to fewer, in training: the same.
* pointwise convolution + batch norm in training: the convolution takes the statistics.
* addition + ReLU.
* convolution with few channels + ReLU (optional) + max-pooling over 2x2: the map between is not stored.
* ReLU + max-pooling, backward: the gradient is masked by the pooled values, before it is spread.
* convolution with few channels + ReLU (optional) + max-pooling over 2x2, backward: the gradient is not spread at all.

A node is absorbed only when one other node reads it and nobody asked for it: not an output, not kept, no ``wrt``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from fovea.engines.native.executable import core
from fovea.engines.native.rules.between import between_norms, between_norms_backward, pays_between
from fovea.engines.native.rules.fused import (
    added_and_clamped,
    clamped,
    folded_backward,
    folded_forward,
    norm_backward,
    norm_forward,
)
from fovea.engines.native.rules.inverted import Block, Stage, inverted_forward, is_depthwise3, is_pointwise, pays
from fovea.engines.native.rules.normed import (
    normed_depthwise,
    normed_depthwise_backward,
    normed_pointwise_backward,
    pointwise_pays,
    statistics,
)
from fovea.engines.native.rules.pooled import pooled_forward, pooling_pays, winners_backward, winners_pay
from fovea.engines.native.rules.rule import Emit, no_gradient, same_gradient
from fovea.engines.spec import PlanSpec
from fovea.graph.graph import Node, Ref
from fovea.ops import ReLU, ReLU6

__all__ = ["Fusions", "find_fusions"]


@dataclass
class Fusions:
    """Rules by node name, in place of the op's own. ``gated``: ReLUs whose mask the max-pooling behind them applies.
    ``measured``: batch norms whose statistics are taken by the convolution before them. ``through``: those whose
    gradient the convolution before them computes, from the one behind the clamp.
    """

    forward: dict[str, Emit] = field(default_factory=dict)
    backward: dict[str, Emit] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    measured: set[str] = field(default_factory=set)
    through: set[str] = field(default_factory=set)


def find_fusions(spec: PlanSpec) -> Fusions:
    """All fusions of a plan, in the order of its nodes; a node takes part in one."""
    finder = _Finder(spec)
    for node in spec.graph.nodes.values():
        if node.op.kind == "conv" and node.name not in finder.taken:
            finder.inverted(node)
    for node in spec.graph.nodes.values():
        if node.op.kind in ("conv", "dense") and node.name not in finder.taken:
            finder.convolution(node)
    for node in spec.graph.nodes.values():
        if node.op.kind == "batchnorm" and node.name not in finder.taken:
            finder.norm(node)
        if node.op.kind == "conv" and node.name not in finder.taken:
            finder.pointwise(node)
    for node in spec.graph.nodes.values():
        if node.op.kind == "add" and node.name not in finder.taken:
            finder.addition(node)
        if node.op.kind == "relu":
            finder.gate(node)
    for node in spec.graph.nodes.values():
        if node.op.kind == "maxpool":
            finder.winners(node)
    return finder.found


class _Finder:
    def __init__(self, spec: PlanSpec) -> None:
        self.spec = spec
        self.found = Fusions()
        self.taken: set[str] = set()
        self._readers = spec.graph.consumers()
        self._asked = {*spec.keep, *spec.wrt, *(ref.node for ref in (*spec.outputs, *spec.losses))}

    def _reader(self, node: Node) -> Node | None:
        """The only node that reads this one, when nobody else wants its value."""
        readers = self._readers.get(Ref(node.name), [])
        if len(readers) != 1 or node.name in self._asked or node.op.num_outputs != 1:
            return None
        reader = self.spec.graph.node(readers[0])
        return None if reader.name in self.taken else reader

    def _clamp(self, node: Node) -> Node | None:
        """The ReLU or ReLU6 that alone reads a node."""
        reader = self._reader(node)
        if reader is None:
            return None
        plain = isinstance(reader.op, (ReLU, ReLU6)) and reader.op.backward_rule == "standard"
        return reader if plain else None

    def _replace(self, absorbed: Iterator[Node] | list[Node], last: Node, forward: Emit) -> None:
        for node in absorbed:
            self.found.forward[node.name] = no_gradient
            self.taken.add(node.name)
        self.found.forward[last.name] = forward
        self.taken.add(last.name)

    def inverted(self, node: Node) -> None:
        """A block that begins with this convolution, in networks that nobody differentiates."""
        up = self._stage(node) if is_pointwise(node) else None
        middle = self._reader(up.nodes[-1]) if up else node
        if middle is None or not is_depthwise3(middle):
            return
        deep = self._stage(middle)
        third = self._reader(deep.nodes[-1])
        if third is None or not is_pointwise(third):
            return
        down = self._stage(third)
        add = self._reader(down.nodes[-1])
        if add is None or add.op.kind != "add" or len(add.inputs) != 2 or len(set(add.input_shapes)) != 1:
            add = None
        if add is not None and add.inputs[0] == add.inputs[1]:
            return
        block = Block(up, deep, down, add)
        carries = any(one.name in self.spec.differentiated for one in block.nodes)
        if carries or not pays(block, self.spec.batch_size, self.spec.precision):
            return
        *inner, last = block.nodes
        self._replace(inner, last, partial(inverted_forward, block))

    def _stage(self, conv: Node) -> Stage:
        norm = self._foldable(conv)
        return Stage(conv, norm, self._clamp(norm or conv))

    def convolution(self, node: Node) -> None:
        """Fold the normalisation, clamp in the tiles, or both."""
        norm = self._foldable(node)
        last = norm or node
        clamp = self._clamp(last)
        if norm is None and self._pooled(node, clamp):
            return
        if norm is None and clamp is None:
            return
        inner = [one for one in (node, norm) if one is not None and one is not (clamp or last)]
        if norm is None:
            self._replace(inner, clamp or last, partial(clamped, node))
            return
        self._replace(inner, clamp or last, partial(folded_forward, node, norm, clamp))
        self.found.backward[norm.name] = same_gradient
        self.found.backward[node.name] = folded_backward

    def _pooled(self, node: Node, clamp: Node | None) -> bool:
        """Pool in the convolution's tiles, when one max-pooling reads it or its ReLU; whether that was done."""
        last = clamp or node
        pool = self._reader(last)
        plain = clamp is None or clamp.op.kind == "relu"
        if pool is None or pool.op.kind != "maxpool" or not plain:
            return False
        if not pooling_pays(node, pool, core().vector_floats()):
            return False
        self._replace([node, last], pool, partial(pooled_forward, node, clamp))
        return True

    def _foldable(self, node: Node) -> Node | None:
        norm = self._reader(node)
        if norm is None or norm.op.kind != "batchnorm" or self.spec.trains(norm):
            return None
        trained = any(path in self.spec.trainable for path in (*node.parameters, *norm.parameters))
        twice = self.spec.lean and node.name in self.spec.differentiated  # folded anew for the way up and the way down
        return None if trained or twice else norm

    def normed_depthwise(self, norm: Node) -> bool:
        """Whether a depthwise convolution alone reads a batch norm in training: it then normalises what it reads."""
        clamp, first = self._clamp(norm), self.spec.graph.node(norm.inputs[0].node)
        alone = self._reader(first) is norm
        last = clamp or norm
        conv = self._reader(last)
        if conv is None or not is_depthwise3(conv) or not self.spec.trains(norm):
            return False
        behind = self._measured(conv)
        self._replace([norm] if clamp else [], last, partial(statistics, norm))
        self._replace([], conv, partial(normed_depthwise, norm, clamp, behind))
        self.found.backward[conv.name] = partial(normed_depthwise_backward, norm, clamp, behind)
        through = alone and is_pointwise(first) and first.name in self.spec.differentiated
        through = through and first.name not in self.found.backward  # it does not read a norm in its turn
        if through and not first.op.use_bias and pointwise_pays(first, self.spec.batch_size):  # type: ignore[attr-defined]
            self.found.through.add(norm.name)
            self.found.backward[first.name] = partial(normed_pointwise_backward, norm)
        return True

    def _measured(self, conv: Node) -> Node | None:
        """The batch norm that alone reads a convolution, whose statistics that one is to take."""
        behind = self._reader(conv)
        if behind is None or behind.op.kind != "batchnorm" or not self.spec.trains(behind):
            return None
        self.found.measured.add(behind.name)
        return behind

    def pointwise(self, conv: Node) -> None:
        """A pointwise convolution that takes the statistics of the batch norm behind it."""
        if pays_between(conv, self.spec.batch_size) and (behind := self._measured(conv)) is not None:
            self._replace([], conv, partial(between_norms, None, None, behind))

    def norm_before_pointwise(self, norm: Node) -> bool:
        """Whether a pointwise convolution alone reads a batch norm in training: it then normalises what it reads."""
        clamp, first = self._clamp(norm), self.spec.graph.node(norm.inputs[0].node)
        last = clamp or norm
        conv = self._reader(last)
        if conv is None or not pays_between(conv, self.spec.batch_size):
            return False
        wide = (norm.output_shapes[0][-1] or 0) > (conv.output_shapes[0][-1] or 0)
        if not wide or not self.spec.trains(norm):
            return False
        # A depthwise convolution before the norm takes the gradient through it.
        through = self._reader(first) is norm and first.name in self.found.backward and is_depthwise3(first)
        if through and not first.op.use_bias:  # type: ignore[attr-defined]
            self.found.through.add(norm.name)
        behind = self._measured(conv)
        self._replace([norm] if clamp else [], last, partial(statistics, norm))
        self._replace([], conv, partial(between_norms, norm, clamp, behind))
        self.found.backward[conv.name] = partial(between_norms_backward, norm, clamp)
        return True

    def norm(self, node: Node) -> None:
        """Batch norm with what follows it."""
        if self.normed_depthwise(node) or self.norm_before_pointwise(node):
            return
        add = self._reader(node)
        if add is None or add.op.kind != "add" or len(add.inputs) != 2 or len(set(add.input_shapes)) != 1:
            add = None
        clamp = self._clamp(add or node)
        last = clamp or add
        if last is None:
            return
        inner = [one for one in (node, add) if one is not None and one is not last]
        self._replace(inner, last, partial(norm_forward, node, add, clamp))
        self.found.backward[last.name] = partial(norm_backward, node, add, clamp)

    def addition(self, node: Node) -> None:
        """Two equal shapes, then ReLU."""
        clamp = self._clamp(node)
        equal = len(node.inputs) == 2 and node.input_shapes[0] == node.input_shapes[1]
        if clamp is not None and clamp.op.kind == "relu" and equal:
            self._replace([node], clamp, partial(added_and_clamped, node))

    def gate(self, node: Node) -> None:
        """A plain ReLU that one max-pooling reads, and whose gradient nobody asked for."""
        readers = self._readers.get(Ref(node.name), [])
        plain = isinstance(node.op, ReLU) and node.op.backward_rule == "standard"
        if plain and self._one_gradient(node) and self.spec.graph.node(readers[0]).op.kind == "maxpool":
            self.found.gated.add(node.name)
            self.found.backward.setdefault(node.name, same_gradient)

    def _one_gradient(self, node: Node) -> bool:
        """Whether one reader alone sends a gradient, and nobody asked for it."""
        hidden = node.name not in self.spec.wrt and all(ref.node != node.name for ref in self.spec.outputs)
        return hidden and len(self._readers.get(Ref(node.name), [])) == 1

    def winners(self, pool: Node) -> None:
        """Backward of a convolution from what its max-pooling, behind a ReLU or not, picked."""
        above = self.spec.graph.node(pool.inputs[0].node)
        clamp = above if above.name in self.found.gated else None
        conv = self.spec.graph.node(clamp.inputs[0].node) if clamp else above
        ours = conv.name not in self.found.backward and f"{conv.name}.weight" in self.spec.trainable
        if not ours or not self._one_gradient(conv):
            return
        needs_data = conv.inputs[0].node in self.spec.differentiated
        if winners_pay(conv, pool, core().vector_floats(), needs_data):
            self.found.backward[pool.name] = same_gradient
            self.found.backward[conv.name] = partial(winners_backward, clamp, pool)
