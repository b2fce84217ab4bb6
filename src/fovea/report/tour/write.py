"""The page of a tour: what is computed in which order, what is shown in which, and the file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import fovea
from fovea.data.given import as_samples
from fovea.errors import ConfigError, DataError
from fovea.graph.serialize import write_atomically
from fovea.progress import seconds_as_text
from fovea.report.page import Section, page, text
from fovea.report.tour import data as about_data
from fovea.report.tour import looks, network, reasons
from fovea.report.tour.trusted import numbers_of_trust
from fovea.report.tour.visit import Visit

if TYPE_CHECKING:
    from fovea.data.dataset import Dataset
    from fovea.model import Model

__all__ = ["write"]

Array = npt.NDArray[Any]


def write(
    model: Model,
    path: str | os.PathLike[str],
    images: Sequence[Any] = (),
    data: Dataset | None = None,
    *,
    labelled: bool = True,
    seconds: float = 300.0,
    seed: int = 0,
    engine: str | None = None,
) -> Path:
    """Write the tour of a network as one HTML file that loads nothing. Returns its path.

    ``images``: paths or arrays, of the kind that the model takes; without any the sections about pictures are missing.
    ``data``: a data set (patches, statistics and embedding are about at most 2,000 samples of its train split, probes
    about all of it and the validation split); ``labelled`` False: its classes mean nothing. ``seconds``: what may be
    spent; what did not fit is named at the end of the page. Raises DataError for a model without preprocessing and for
    images or data that do not fit it, ConfigError for a path that does not end in .html.
    """
    out = Path(path)
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError("--report", f"expected a file that ends in .html, got {out}; name one")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise ConfigError("--seconds", f"expected seconds above 0, got {seconds!r}; 300 is usual")
    visit = _visit(model, images, data, labelled, float(seconds), seed, engine)
    title, head = network.head(visit)
    sections = [part for part in _sections(visit) if part is not None]
    sections.append(_made(visit))
    foot = f"Written by fovea {text(fovea.__version__)}. This file holds everything it shows; it loads nothing."
    html = page(title, head, sections, foot)
    write_atomically(out, partial(_put, html))
    return out


def _put(html: str, path: Path) -> None:
    path.write_text(html, encoding="utf-8")


def _visit(
    model: Model, images: Sequence[Any], data: Dataset | None, labelled: bool, seconds: float, seed: int,
    engine: str | None,
) -> Visit:  # fmt: skip
    known = model.preprocessing
    if known is None:
        fix = "import it with --preprocess, or set model.preprocessing"
        raise DataError("report", f"expected a model that knows its preprocessing, got one without; {fix}")
    if len(model.graph.inputs) != 1:
        raise DataError("report", f"expected a network with one input, got {len(model.graph.inputs)}; use another")
    given = list(images)
    names = tuple(
        Path(one).name if isinstance(one, (str, os.PathLike)) else f"picture {row + 1}" for row, one in enumerate(given)
    )
    shape = tuple(size or 1 for size in known.sample_shape)
    raw = [np.asarray(one) for one in as_samples(given, known)] if given else []
    seen: Array = known.apply_spatial(raw) if raw else np.zeros((0, *shape), known.dtype)
    prepared = None if data is None else data.prepared(known)
    if None in model.graph.input_shapes[0] and known.size is None and not given and prepared is None:
        raise DataError("report", "expected a network with a size, got open sizes; give pictures or data")
    return Visit(model, known, raw, seen, names, prepared, labelled, seconds, seed, engine)


def _sections(visit: Visit) -> list[Section | None]:
    """Computed from the cheap to the dear, so that little time still gives most of the page; in reading order."""
    found = visit.attempt("statistics of channels", lambda: about_data.statistics(visit))
    chosen = {layer: looks.chosen_channels(visit, layer, found) for layer in visit.stops}
    dead = about_data.dead_channels(visit, found)
    patches = visit.attempt("the most exciting patches", lambda: looks.found_in_data(visit, chosen)) or {}
    maps = visit.attempt("feature maps", lambda: looks.feature_maps(visit))
    explained = reasons.attribution(visit)
    attacks = reasons.attacks(visit)
    alike = about_data.alike(visit)
    trusted = numbers_of_trust(visit, explained.methods) if explained is not None else []
    made_classes = reasons.classes(visit)
    made = looks.made_for_channels(visit, chosen)
    probes = about_data.probes(visit)
    memory = reasons.memory(visit)
    return [
        network.answers(visit), network.layers(visit), looks.first_filters(visit), maps,
        looks.channels(visit, chosen, patches, made), made_classes,
        reasons.why(visit, explained, trusted), attacks, memory, dead, alike, probes,
    ]  # fmt: skip


def _made(visit: Visit) -> Section:
    """How the page was made, and what it does not show."""
    missing = list(visit.left_out)
    if not len(visit.images):
        missing.append("feature maps, attributions and attacks: no pictures were given")
    if visit.data is None:
        missing.append("patches, dead channels, what is alike, probes: no data were given")
    elif not visit.labelled:
        missing.append("probes by depth: the data have no classes")
    if not visit.has_gradients:
        missing.append("images made by ascent: the network is quantised to int8 and has no gradients")
    spent = sum(visit.spent.values())
    lines = "".join(f"<li>{text(line)}</li>" for line in missing)
    took, given = seconds_as_text(spent), seconds_as_text(visit.seconds)
    body = f"<p>Made in {text(took)}, of {text(given)} that it might take, with seed {visit.seed}.</p>"
    if lines:
        body += f"<p>Left out:</p><ul>{lines}</ul>"
    return Section("made", "How this was made", body)
