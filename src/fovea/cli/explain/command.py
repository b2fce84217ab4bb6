"""The command and its modes.

A mode is a file of this folder with a function that takes ``Asked`` (the common words of the command line) and, beside
it, the values of options of its own; its options are declared there as ``Annotated`` types, so that this file gets two
lines for each mode: the parameter of ``explain`` and a branch that calls the mode. ``words.py`` says which options a
mode reads. Without a mode's option the command explains one image by attribution (``attribution.py``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fovea.cli.arguments import MODEL, set_threads
from fovea.cli.explain import arithmetic, attribution, learned, made, probes, shift, tour, trust
from fovea.cli.explain.asked import Asked
from fovea.cli.explain.words import checked
from fovea.errors import ConfigError

__all__ = ["explain"]


def explain(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help=MODEL)] = None,
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[IMAGE...]",
            help="A picture of any size, or another sample file that the model takes (several for --report).",
        ),
    ] = None,
    method: attribution.MethodOption = None,
    layer: Annotated[
        str | None,
        typer.Option(metavar="NODE", help="The layer to look through (default: the last map that still has space)."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS",
            help="A class by name or number (default: the first one predicted); NODE:INDEX, one number of any node.",
        ),
    ] = None,
    score: attribution.ScoreOption = None,
    baseline: attribution.BaselineOption = None,
    arithmetic_of: arithmetic.ArithmeticOption = None,
    at: arithmetic.AtOption = None,
    channel: arithmetic.ChannelOption = None,
    backward: arithmetic.BackwardOption = False,
    weight: arithmetic.WeightOption = None,
    batch_statistics: arithmetic.StatisticsOption = False,
    maps: learned.MapsOption = None,
    filters: learned.FiltersOption = None,
    channels: learned.ChannelsOption = None,
    exciting: learned.ExcitingOption = None,
    embedding: learned.EmbeddingOption = None,
    probed: probes.ProbesOption = None,
    data: learned.DataOption = None,
    top_k: learned.TopOption = learned.TOP_K,
    visualise: made.VisualiseOption = None,
    neuron: made.NeuronOption = False,
    count: made.CountOption = 1,
    dream: made.DreamOption = None,
    invert: made.InvertOption = None,
    adversarial: made.AdversarialOption = None,
    epsilon: made.EpsilonOption = made.EPSILON,
    steps: made.StepsOption = None,
    seed: made.SeedOption = 0,
    report: tour.ReportOption = None,
    seconds: tour.SecondsOption = None,
    with_trust: trust.TrustOption = False,
    box: trust.BoxOption = None,
    by_shift: shift.ShiftOption = False,
    engine: Annotated[str | None, typer.Option(help="native, reference or torch (default: the fastest here).")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write (default: named after IMAGE and method).")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads (default: every core).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Show what a network looks at in a picture, a sound or a volume.

    Writes the picture with a map over it that says how much each pixel counts for the class, and the map as an array.
    With --arithmetic it shows what one number of a layer is made of; --maps, --filters, --channels, --exciting,
    --embedding and --probes what a network has learned, --visualise, --dream, --invert and --adversarial what it makes
    of pictures, --report all of it on one page, --trust whether to believe a map, --shift what moving the picture does.
    """
    checked(_given(context), len(images or ()))
    set_threads(threads)
    number = attribution.box_number(box) if box and not with_trust else None
    if model is None and not by_shift:
        raise ConfigError("explain", "expected a MODEL, got none; name a model file or a run folder")
    asked = Asked(model or "", tuple(images or ()), method, layer, target, score, engine, out, as_json)
    looked = learned.Learned(maps, filters, channels, exciting, embedding, data, channel, top_k, seed)
    drawn = made.Made(visualise, dream, invert, adversarial, channel, neuron, at, count, epsilon, steps, seed)
    place = arithmetic.Place(arithmetic_of, at, channel, backward, weight, batch_statistics)
    if report is not None:
        tour.run(asked, report, data, seconds, seed)
    elif by_shift:
        shift.run(asked, data, seed)
    elif probed is not None:
        probes.run(asked, probed, seed)
    elif looked.wanted():
        learned.run(asked, looked)
    elif drawn.wanted():
        made.run(asked, drawn)
    elif place.layer is not None:
        arithmetic.run(asked, place)
    elif with_trust:
        trust.run(asked, box, baseline, seed)
    else:
        attribution.run(asked, baseline, number, seed)


def _given(context: typer.Context) -> list[str]:
    """The options that stand on the command line, by their long names."""
    named = {param.name: max(param.opts, key=len) for param in context.command.params if param.name}
    return [
        option
        for name, option in named.items()
        if option.startswith("--") and (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"
    ]
