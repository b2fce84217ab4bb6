"""Starting values of parameters. Every array has its own key, so adding a layer changes no other layer's start."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.errors import ConfigError
from fovea.graph.graph import Graph
from fovea.graph.store import ParameterStore
from fovea.ops.base import ParamSpec

__all__ = ["SCHEMES", "Initializer", "initialize"]

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Initializer:
    """How parameters start.

    ``weights``: the scheme of all weights (see SCHEMES); biases start at 0, norms at 1 and 0 whatever it says.
    ``overrides``: pairs (path pattern, scheme), the last match wins: ``("*.conv2.weight", "zeros")``.
    ``zero_gamma``: norms that feed a residual addition start at weight 0, so that each block starts as its shortcut
    (Goyal et al. 2017, section 5.1).
    """

    weights: str = "kaiming"
    overrides: tuple[tuple[str, str], ...] = ()
    zero_gamma: bool = False

    def __post_init__(self) -> None:
        pairs = self.overrides
        if not isinstance(pairs, (tuple, list)) or not all(
            isinstance(one, (tuple, list)) and len(one) == 2 for one in pairs
        ):
            raise ConfigError(
                "initializer", f'expected overrides as pairs (pattern, scheme), got {pairs!r}; give ("*.bias", "zeros")'
            )
        for name in (self.weights, *(scheme for _, scheme in pairs)):
            if not isinstance(name, str) or name not in SCHEMES:
                raise ConfigError(
                    "initializer", f"expected one of {', '.join(SCHEMES)}, got {name!r}; choose one of them"
                )


def initialize(graph: Graph, seed: int = 0, initializer: str | Initializer = "kaiming") -> ParameterStore:
    """A store with starting values for every parameter and buffer of the graph, a pure function of seed and paths."""
    rule = Initializer(initializer) if isinstance(initializer, str) else initializer
    if not isinstance(rule, Initializer):
        raise ConfigError(
            "initializer", f"expected a name or an Initializer, got {rule!r}; give one of {', '.join(SCHEMES)}"
        )
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise ConfigError("seed", f"expected an integer, got {seed!r}; give for example seed=0")
    from fovea.data.tree import machine_memory  # reads archives too: not at start-up

    needed = 4 * sum(spec.size for spec in graph.parameters().values())
    if needed > machine_memory():
        raise ConfigError(
            "model", f"expected parameters that fit into memory, got {needed / 1e9:,.0f} GB; make the layers smaller"
        )
    store = ParameterStore.for_graph(graph, int(seed))
    paths = [*store.parameters, *store.buffers]
    for pattern, _ in rule.overrides:
        if not fnmatch.filter(paths, pattern):
            raise ConfigError(
                "initializer",
                f"expected a pattern of parameter paths, got {pattern!r} which matches nothing; change it",
            )
    silenced = _residual_gammas(graph) if rule.zero_gamma else set()
    for path, spec in {**graph.parameters(), **graph.buffers()}.items():
        scheme = rule.weights if spec.init == "weight" else spec.init
        scheme = "zeros" if path in silenced else scheme
        for pattern, name in rule.overrides:
            scheme = name if fnmatch.fnmatchcase(path, pattern) else scheme
        target = store.parameters.get(path, store.buffers.get(path))
        assert target is not None
        target[...] = spec.value if scheme == "value" else SCHEMES[scheme](random.key(seed, f"init:{path}"), spec)
    return store


def _residual_gammas(graph: Graph) -> set[str]:
    """Weights of normalisation layers whose output goes straight into an Add, one branch per Add (the main one)."""
    found: set[str] = set()
    for node in graph.nodes.values():
        if node.op.kind == "add":
            source = graph.nodes[node.inputs[0].node]
            if source.op.kind in ("batchnorm", "groupnorm", "layernorm"):
                found.add(f"{source.name}.weight")
    return found


def _normal(key: np.uint64, spec: ParamSpec, std: float) -> Array:
    return (random.normal(key, spec.size) * np.float32(std)).reshape(spec.shape)


def _kaiming(key: np.uint64, spec: ParamSpec) -> Array:
    return _normal(key, spec, math.sqrt(2.0 / max(1, spec.fan_in)))


def _kaiming_fan_out(key: np.uint64, spec: ParamSpec) -> Array:
    return _normal(key, spec, math.sqrt(2.0 / max(1, spec.fan_out)))


def _xavier(key: np.uint64, spec: ParamSpec) -> Array:
    bound = math.sqrt(6.0 / max(1, spec.fan_in + spec.fan_out))
    return random.uniform(key, spec.size, -bound, bound).reshape(spec.shape)


def _lecun_uniform(key: np.uint64, spec: ParamSpec) -> Array:
    bound = 1.0 / math.sqrt(max(1, spec.fan_in))
    return random.uniform(key, spec.size, -bound, bound).reshape(spec.shape)


def _orthogonal(key: np.uint64, spec: ParamSpec) -> Array:
    rows, columns = spec.size // spec.shape[-1], spec.shape[-1]
    draw = random.normal(key, spec.size).astype(np.float64).reshape(max(rows, columns), min(rows, columns))
    q, r = np.linalg.qr(draw)
    q = q * np.sign(np.diag(r))  # makes the decomposition unique, so that the draw is uniform over rotations
    return np.ascontiguousarray(q if rows >= columns else q.T, dtype=np.float32).reshape(spec.shape)


def _dirac(key: np.uint64, spec: ParamSpec) -> Array:
    weight = np.zeros(spec.shape, np.float32)
    if weight.ndim < 3:
        np.fill_diagonal(weight, 1.0)
        return weight
    kernel, inner, last = spec.shape[:-2], spec.shape[-2], spec.shape[-1]
    centre = tuple((size - 1) // 2 for size in kernel)
    # the last axis counts all groups: for Conv the output channels, for its transpose the input channels
    fan = spec.fan_out if spec.fan_in == math.prod(kernel) * inner else spec.fan_in
    per_group = fan // math.prod(kernel)
    for channel in range(last):
        if channel % per_group < inner:
            weight[(*centre, channel % per_group, channel)] = 1.0
    return weight


SCHEMES: dict[str, Callable[[np.uint64, ParamSpec], Array]] = {
    "kaiming": _kaiming,
    "kaiming_fan_out": _kaiming_fan_out,
    "xavier": _xavier,
    "lecun_uniform": _lecun_uniform,
    "orthogonal": _orthogonal,
    "dirac": _dirac,
    "zeros": lambda key, spec: np.zeros(spec.shape, np.float32),
    "rare": lambda key, spec: np.full(spec.shape, -math.log(99.0), np.float32),
    "ones": lambda key, spec: np.ones(spec.shape, np.float32),
}
"""Kaiming: normal, std sqrt(2 / fan) (He et al. 2015, equations 10 and 14). Xavier: uniform (Glorot and Bengio 2010,
equation 16). lecun_uniform: +-1/sqrt(fan_in), PyTorch's default. orthogonal: Saxe et al. 2014. dirac: identity kernels
(within each group an output channel passes the input channel of its number on, one without such a channel gives 0).
rare: the logit of 1/100, for biases of what is hardly ever there (Lin et al. 2017, "Focal loss", section 4.1)."""
