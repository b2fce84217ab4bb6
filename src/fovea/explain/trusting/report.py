"""Trust: every measure of one attribution beside those of maps that know nothing, and a verdict in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.given import as_samples
from fovea.errors import ConfigError
from fovea.explain.base import Attribution, attributions, find_method
from fovea.explain.question import Question, ask, seen_samples
from fovea.explain.trusting.causal import Causal, insertion_deletion
from fovea.explain.trusting.explainers import Explainer, baselines, layer_of, of_method
from fovea.explain.trusting.localise import Localisation, box_mask, localisation
from fovea.explain.trusting.randomise import cascade, with_plain_samples
from fovea.explain.trusting.similarity import SIMILARITIES, similarities
from fovea.explain.trusting.stability import max_sensitivity, neighbours
from fovea.graph.reach import reach
from fovea.model import Model
from fovea.tasks.classify import Classification
from fovea.tasks.detect.task import Detection

__all__ = ["LIMIT", "Measures", "TrustReport", "trust", "trusts"]

Array = npt.NDArray[Any]
LIMIT = 0.5
"""Rank correlation that a map may keep while weights become random: see ``TrustReport``."""


@dataclass(frozen=True)
class Measures:
    """Of one map, of a method or of a baseline.

    ``similarity``: by name (``SIMILARITIES``: rank correlation and SSIM, of absolute and of signed values), the map's
    likeness to that of the trained network at every depth of ``TrustReport.depths``, mean over the draws.
    ``causal``: insertion and deletion. ``localisation``: where boxes were given. ``max_sensitivity``: how far the map
    moves with the image, relative to its size.
    """

    name: str
    title: str
    similarity: dict[str, tuple[float, ...]]
    causal: Causal
    max_sensitivity: float
    localisation: Localisation | None = None

    @property
    def kept(self) -> float:
        """How much of the map the cascade leaves: the rank correlation of its values with those of the trained
        network, without regard to its sign (a map may turn over as a whole), mean over all depths."""
        changed = self.similarity["spearman"][1:]
        return sum(map(abs, changed)) / len(changed)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        fields = asdict(self)
        fields["causal"] = self.causal._asdict()
        fields["localisation"] = None if self.localisation is None else self.localisation._asdict()
        return {**fields, "kept": self.kept}


@dataclass(frozen=True)
class TrustReport:
    """Whether an attribution shows the network or only the image.

    ``depths``: "trained", then the lowest layer drawn anew, from the top layer down to all of them. ``method``: its
    measures, ``baselines``: those of edges, a random CAM and a blob. ``follows``: whether the map follows the weights:
    while they become random from the top down it keeps, on the mean, a rank correlation below ``LIMIT`` = 0.5 with what
    it was (``Measures.kept``). A map that depends on the weights alone keeps about 0, one that depends on the image
    alone, such as its edges, 1; beyond the middle more of it comes from the image than from the network. A map that is
    the same everywhere (``is_empty``) follows nothing. ``maps``: by depth, of the first draw, for drawing alone.
    """

    attribution: Attribution = field(compare=False, repr=False)
    depths: tuple[str, ...]
    method: Measures
    baselines: tuple[Measures, ...]
    draws: int
    seed: int
    maps: npt.NDArray[np.float32] = field(compare=False, repr=False)

    @property
    def is_empty(self) -> bool:
        """Whether the map has one value everywhere: such a map has no ranks, and says nothing."""
        return bool(np.ptp(self.attribution.values) == 0)

    @property
    def follows(self) -> bool:
        """Whether the map follows the weights."""
        return not self.is_empty and self.method.kept < LIMIT

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.is_empty:
            value = f"{float(self.attribution.values.flat[0]):.3g}"
            return f"{self.method.title} shows nothing here: its map is {value} everywhere, so that none of this counts"
        does = "follows the weights" if self.follows else "does not follow the weights"
        edges = next(one for one in self.baselines if one.name == "edges")
        return (
            f"{self.method.title} {does}: while they become random from the top down, its map keeps a rank correlation "
            f"of {self.method.kept:.2f} with what it was (limit {LIMIT:.2f}; {edges.title} keep {edges.kept:.2f})"
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it; maps are left out."""
        one = self.attribution
        return {
            "method": one.method, "layer": one.layer, "target": one.target, "name": one.name,
            "follows": self.follows, "limit": LIMIT, "verdict": self.verdict, "depths": list(self.depths),
            "draws": self.draws, "seed": self.seed,
            "measures": [self.method.to_dict(), *(one.to_dict() for one in self.baselines)],
        }  # fmt: skip


def trust(
    model: Model, image: Any, method: str = "grad_cam", target: Any = None, layer: str | None = None, *,
    boxes: Sequence[Sequence[float]] | None = None, score: str | None = None, engine: str | None = None,
    depths: int = 8, draws: int = 1, steps: int = 32, radius: float = 0.02, samples: int = 8, seed: int = 0,
    **options: Any,
) -> TrustReport:  # fmt: skip
    """Measure one attribution, ``method(model, image, target, layer, **options)``, beside baselines.

    * Randomisation: the network's layers are drawn anew from the top down, at most ``depths`` networks, ``draws`` times
      (Adebayo et al. 2018). Of a score at one position of a feature map, maps are compared within what it depends on:
      outside, a gradient is 0 whatever the weights.
    * Insertion and deletion of pixels in ``steps`` groups (Petsiuk et al. 2018): of the class's probability.
    * Where ``boxes`` x1,y1,x2,y2 (pixels of the image) say where the object is: pointing game, relevance mass and rank.
      Of a detector the box that is explained says it, unless told: random networks are asked about the cell that found
      it.
    * Max-sensitivity over ``samples`` images within ``radius``, a share of the range of values (Yeh et al. 2019).

    ``seed`` decides all draws. Raises ConfigError, DataError, GraphError or EngineError in one line.
    """
    return trusts(
        model, image, [method], target, layer, boxes=boxes, score=score, engine=engine, options=options, depths=depths,
        draws=draws, steps=steps, radius=radius, samples=samples, seed=seed,
    )[0]  # fmt: skip


