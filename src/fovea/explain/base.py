"""What every attribution method shares: its answer, its facts, and the table of all methods.

A method is written as a function of a ``Question`` (``explain/question.py``) and declared with ``@method``; what comes
out is public: ``fn(model, image, target=None, layer=None, *, score=None, engine=None, **options) -> Attribution``.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from fovea.errors import ConfigError

if TYPE_CHECKING:
    from fovea.model import Model

__all__ = ["METHODS", "Attribution", "Found", "Method", "attributions", "find_method", "method"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Attribution:
    """How much each pixel of one image counts for one score of one network, or each place of a signal or volume.

    ``image``: the sample as the network saw it (after resizing and cutting, before the pixel half): an image uint8
    H,W,C; a signal float32 T,C, a volume float32 D,H,W,C, a clip uint8 T,H,W,C. ``values``: float32 *spatial (H,W; T;
    D,H,W), one number for each place of the network's input; signed where the method signs. ``raw``: what the method
    computed before it was reduced or enlarged: *spatial,C by channel in the order of the network's input, or the coarse
    map of a CAM method.
    ``method``: its name in ``METHODS``. ``layer``: the node of a CAM method. ``target``: the class, None for another
    scalar; ``name``: what is explained, in words; ``score``: its value for this image. ``notes``: what a reader of the
    picture should know, such as the completeness gap. ``box``: x1, y1, x2, y2 of the explained box of a detector, in
    pixels of ``image``. ``rate``: samples a second of a signal, where its preprocessing knows it.
    """

    image: Array = field(repr=False)
    values: npt.NDArray[np.float32] = field(repr=False)
    raw: npt.NDArray[np.float32] = field(repr=False)
    method: str
    layer: str | None
    target: int | None
    name: str
    score: float
    notes: tuple[str, ...] = ()
    box: tuple[float, float, float, float] | None = None
    rate: int | None = None

    @property
    def facts(self) -> Method:
        """What is known of the method that made it."""
        return METHODS[self.method]


@dataclass(frozen=True, eq=False)
class Found:
    """What a method's function returns for N samples: ``values`` N,*spatial; ``raw`` N,...; ``notes``: a tuple each;
    ``scores``: N, where it came across them."""

    values: Array
    raw: Array
    notes: Sequence[tuple[str, ...]] = ()
    scores: Array | None = None


class Explains(Protocol):
    """What every method is to its callers; each takes its own ``options`` beside these."""

    __name__: str

    def __call__(
        self,
        model: Model,
        image: Any,
        target: Any = None,
        layer: str | None = None,
        *,
        score: str | None = None,
        engine: str | None = None,
        **options: Any,
    ) -> Attribution:
        """The attribution of one sample."""


@dataclass(frozen=True)
class Method:
    """A method of attribution and what is known of it; calling it calls its function.

    ``needs_gradients``: not possible on int8 networks. ``needs_layer``: explains through a feature map. ``signed``:
    values below zero speak against the target; else they say how much, not in which direction. ``score``: what it
    explains unless told. ``fails_randomisation``: known to change little when the network's weights are replaced by
    random ones (Adebayo et al. 2018; Nie et al. 2018): it shows edges rather than reasons.
    """

    name: str
    title: str
    function: Explains
    core: Callable[..., Found] = field(repr=False)
    needs_gradients: bool = True
    needs_layer: bool = False
    signed: bool = True
    score: str = "logit"
    fails_randomisation: bool = False

    def __call__(
        self, model: Model, image: Any, target: Any = None, layer: str | None = None, **options: Any
    ) -> Attribution:
        """The attribution of one image."""
        return self.function(model, image, target, layer, **options)

    @property
    def options(self) -> tuple[str, ...]:
        """The names of its own options."""
        return tuple(inspect.signature(self.core).parameters)[1:]


METHODS: dict[str, Method] = {}
"""Every method by name, in the order in which a person meets them."""


def method(
    title: str,
    *,
    needs_gradients: bool = True,
    needs_layer: bool = False,
    signed: bool = True,
    score: str = "logit",
    fails_randomisation: bool = False,
) -> Callable[[Callable[..., Found]], Explains]:
    """Declare a function of a ``Question`` as a method: enters it in ``METHODS``, returns the public function."""

    def declare(core: Callable[..., Found]) -> Explains:
        name = core.__name__

        @functools.wraps(core)
        def function(
            model: Model,
            image: Any,
            target: Any = None,
            layer: str | None = None,
            *,
            score: str | None = None,
            engine: str | None = None,
            **options: Any,
        ) -> Attribution:
            how = {"score": score, "engine": engine, **options}
            return attributions(model, [image], name, target, layer, **how)[0]

        common = list(inspect.signature(function, follow_wrapped=False).parameters.values())[:-1]
        own = [one.replace(kind=one.KEYWORD_ONLY) for one in list(inspect.signature(core).parameters.values())[1:]]
        function.__signature__ = inspect.Signature([*common, *own])  # type: ignore[attr-defined]
        facts = {"needs_gradients": needs_gradients, "needs_layer": needs_layer, "signed": signed}
        METHODS[name] = Method(
            name, title, function, core, **facts, score=score, fails_randomisation=fails_randomisation
        )
        return function

    return declare


def find_method(name: str) -> Method:
    """The method of that name, written with ``_`` or ``-``. Raises ConfigError that lists the methods."""
    wanted = str(name).lower().replace("-", "_").replace(" ", "_")
    if wanted not in METHODS:
        near = difflib.get_close_matches(wanted, METHODS, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError("explain", f"expected a method, got {str(name)[:60]!r}; {hint}methods: {', '.join(METHODS)}")
    return METHODS[wanted]


def attributions(
    model: Model,
    images: Any,
    method: str = "grad_cam",
    targets: Any = None,
    layer: str | None = None,
    *,
    score: str | None = None,
    engine: str | None = None,
    **options: Any,
) -> list[Attribution]:
    """The attributions of several samples: a list of paths or arrays *spatial,C, or an array N,*spatial,C, as the model
    takes them: uint8 images H,W,C and clips T,H,W,C, signals T,C, volumes D,H,W,C.

    ``targets``: None (each sample's first class), one target for all, or a list with one for each; a target is a
    class by number or name, ``(node, index)`` for one element of any node's output, or ``(node, function)``, see
    ``explain/target.py``. ``score``: "logit", "probability" or "log-probability" of a class. ``engine``: "native" or
    "reference". Raises ConfigError, DataError, GraphError or EngineError in one line.
    """
    from fovea.explain.question import ask

    chosen = find_method(method)
    unknown = [name for name in options if name not in chosen.options]
    if unknown:
        known = ", ".join(chosen.options) or "none"
        raise ConfigError(chosen.name, f"expected its own options, got {unknown[0]!r}; it has: {known}")
    question = ask(model, images, chosen, targets, layer, score, engine)
    found = chosen.core(question, **options)
    rate = model.preprocessing.rate if model.preprocessing is not None else None
    notes = found.notes or [()] * len(found.values)
    scores = question.values if found.scores is None else found.scores
    return [
        Attribution(
            question.seen[i], np.ascontiguousarray(found.values[i], np.float32),
            np.ascontiguousarray(found.raw[i], np.float32), chosen.name, question.layer, one.index, one.name,
            float(scores[i]), tuple(notes[i]), one.box, rate,
        )
        for i, one in enumerate(question.scores)
    ]  # fmt: skip
