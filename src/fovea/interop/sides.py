"""The sides of a comparison: whatever computes a model, asked for the value of every node and for its outputs."""

from __future__ import annotations

import abc
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.engines.base import Engine
from fovea.errors import EngineError, FoveaError, MissingExtra
from fovea.graph.graph import Graph, Ref
from fovea.model import Model

__all__ = ["EngineSide", "RuntimeSide", "Side", "computed"]

Array = npt.NDArray[Any]


class Side(abc.ABC):
    """One way to compute a model of closed input sizes in float32."""

    name: str

    @abc.abstractmethod
    def values(self, inputs: Sequence[Array]) -> dict[Ref, Array]:
        """What every node computes, N,*spatial,C."""

    @abc.abstractmethod
    def outputs(self, inputs: Sequence[Array]) -> list[Array]:
        """The model's outputs, computed as a user would: layers are fused where this side fuses them."""

    def alone(self, ref: Ref, inputs: Sequence[Array]) -> Array | None:
        """A value when all layers below it are fused; None where this side cannot say."""
        return None


def computed(graph: Graph) -> list[Ref]:
    """Every value that a node computes from the inputs, in the order of the nodes."""
    return [
        Ref(node.name, index)
        for node in graph.nodes.values()
        if node.op.kind not in ("input", "constant")
        for index in range(node.op.num_outputs)
    ]


class EngineSide(Side):
    """One of fovea's engines. Raises EngineError for an op that it does not compute."""

    def __init__(self, name: str, engine: Engine, model: Model, batch_size: int) -> None:
        self.name = name
        self._engine, self._model, self._batch_size = engine, model, batch_size
        graph = model.graph
        self._kept = list(dict.fromkeys(ref.node for ref in computed(graph)))
        self._further = [ref for ref in computed(graph) if ref.index]  # keep gives a node's first output
        entries = [(node.name, node.op, node.inputs) for node in graph.nodes.values()]
        whole = Graph.from_nodes(entries, graph.inputs, [*graph.outputs, *self._further])
        self._unfused = engine.compile(whole, model.store, batch_size=batch_size, keep=self._kept)
        self._fused = engine.compile(graph, model.store, batch_size=batch_size)

    def values(self, inputs: Sequence[Array]) -> dict[Ref, Array]:
        results = _listed(self._unfused.forward(*inputs))
        found = {Ref(name): self._unfused.kept[name] for name in self._kept}
        return found | dict(zip(self._further, results[len(self._model.graph.outputs) :], strict=True))

    def outputs(self, inputs: Sequence[Array]) -> list[Array]:
        return _listed(self._fused.forward(*inputs))

    def alone(self, ref: Ref, inputs: Sequence[Array]) -> Array | None:
        """Compiles a plan that keeps this node and no other."""
        if ref.index:
            return None
        plan = self._engine.compile(self._model.graph, self._model.store, batch_size=self._batch_size, keep=[ref.node])
        plan.forward(*inputs)
        return plan.kept[ref.node]


class RuntimeSide(Side):
    """onnxruntime on the export. Raises MissingExtra without it, ModelFileError or EngineError for what cannot be
    exported or run."""

    name = "onnxruntime"

    def __init__(self, model: Model) -> None:
        try:
            import onnxruntime

            from fovea.interop.onnx.export import onnx_model, onnx_values
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in ("onnx", "onnxruntime"):
                raise
            raise MissingExtra("verify", "verify", "comparing with onnxruntime") from None
        self._runtime, self._model = onnxruntime, model
        self._with_values, self._names = onnx_values(model, "verify")
        self.export = onnx_model(model, "verify")
        """The file as a user gets it."""
        self._plain = self._session(self.export)

    @functools.cached_property
    def _unfused(self) -> Any:
        return self._session(self._with_values)

    def _session(self, proto: Any) -> Any:
        options = self._runtime.SessionOptions()
        options.log_severity_level = 4
        try:
            return self._runtime.InferenceSession(
                proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # a family of its own, which is no public name
            raise _refused(error) from None

    def values(self, inputs: Sequence[Array]) -> dict[Ref, Array]:
        refs = [ref for ref in computed(self._model.graph) if ref in self._names]
        wanted = list(dict.fromkeys(self._names[ref].name for ref in refs))
        found = dict(zip(wanted, self._run(self._unfused, wanted, inputs), strict=True))
        return {ref: self.ours(ref, found[self._names[ref].name]) for ref in refs}

    def outputs(self, inputs: Sequence[Array]) -> list[Array]:
        refs = self._model.graph.outputs
        results = self._run(self._plain, None, inputs)
        return [self.ours(ref, array) for ref, array in zip(refs, results, strict=True)]

    def ours(self, ref: Ref, array: Array) -> Array:
        """A value of the export in our layout, channels last."""
        return np.moveaxis(array, 1, -1) if self._names[ref].first and array.ndim > 2 else array

    def _run(self, session: Any, wanted: list[str] | None, inputs: Sequence[Array]) -> list[Array]:
        feeds = {
            one.name: np.ascontiguousarray(np.moveaxis(array, -1, 1)) if array.ndim > 2 else array
            for one, array in zip(session.get_inputs(), inputs, strict=True)
        }
        try:
            results: list[Array] = session.run(wanted, feeds)
        except Exception as error:
            raise _refused(error) from None
        return results


def _refused(error: Exception) -> FoveaError:
    return EngineError("verify", f"onnxruntime does not run the export: {str(error)[:200]}; the others are compared")


def _listed(outputs: Any) -> list[Array]:
    return list(outputs) if isinstance(outputs, tuple) else [outputs]
