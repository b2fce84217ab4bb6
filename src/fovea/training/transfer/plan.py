"""The adviser: which of the four situations of transfer learning the data are in, and what to do about it.

The situations are those of the course notes CS231n, "Transfer learning": a new data set is small or large, and similar
to what the network was trained on or different. Here each is measured, not guessed.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import asdict, dataclass
from typing import Any

from fovea.errors import ConfigError
from fovea.progress import say
from fovea.training.transfer.measure import Depth, Measured, Recognition

__all__ = ["PLANS", "SMALL", "Plan", "Situation", "checked_plan", "choose", "describe", "situation"]

PLANS = {
    "probe": "a linear probe on what the head reads; nothing else is trained",
    "finetune": "the probe becomes the head, then the network is trained from there",
    "probe-earlier": "a linear probe on an earlier layer; what lies behind it is left out",
    "scratch": "the same network from starting values, without what it has learned",
}
SMALL = 100
"""Fewer training images of a class (the median) are few: a rule of thumb. Below it a probe has the better odds, and
either way the validation split decides."""
_GAIN, _CONFIDENCE = 0.25, 0.4
"""Below them the source model does not recognise the images."""


@dataclass(frozen=True)
class Situation:
    """``number`` 1 to 4 as the notes count them; ``why``: what was measured, in sentences."""

    small: bool
    similar: bool
    why: tuple[str, ...]

    @property
    def number(self) -> int:
        """1 small and similar, 2 large and similar, 3 small and different, 4 large and different."""
        return {(True, True): 1, (False, True): 2, (True, False): 3, (False, False): 4}[self.small, self.similar]

    @property
    def words(self) -> str:
        """``small and similar``."""
        return f"{'small' if self.small else 'large'} and {'similar' if self.similar else 'different'}"


@dataclass(frozen=True)
class Plan:
    """What is done: one of PLANS, ``why``, and for probes the ``layer`` (None: what the head reads).

    ``situation``: number and words, None where nothing was measured; ``measured``: in sentences. ``decided_by``:
    "adviser", "default" or "you".
    """

    name: str
    why: str
    decided_by: str
    layer: str | None = None
    situation: int | None = None
    situation_words: str = ""
    measured: tuple[str, ...] = ()

    @property
    def different(self) -> bool:
        """Whether the data were found to be unlike those of the source."""
        return self.situation in (3, 4)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def checked_plan(name: str | None) -> str | None:
    """The name of a plan, or None. Raises ConfigError with near names."""
    if name is None or name in PLANS:
        return name
    near = difflib.get_close_matches(str(name), PLANS, 2, 0.4) or PLANS
    raise ConfigError("plan", f"expected one of {', '.join(PLANS)}, got {name!r}; near names: {', '.join(near)}")


def situation(measured: Measured) -> Situation:
    """Small: fewer than SMALL training images of a class, by the median. Different: the source model's own answers say
    little about the classes, or an earlier layer tells them apart better than the last.

    Better means by one standard error, by two where the source model's answers say much: then an earlier layer needs
    the stronger evidence.
    """
    seen = measured.recognition
    known = seen is not None and _known(seen, measured.images)
    best = measured.best(2.0 if known else 1.0)
    earlier = best is not measured.depths[-1]
    why = [_size(measured), _depth(measured, best)]
    if seen is not None:
        verdict = "it knows such images" if known else "they are strange to it"
        why.append(
            f"the source model, {seen.confidence:.0%} sure on average, names a class that tells yours in "
            f"{seen.standing:.1%} of images (chance {seen.chance:.1%}): {verdict}"
        )
    return Situation(measured.median < SMALL, not earlier and (known or seen is None), tuple(why))


def _known(seen: Recognition, images: int) -> bool:
    """Whether the source model knows such images. Where there are fewer than it has classes, names that come up once
    can tell nothing, and its confidence must do."""
    return seen.gain >= _GAIN or (images < seen.source_classes and seen.confidence >= _CONFIDENCE)


def _size(measured: Measured) -> str:
    few = "fewer" if measured.median < SMALL else "not fewer"
    return f"{measured.median:g} training images of a class (the median): {few} than {SMALL}"


def _depth(measured: Measured, best: Depth) -> str:
    last = measured.depths[-1]
    if math.isnan(last.accuracy):
        return "one image of each class: nothing could be held out to compare depths"
    if best is not last:
        return (
            f"a probe on {best.layer} is right on {best.accuracy:.1%} of held-out images, on the last layer on "
            f"{last.accuracy:.1%}: the last layers have learned something else"
        )
    return (
        f"a probe on the last layer is right on {last.accuracy:.1%} of held-out images; no earlier one is better by "
        "more than chance explains"
    )


def choose(measured: Measured | None, wanted: str | None, layer: str | None, trains: str | None) -> Plan:
    """The plan: what was asked for, else what the situation asks for, else the probe and then fine-tuning.

    ``wanted``: a plan of PLANS; ``layer``: of an earlier probe; ``trains``: an option that was given and makes sense
    only when something is trained, such as "--lr".
    """
    where = None if measured is None else situation(measured)
    known: dict[str, Any] = {} if where is None else {
        "situation": where.number, "situation_words": where.words, "measured": where.why,
    }  # fmt: skip
    best = None if measured is None else measured.best()
    if layer is not None and wanted not in (None, "probe-earlier"):
        raise ConfigError("layer", f"expected it with the plan probe-earlier, got {wanted}; leave one of them out")
    if layer is not None:
        return Plan("probe-earlier", f"a probe on {layer}, as you asked", "you", layer, **known)
    if wanted == "probe-earlier":
        if best is None:
            raise ConfigError("plan", "expected a layer to probe where nothing is measured, got none; give layer=")
        return Plan(wanted, f"as you asked, on {best.layer}, the best depth", "you", best.layer, **known)
    if wanted is not None:
        return Plan(wanted, f"{PLANS[wanted]}, as you asked", "you", **known)
    if trains is not None:
        return Plan("finetune", f"{PLANS['finetune']}, since {trains} is given", "you", **known)
    if where is None:
        return Plan("finetune", PLANS["finetune"], "default")
    if not where.small:
        return Plan("finetune", f"{where.words}: {PLANS['finetune']}", "adviser", **known)
    assert best is not None
    assert measured is not None
    if where.similar or best is measured.depths[-1]:
        more = "" if where.similar else "; no earlier layer is better"
        return Plan("probe", f"{where.words}: {PLANS['probe']}{more}", "adviser", **known)
    return Plan("probe-earlier", f"{where.words}: {PLANS['probe-earlier']}", "adviser", best.layer, **known)


def describe(measured: Measured | None, plan: Plan) -> None:
    """Say what was measured and which plan follows."""
    if measured is not None:
        for one in measured.depths:
            right = "n/a" if math.isnan(one.accuracy) else f"{one.accuracy:.1%} +- {one.spread:.1%}"
            say(f"probe       {one.layer:<32} {one.size:>6} numbers  {right}")
        for sentence in plan.measured:
            say(f"measured    {sentence}")
        for name, places in list((measured.recognition.names if measured.recognition else {}).items())[:10]:
            seen = ", ".join(f"{source} {share:.0%}" for source, share in places)
            say(f"seen as     {name}: {seen}")
        say(f"situation   {plan.situation} of 4: {plan.situation_words}")
    say(f"plan        {plan.name} ({plan.decided_by}): {plan.why}")
