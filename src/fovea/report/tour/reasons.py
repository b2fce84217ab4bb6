"""Why it says what it says: images made for classes, attributions with what is known of their trust, attacks, codes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.detection.draw import Mark, draw_boxes
from fovea.explain import METHODS, adversarial, attributions, invert, maximise
from fovea.explain.base import Attribution
from fovea.explain.layers import default_layer
from fovea.explain.target import scored_node
from fovea.report import pictures
from fovea.report.overlay import WARNING, colours_of, scale
from fovea.report.page import Section, percent, text
from fovea.report.tour.looks import STEPS
from fovea.report.tour.visit import Visit, evenly

__all__ = ["Explained", "attacks", "attribution", "classes", "memory", "why"]

Array = npt.NDArray[Any]
_CLASSES = 6
_FRAME = (255, 212, 0)


@dataclass(frozen=True, eq=False)
class Explained:
    """For each picture of ``Visit.explained`` its attributions, by the same methods."""

    rows: list[list[Attribution]]

    @property
    def methods(self) -> list[str]:
        """Their names."""
        return [one.method for one in self.rows[0]]


_METHODS = ("grad_cam", "layer_cam", "integrated_gradients", "lrp_z_plus", "occlusion", "guided_backprop")
"""Of each family one; the last one is there to show what a map looks like that does not depend on the weights."""


def classes(visit: Visit) -> Section | None:
    """Images made for the classes that the network sees in the pictures (or for the first classes)."""
    if not visit.is_classifier or not visit.has_gradients:
        return None
    names = list(visit.model.classes or ())
    count = int(visit.graph.shape(scored_node(visit.model))[-1] or 0)
    wanted = [names.index(label) for label in (one.to_dict()["label"] for one in visit.predictions) if label in names]
    chosen = list(dict.fromkeys([*wanted, *evenly(count, _CLASSES)]))[: max(_CLASSES, len(set(wanted)))]

    def make() -> Any:
        return maximise(visit.model, target=chosen, steps=STEPS, seed=visit.seed, engine=visit.engine)

    made = visit.attempt("images made for classes", make, 0.1 * visit.seconds)
    if made is None:
        return None
    figures = "".join(
        f"<figure>{pictures.sample(visit.known.kind, image, name)}<figcaption>{text(name)}<br>logit {start:.3g} to "
        f"{value:.3g}</figcaption></figure>"
        for image, name, start, value in zip(made.images, made.names, made.start, made.values, strict=True)
    )
    note = """Made by gradient ascent on the logit of a class, from noise. Such an image shows what speaks for the
        class, often several times over, not what an object of it looks like."""
    return Section("classes", "What classes look like to it", f'<p>{note}</p><div class="pictures">{figures}</div>')


def attribution(visit: Visit) -> Explained | None:
    """Every picture by several methods; None where there is nothing to explain."""
    if not visit.explained:
        return None
    given = [visit.given[row] for row in visit.explained]
    rows: list[list[Attribution]] = [[] for _ in given]
    spent: dict[str, float] = {}
    for name in (one for one in _METHODS if _usable(visit, one)):

        def explain(name: str = name) -> list[Attribution]:
            return attributions(visit.model, given, name, engine=visit.engine)

        begun = time.monotonic()
        found = visit.attempt(f"attribution by {METHODS[name].title}", explain, max(spent.values(), default=0.0))
        spent[name] = time.monotonic() - begun
        for row, one in zip(rows, found or [], strict=False):
            row.append(one)
    return Explained(rows) if rows[0] else None


def why(visit: Visit, found: Explained | None, trusted: Sequence[str]) -> Section | None:
    """Every picture by several methods side by side, with what is known of their trust: one text for each picture."""
    if found is None:
        return None
    parts = []
    for at, row, numbers in zip(visit.explained, found.rows, trusted, strict=True):
        image, name = visit.images[at], visit.names[at]
        words = f"{text(name)}: {text(row[0].name)}"
        figures = [f"<figure>{pictures.image(_framed(image, row[0]), name)}<figcaption>{words}</figcaption></figure>"]
        for one in row:
            warned = ' <span class="wrong">(edges)</span>' if one.facts.fails_randomisation else ""
            words = text(one.facts.title) + (f" at {text(one.layer)}" if one.layer else "")
            drawn = pictures.image(_framed(map_over(one), one), words)
            figures.append(f"<figure>{drawn}<figcaption>{words}{warned}</figcaption></figure>")
        parts.append(f'<div class="pictures narrow">{"".join(figures)}</div>{numbers}')
    what = "class of the surest box" if visit.is_detector else "first class"
    note = f"""Which pixels count for the {what}. Signed maps are red where they speak for it and blue
    against; the others say how much, not in which direction. Methods differ because they answer
    different questions; where they agree there is more reason to believe them. (edges): a method that
    {WARNING}."""
    return Section("why", "Why this answer", f"<p>{text(note)}</p>{''.join(parts)}")


def _framed(image: Array, found: Attribution) -> Array:
    """With the box that is explained, where it is one."""
    return image if found.box is None else draw_boxes(image, [Mark(found.box, colour=_FRAME)], 2.0)


def _usable(visit: Visit, name: str) -> bool:
    method = METHODS[name]
    if method.needs_gradients and not visit.has_gradients:
        return False
    return not method.needs_layer or default_layer(visit.graph, scored_node(visit.model)) is not None


def map_over(found: Attribution) -> npt.NDArray[np.uint8]:
    """The map over a pale grey picture, H,W,3: the same colours as ``fovea explain`` draws."""
    from matplotlib import colormaps

    low, high = scale(found.values, found.facts.signed)
    grey = 150 + found.image.astype(np.float32).mean(-1, keepdims=True) * (105 / 255)
    share = np.clip((found.values - low) / max(high - low, 1e-30), 0, 1)
    colour = np.asarray(colormaps[colours_of(found.facts.signed)](share))[..., :3] * 255
    strength = np.clip(np.abs(found.values) / max(abs(low), abs(high), 1e-30), 0, 1)[..., None]
    alpha = 0.35 + 0.55 * np.sqrt(strength)
    mixed: npt.NDArray[np.uint8] = np.round(grey * (1 - alpha) + colour * alpha).astype(np.uint8)
    return mixed


def attacks(visit: Visit) -> Section | None:
    """How little it takes: every picture, what was added, and what the network says then."""
    if not visit.is_classifier or not len(visit.images) or visit.known.kind != "image" or not visit.has_gradients:
        return None

    def make() -> Any:
        return adversarial(visit.model, visit.given, "pgd", epsilon=4 / 255, seed=visit.seed, engine=visit.engine)

    found = visit.attempt("adversarial images", make, 0.02 * visit.seconds)
    if found is None:
        return None
    parts = []
    for row, name in enumerate(visit.names):
        before, after = found.before[row].to_dict(), found.after[row].to_dict()
        said = [f"{text(one['label'])} {percent(one['probability'], 1)}" for one in (before, after)]
        trio = [
            (found.images[row], f"{text(name)}: {said[0]}"), (found.amplified()[row], "what was added, enlarged"),
            (found.changed[row], said[1]),
        ]  # fmt: skip
        drawn = "".join(f"<figure>{pictures.image(p, w)}<figcaption>{w}</figcaption></figure>" for p, w in trio)
        parts.append(f'<div class="pictures three">{drawn}</div>')
    levels = round(found.epsilon * 255)
    note = f"""Projected gradient descent (Madry et al. 2018): no pixel changes by more than {levels} of 255, and
        the network says something else of {int(found.flipped.sum())} of {len(found.flipped)} pictures."""
    return Section("attacks", "How little it takes", f"<p>{text(note)}</p>{''.join(parts)}")


def memory(visit: Visit) -> Section | None:
    """What codes at several depths still know of the first picture."""
    if not len(visit.images) or visit.known.kind != "image" or not visit.has_gradients or not visit.stops:
        return None
    figures = [f"<figure>{pictures.image(visit.images[0])}<figcaption>{text(visit.names[0])}</figcaption></figure>"]
    each = 0.05 * visit.seconds
    for layer in visit.stops:

        def make(layer: str = layer) -> Any:
            return invert(visit.model, visit.given[:1], layer, steps=STEPS, seed=visit.seed, engine=visit.engine)

        begun = time.monotonic()
        found = visit.attempt(f"the picture made again from {layer}", make, each)
        each = max(each, time.monotonic() - begun) if found is not None else each
        if found is not None:
            words = f"{text(layer)}: code off by {percent(float(found.errors[0]), 0)}"
            figures.append(f"<figure>{pictures.image(found.inverted[0])}<figcaption>{words}</figcaption></figure>")
    if len(figures) == 1:
        return None
    note = """The first picture made again from the output of a layer alone (Mahendran and Vedaldi 2015): what is
        lost there, such as colours and places, is filled in smoothly."""
    return Section(
        "memory", "What is left of a picture", f'<p>{text(note)}</p><div class="pictures">{"".join(figures)}</div>'
    )
