"""Model: a graph with its numbers, its preprocessing, its class names and its task, saved as one file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import fovea
from fovea.data.given import as_samples
from fovea.data.preprocess import Preprocessing
from fovea.engines.base import Engine, Plan
from fovea.engines.registry import get_engine
from fovea.engines.spec import match_paths
from fovea.errors import ConfigError, DataError, FoveaError, ModelFileError
from fovea.graph.behind import behind
from fovea.graph.compose import Layer, build
from fovea.graph.graph import Graph
from fovea.graph.half import narrowed, widened
from fovea.graph.initialize import Initializer, initialize
from fovea.graph.quantization import Quantization, expected_shapes, float_tensors, stored_tensors
from fovea.graph.serialize import graph_from_dict, graph_to_dict, read_tensors, write_tensors
from fovea.graph.store import ParameterStore
from fovea.graph.summary import Summary, summarize
from fovea.inference import Inference
from fovea.ops import Normalize, Softmax
from fovea.tasks.base import Prediction, Task, task_from_dict
from fovea.tasks.classify import Classification
from fovea.tasks.views import averaged, enlarged

__all__ = ["FORMAT_VERSION", "Model", "load"]

Array = npt.NDArray[Any]
FORMAT_VERSION = 3
"""Of model files: 1 with float32 tensors alone, 2 with weights as int8, 3 with float16 tensors alone."""
MODEL_FILE = "model.safetensors"
"""Name of the model file inside a run folder."""


class Model:
    """graph + parameters + preprocessing + class names + task.

    ``network``: an op, Sequential, any function of symbolic values (with ``input_shape``), or a Graph.
    ``input_shape`` is ``(*spatial, C)`` of one sample; None leaves a spatial size open. ``seed`` and ``initializer``
    give the starting values.

    >>> import fovea
    >>> net = fovea.Sequential(fovea.Conv(8, 3), fovea.ReLU(), fovea.GlobalAvgPool(), fovea.Dense(2))
    >>> fovea.Model(net, input_shape=(None, None, 3), classes=["cat", "dog"])(np.zeros((1, 8, 8, 3), np.float32)).shape
    (1, 2)
    """

    def __init__(
        self,
        network: Layer | Graph,
        input_shape: Sequence[int | None] | None = None,
        classes: Sequence[str] | None = None,
        *,
        seed: int = 0,
        preprocessing: Preprocessing | None = None,
        task: Task | None = None,
        initializer: str | Initializer = "kaiming",
        name: str = "",
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        if input_shape is not None and not isinstance(input_shape, (tuple, list)):
            raise ConfigError(
                "model", f"expected input_shape as sizes and channels, got {input_shape!r}; give (32, 32, 3), say"
            )
        for field, value, wanted in (
            ("preprocessing", preprocessing, Preprocessing), ("task", task, Task), ("provenance", provenance, Mapping),
        ):  # fmt: skip
            if value is not None and not isinstance(value, wanted):
                raise ConfigError(
                    "model", f"expected {field} as a {wanted.__name__}, got {value!r}; leave it out or give one"
                )
        graph = build(network, None if input_shape is None else tuple(input_shape))
        self._assemble(graph, initialize(graph, seed, initializer), classes, preprocessing, task, name, provenance)

    @classmethod
    def from_store(
        cls, graph: Graph, store: ParameterStore, classes: Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None, task: Task | None = None, name: str = "",
        provenance: Mapping[str, Any] | None = None, quantization: Quantization | None = None,
    ) -> Model:  # fmt: skip
        """A model of a graph and the numbers that belong to it, as files hold them."""
        model = cls.__new__(cls)
        model._assemble(graph, store, classes, preprocessing, task, name, provenance)
        if quantization is not None:
            model.quantization, model.precision = quantization, "int8"
        return model

    def _assemble(
        self, graph: Graph, store: ParameterStore, classes: Sequence[str] | None, preprocessing: Preprocessing | None,
        task: Task | None, name: str, provenance: Mapping[str, Any] | None,
    ) -> None:  # fmt: skip
        self.graph = graph
        self.store = store
        self.preprocessing = preprocessing
        self.task: Task = Classification() if task is None else task
        self.name = name
        self.quantization: Quantization | None = None
        """Of a model from ``fovea.quantize``: it computes on bytes, and cannot be trained."""
        self.provenance: dict[str, Any] = dict(provenance or {})
        self.classes = self._checked_classes(classes)
        self.precision = "fp32"
        """Of inference by this object ("bf16": activations as bfloat16; a quantised model starts with "int8")."""
        self.device: str | None = None
        """Of inference by this object: "cuda" computes on a GPU, with PyTorch."""
        self._frozen: set[str] = set()
        self._inference = Inference()

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: plans belong to one process and one model, each makes its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_inference"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._inference = Inference()

    def _checked_classes(self, classes: Sequence[str] | None) -> tuple[str, ...] | None:
        if classes is None:
            return None
        if isinstance(classes, str) or not isinstance(classes, (Sequence, np.ndarray)):
            raise ConfigError("model", f"expected classes as a list of names, got {classes!r}; give ['cat', 'dog']")
        names = tuple(str(name) for name in classes)
        self.task.check_classes(names, self.graph.output_shapes)
        return names

    # --- numbers

    def parameters(self) -> dict[str, Array]:
        """Path -> array of everything trainable; the live arrays (call ``store.touch()`` after changing them)."""
        return dict(self.store.parameters)

    def buffers(self) -> dict[str, Array]:
        """Path -> array of running statistics and constants."""
        return dict(self.store.buffers)

    @property
    def trainable(self) -> list[str]:
        """Parameter paths that training changes."""
        return [path for path in self.store.parameters if path not in self._frozen]

    def freeze(self, *patterns: str) -> None:
        """Exclude parameters from training: paths, prefixes ("stage1") or patterns ("*.bias"), one or more."""
        self._frozen |= match_paths(list(self.store.parameters), patterns)

    def unfreeze(self, *patterns: str) -> None:
        """Include them again; without patterns everything."""
        self._frozen -= match_paths(list(self.store.parameters), patterns or None)

    def summary(self, input_shape: Sequence[int] | None = None) -> Summary:
        """Per layer: output shape, parameters, MACs, memory, receptive field. ``print(model.summary())`` is a table."""
        graph = self.graph if input_shape is None else self.graph.at(tuple(input_shape))
        return summarize(graph, self.name, self.note)

    @property
    def note(self) -> str:
        """What a summary says of a quantised model in a last line, else nothing."""
        return "" if self.quantization is None else self.quantization.describe(self.graph)

    # --- computing

    def compile(
        self, engine: str | Engine | None = None, batch_size: int = 1, *, pixels: bool = False, **options: Any
    ) -> Plan:
        """A plan that shares this model's numbers; options are those of ``fovea.engines.spec.prepare``.

        ``pixels``: the plan takes what ``preprocessing.apply_spatial`` gives (uint8 for images); the pixel half runs
        inside it as the node ``preprocess``.
        """
        graph = self.with_pixels() if pixels else self.graph
        if self.quantization is not None:
            self._choose_precision(graph, options)
        if options.get("training") and options.get("trainable") is None and self._frozen:
            options["trainable"] = self.trainable
        return get_engine(engine, options.get("device")).compile(graph, self.store, batch_size=batch_size, **options)

    def _choose_precision(self, graph: Graph, options: dict[str, Any]) -> None:
        """A quantised model runs in int8 unless another precision is asked for."""
        assert self.quantization is not None
        if options.get("training"):
            fix = "train the model that it was made from"
            raise ConfigError("compile", f"expected a float32 model to train, got one quantised to int8; {fix}")
        if options.setdefault("precision", "int8") == "int8":
            added = [name for name in graph.nodes if name not in self.graph.nodes]  # the pixel half of preprocessing
            record = self.quantization
            options["quantization"] = record.renamed(graph.inputs[0], added[0]) if added else record

    def with_pixels(self) -> Graph:
        """The graph behind the pixel half of preprocessing: it takes what ``preprocessing.apply_spatial`` gives."""
        if self.preprocessing is None:
            return self.graph
        dtype = "uint8" if self.preprocessing.kind in ("image", "clip") else "float32"
        return behind(self.graph, Normalize(**self.preprocessing.normalize()), dtype)

    def __call__(self, *inputs: Array) -> Any:
        """Float32 network input N,*spatial,C -> outputs (logits N,num_classes): inference, in chunks that fit
        memory."""
        return self._inference.run(self, inputs)["outputs"]

    def logits(self, samples: Array) -> Any:
        """Samples after the spatial half of preprocessing (uint8 N,H,W,C) -> outputs; the pixel half runs in the
        plan. Of a classifier that ends in Softmax the logarithms: logits with the same softmax."""
        return self.as_logits(self._inference.run(self, (samples,), pixels=True)["outputs"])

    def as_logits(self, outputs: Any) -> Any:
        """Outputs of the network as its task reads them: the logarithms of those of a classifier that ends in
        Softmax."""
        return np.log(np.maximum(outputs, np.finfo(np.float32).tiny)) if self.gives_probabilities else outputs

    @property
    def gives_probabilities(self) -> bool:
        """Whether the network is a classifier that ends in Softmax over its classes, as some of other systems do."""
        last, shape = self.graph.node(self.graph.outputs[0].node), self.graph.output_shapes[0]
        softmax = isinstance(last.op, Softmax) and last.op.axis in (-1, len(shape))
        return softmax and self.task.kind == "classification" and len(self.graph.outputs) == 1

    def forward(self, *inputs: Array, keep: Sequence[str] = ()) -> dict[str, Any]:
        """Like calling the model, with the activations of the nodes named in ``keep``: name -> array, and "outputs"."""
        if isinstance(keep, str):
            raise ConfigError("model", f"expected keep as a list of names, got {keep!r}; give [{keep!r}]")
        return self._inference.run(self, inputs, tuple(keep))

    def predict(
        self, samples: Any, *, top_k: int = 5, tta: str | None = None, min_confidence: float | None = None
    ) -> list[Prediction]:
        """Images (uint8 H,W,C, a list of them, or N,H,W,C; Pillow's), or paths -> one Prediction each, by the task.

        ``tta``: "flip", "five-crop" or "ten-crop" averages over as many views (``fovea.tasks.views``);
        ``min_confidence``: a classifier less sure than this answers "unsure" (else as the task says).

        Raises DataError for files that cannot be read and for models without preprocessing (those take float32 network
        input: call the model itself).
        """
        if self.preprocessing is None:
            raise DataError(
                "predict",
                "expected a model that knows its preprocessing, got one without; call model(x) with float32 "
                "network input N,*spatial,C, or set model.preprocessing",
            )
        if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
            raise ConfigError("predict", f"expected top_k as an integer of at least 1, got {top_k!r}; 5 is usual")
        task = self.task if min_confidence is None else self.task.abstaining(min_confidence)
        how = self.preprocessing if tta is None else enlarged(self.preprocessing, tta)
        given = as_samples(samples, how)
        if not len(given):
            return []
        inputs = how.apply_spatial(given)
        if tta is None:
            outputs = self.logits(inputs)
        else:
            outputs = averaged(self.logits, inputs, tta, self.preprocessing.size, task)
        said = task.decode(outputs, classes=self.classes, top_k=top_k)
        if how.kind != "image":
            return said
        return [one.placed(how.placement(*np.shape(own)[:2])) for one, own in zip(said, given, strict=True)]

    # --- the file

    def save(self, path: str | os.PathLike[str], *, dtype: str = "float32") -> Path:
        """Write everything to one safetensors file, atomically. Returns the path.

        ``dtype="float16"`` halves the file: numbers are rounded to 11 bits, and loaded as float32 again.

        Raises ModelFileError when it cannot be written, or holds numbers beyond the range of float16; what was there
        before is then still whole.
        """
        tensors = stored_tensors(self.store.tensors(), self.quantization)
        if dtype != "float32":
            tensors = narrowed(str(path), tensors, dtype, self.quantization is not None)
        metadata = {
            "format": 3 if dtype == "float16" else 1 if self.quantization is None else 2,
            "fovea": fovea.__version__,
            "name": self.name,
            "graph": graph_to_dict(self.graph),
            "classes": None if self.classes is None else list(self.classes),
            "preprocessing": None if self.preprocessing is None else self.preprocessing.to_dict(),
            "task": self.task.to_dict(),
            "seed": self.store.seed,
            "provenance": self.provenance,
        }
        if self.quantization is not None:
            metadata["quantization"] = self.quantization.to_dict()
        if dtype != "float32":
            metadata["dtype"] = dtype
        try:
            write_tensors(path, tensors, metadata)
        except OSError as error:
            raise ModelFileError(
                str(path), f"expected to write the file, got: {error.strerror or error}; free space or change the path"
            ) from None
        return Path(path)

    def __repr__(self) -> str:
        total = sum(spec.size for spec in self.graph.parameters().values())
        shapes = f"{self.graph.input_shapes[0]} -> {self.graph.output_shapes[0]}"
        return f"Model({self.name or 'unnamed'}: {shapes}, {total:,} parameters)"


def load(path: str | os.PathLike[str]) -> Model:
    """The model of a model file or of a run folder. Everything is validated; nothing in the file is executed.

    Raises ModelFileError, in one line, for a file that is missing, damaged, hostile or of a newer format.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ModelFileError("load", f"expected the path of a model, got {type(path).__name__}; give a path")
    file = Path(path)
    file = file / MODEL_FILE if file.is_dir() else file
    where, graphs = str(path), []

    def expect(metadata: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        version = metadata.get("format")
        if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
            raise ModelFileError(
                where, f"expected a model file of format 1 to {FORMAT_VERSION}, got {str(version)[:20]}; update fovea"
            )
        graphs.append(graph_from_dict(where, metadata.get("graph")))
        return expected_shapes(where, metadata.get("quantization"), graphs[0])

    tensors, metadata = read_tensors(file, expect)
    tensors = widened(where, metadata, tensors)
    graph = graphs[0].with_constants(tensors)
    tensors, quantization = float_tensors(where, metadata.get("quantization"), graph, tensors)
    try:
        classes, settings = metadata.get("classes"), metadata.get("preprocessing")
        if classes is not None and not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
            raise ModelFileError(where, "expected class names as texts; the file is damaged")
        store = ParameterStore(
            {name: tensors[name] for name in graph.parameters()},
            {name: tensors[name] for name in graph.buffers()},
            int(metadata.get("seed", 0)),
        )
        return Model.from_store(
            graph, store, classes, None if settings is None else Preprocessing.from_dict(settings),
            task_from_dict(metadata.get("task") or {}), str(metadata.get("name", "")), metadata.get("provenance") or {},
            quantization,
        )  # fmt: skip
    except ModelFileError:
        raise
    except FoveaError as error:
        raise ModelFileError(where, f"expected valid metadata, got: {error}; the file is damaged") from None
    except Exception as error:  # a hostile file may hold anything anywhere
        raise ModelFileError(
            where, f"expected valid metadata, got {type(error).__name__} while reading it; the file is damaged"
        ) from None