def trusts(
    model: Model, image: Any, methods: Sequence[str], target: Any = None, layer: str | None = None, *,
    boxes: Sequence[Sequence[float]] | None = None, score: str | None = None, engine: str | None = None,
    options: dict[str, Any] | None = None, depths: int = 8, draws: int = 1, steps: int = 32, radius: float = 0.02,
    samples: int = 8, seed: int = 0, known: dict[str | None, tuple[Measures, ...]] | None = None,
) -> list[TrustReport]:  # fmt: skip
    """As ``trust``, for several methods; ``layer`` and ``options`` are for those that have them.

    Baselines are measured once for each layer. ``known`` keeps them between calls that differ in methods alone.
    """
    _check(depths=depths, draws=draws, steps=steps, samples=samples)
    if not methods:
        raise ConfigError("trust", "expected at least one method, got none; name one")
    if isinstance(radius, bool) or not isinstance(radius, (int, float)) or not 0 < radius <= 1:
        raise ConfigError("trust", f"expected radius as a share above 0 and at most 1, got {radius!r}; 0.02 is usual")
    seen, x = seen_samples(model, [image])
    plain = with_plain_samples(model, seen.shape[1:-1])
    shown = x[0] if model.preprocessing is None else seen[0]
    mask = None
    if boxes is not None:
        if seen.ndim != 4:
            raise ConfigError(
                "boxes", f"expected an image for boxes, got a sample of shape {seen.shape[1:]}; leave them out"
            )
        mask = box_mask(boxes, _source_size(model, image), (seen.shape[1], seen.shape[2]), model.preprocessing)
    bench = _Bench(plain, shown, mask, depths, draws, steps, float(radius), samples, seed)
    known = {} if known is None else known
    found = []
    for name in methods:
        method = find_method(name)
        at = layer if method.needs_layer or len(methods) == 1 else None
        question = ask(plain, [shown], method, [target], at, _explained(model), engine)
        index, box = question.scores[0].index, question.scores[0].box
        fixed: Any = target if index is None else index
        if box is not None:
            fixed = ask(plain, [shown], method, [target], at, score, engine).scores[0]
            if boxes is None:
                sides = (seen.shape[1], seen.shape[2])
                bench = replace(bench, mask=box_mask([box], sides, sides, None))
        given = (options or {}).items()
        mine = {key: value for key, value in given if len(methods) == 1 or key in method.options}
        how: dict[str, Any] = {"score": score, "engine": engine, **mine}
        (shown_map,) = attributions(plain, [shown], method.name, [fixed], question.layer, **how)
        measures, maps, labels = bench.measure(of_method(method, question.layer, fixed, how), question)
        base = layer_of(question)
        if base not in known:
            known[base] = tuple(bench.measure(one, question)[0] for one in baselines(question, seed))
        found.append(TrustReport(shown_map, labels, measures, known[base], draws, seed, maps))
    return found


@dataclass(frozen=True, eq=False)
class _Bench:
    """One image and how it is measured."""

    model: Model
    image: Array
    mask: Array | None
    depths: int
    draws: int
    steps: int
    radius: float
    samples: int
    seed: int

    def measure(self, explainer: Explainer, question: Question) -> tuple[Measures, Array, tuple[str, ...]]:
        """All measures, and the maps at every depth of the first draw with their labels."""
        values = explainer.maps(self.model, [self.image])[0]
        region = _region(question)
        maps, labels, rows = [values], ["trained"], []
        for draw in range(self.draws):
            likeness = [similarities(values[region], values[region])]
            for label, network in cascade(self.model, question.scores[0].node, self.seed + 1 + draw, self.depths):
                changed = explainer.maps(network, [self.image])[0] if explainer.sees_weights else values
                likeness.append(similarities(values[region], changed[region]))
                if draw == 0:
                    maps.append(changed)
                    labels.append(label)
            rows.append(likeness)
        means = np.mean(rows, axis=0)  # depths,similarities
        by_name = {name: tuple(means[:, i].tolist()) for i, name in enumerate(SIMILARITIES)}
        near = neighbours(self.image, self.radius, self.samples, self.seed)
        measures = Measures(
            explainer.name, explainer.title, by_name, insertion_deletion(question, values, self.steps, self.seed),
            max_sensitivity(explainer, self.model, values, near),
            None if self.mask is None else localisation(values, self.mask),
        )  # fmt: skip
        return measures, np.stack(maps).astype(np.float32), tuple(labels)


def _region(question: Question) -> tuple[slice, ...]:
    """The part of the input, along each axis, that the score depends on."""
    one = question.scores[0]
    if not one.place:
        return (slice(None),) * (question.x.ndim - 2)
    boxes = reach(question.graph, one.node.node, [one.place])
    return tuple(slice(int(low), int(high)) for low, high in zip(boxes.low[0], boxes.high[0], strict=True))


def _explained(model: Model) -> str:
    """Insertion and deletion look at a probability where there is one."""
    return "probability" if isinstance(model.task, (Classification, Detection)) else "logit"


def _source_size(model: Model, image: Any) -> tuple[int, int]:
    """Height and width of the image before preprocessing."""
    known = model.preprocessing
    raw = image if known is None else as_samples([image], known)[0]
    return int(raw.shape[0]), int(raw.shape[1])


def _check(**numbers: int) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError("trust", f"expected {name} as an integer of at least 1, got {value!r}; leave it out")
