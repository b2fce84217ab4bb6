"""Modes that let a network make or change pictures: ``--visualise``, ``--dream``, ``--invert``, ``--adversarial``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fovea.cli.arguments import load_model
from fovea.cli.explain.asked import Asked
from fovea.cli.files import write
from fovea.cli.output import print_json
from fovea.errors import ConfigError

if TYPE_CHECKING:
    from fovea.explain import Adversarial
    from fovea.model import Model

__all__ = [
    "AdversarialOption", "CountOption", "DreamOption", "EpsilonOption", "InvertOption", "Made", "NeuronOption",
    "SeedOption", "StepsOption", "VisualiseOption", "run",
]  # fmt: skip

VisualiseOption = Annotated[
    str | None,
    typer.Option(
        "--visualise", metavar="NODE|class",
        help="Make images that excite --channel of this layer, or ('class') the class --target.",
    ),
]  # fmt: skip
NeuronOption = Annotated[
    bool, typer.Option("--neuron", help="With --visualise: one position (--at, else the centre), not the whole map.")
]
CountOption = Annotated[int, typer.Option("--count", help="With --visualise: images a channel, unlike each other.")]
DreamOption = Annotated[
    str | None, typer.Option("--dream", metavar="NODE", help="Strengthen in IMAGE what this layer sees in it.")
]
InvertOption = Annotated[
    str | None, typer.Option("--invert", metavar="NODE", help="Make IMAGE again from this layer's output alone.")
]
AdversarialOption = Annotated[
    str | None,
    typer.Option("--adversarial", metavar="fgsm|pgd|fooling", help="Change IMAGE a little, so that the answer changes "
                 "(or becomes --target); fooling: noise for --target."),
]  # fmt: skip
EpsilonOption = Annotated[
    str, typer.Option("--epsilon", metavar="SHARE", help="With --adversarial: how far a pixel may change.")
]
StepsOption = Annotated[int | None, typer.Option("--steps", help="Steps of ascent (default: what the mode needs).")]
SeedOption = Annotated[int, typer.Option("--seed", help="Of everything that is drawn: noise, masks, weights.")]
EPSILON = "4/255"
_SHOWN = 8
"""Channels of a sheet when nobody names one."""


@dataclass(frozen=True)
class Made:
    """The modes' own words."""

    visualise: str | None
    dream: str | None
    invert: str | None
    adversarial: str | None
    channel: int | None
    neuron: bool
    at: str | None
    count: int
    epsilon: str
    steps: int | None
    seed: int

    def wanted(self) -> str | None:
        """The mode that was asked for."""
        return next((one for one in ("visualise", "dream", "invert", "adversarial") if getattr(self, one)), None)

    def common(self, asked: Asked) -> dict[str, Any]:
        """Options of every function behind these modes."""
        steps = {} if self.steps is None else {"steps": self.steps}
        return {"seed": self.seed, "engine": asked.engine, **steps}


def run(asked: Asked, words: Made) -> None:
    """Do what was asked for."""
    modes = {"visualise": _visualise, "dream": _dream, "invert": _invert, "adversarial": _adversarial}
    modes[words.wanted() or "visualise"](asked, words, load_model(asked.model))


def _visualise(asked: Asked, words: Made, model: Model) -> None:
    from fovea.explain import maximise
    from fovea.report.sheets import MOST_TILES, sheet, tile_of

    layer = str(words.visualise)
    out = asked.file(f"{Path(asked.model).stem}-{_name(asked, words)}.png")
    common: dict[str, Any] = {**words.common(asked), "count": words.count}
    if layer == "class" and layer not in model.graph.nodes:
        if asked.target is None:
            raise ConfigError(
                "--target", "expected a class beside --visualise class, got none; give its name or number"
            )
        if words.channel is not None or words.neuron:
            option = "--channel" if words.channel is not None else "--neuron"
            raise ConfigError(
                option, "expected a layer beside it, got --visualise class; name a layer, or leave it out"
            )
        found = maximise(model, target=asked.target, **common)
    else:
        if asked.target is not None:
            raise ConfigError("--target", f"expected --visualise class beside it, got {layer}; leave one of them out")
        count = int(model.graph.shape(layer)[-1] or 0) if model.graph.shape(layer) else 0
        shown = max(1, min(_SHOWN, MOST_TILES // max(1, words.count)))  # so many a sheet holds
        spread = sorted({round(i * (count - 1) / max(1, shown - 1)) for i in range(shown)})
        chosen = spread if words.channel is None else [words.channel]
        found = maximise(model, layer, chosen, neuron=_neuron(words), **common)
    words_of = [
        f"{start:.3g} to {value:.3g}" if depends else "never changes: noise"
        for start, value, depends in zip(found.start, found.values, found.depends, strict=True)
    ]
    tiles = [
        tile_of(image, f"{_short(title)}\n{said}", smooth=True)
        for image, title, said in zip(found.images, found.names, words_of, strict=True)
    ]
    note = f"Made by ascent on {found.node}; the numbers are its mean on the first noise and on the image."
    if words.neuron or words.visualise == "class":
        note = note.replace("its mean", "its value there" if words.neuron else "the logit")
    write(out, sheet(tiles, f"What excites {_name(asked, words)}", note, columns=4, side=2.3))
    rows = zip(found.names, found.start.tolist(), found.values.tolist(), found.depends.tolist(), strict=True)
    records = [{"name": title, "start": start, "value": value, "depends": d} for title, start, value, d in rows]
    lines = [f"{title}: {said}" for title, said in zip(found.names, words_of, strict=True)]
    _tell(asked, {"node": found.node, "images": records, "files": [str(out)]}, "\n".join([*lines, f"wrote {out}"]))


def _name(asked: Asked, words: Made) -> str:
    """Of the file: the class, or the layer and channel."""
    if words.visualise == "class":
        return (asked.target or "class").split(",")[0].replace(" ", "-").replace("/", "-")
    return f"{words.visualise}" if words.channel is None else f"{words.visualise}-{words.channel}"


def _neuron(words: Made) -> Any:
    """None, "centre" or the position of --at."""
    if not words.neuron:
        return None
    if words.at is None:
        return "centre"
    try:
        return tuple(int(part) for part in words.at.split(","))
    except ValueError:
        raise ConfigError("--at", f"expected a position such as 3,4, got {words.at!r}; separate by commas") from None


def _dream(asked: Asked, words: Made, model: Model) -> None:
    from fovea.explain import deep_dream

    image = asked.picture()
    out = asked.file(f"{image.stem}-dream-{words.dream}.png")
    found = deep_dream(model, image, str(words.dream), words.channel, **words.common(asked))
    write(out, _plain_png(found.dreamed))
    sizes = ", ".join(f"{height}x{width}" for height, width in found.octaves)
    _tell(asked, {"layer": found.layer, "octaves": found.octaves, "files": [str(out)]},
          f"{found.layer} at {sizes}\nwrote {out}")  # fmt: skip


def _invert(asked: Asked, words: Made, model: Model) -> None:
    from fovea.explain import invert
    from fovea.report.sheets import Tile, picture_of, sheet

    image = asked.picture()
    out = asked.file(f"{image.stem}-from-{words.invert}.png")
    found = invert(model, [image], str(words.invert), **words.common(asked))
    tiles = [
        Tile(picture_of(found.images[0]), "what the network sees", smooth=True),
        Tile(picture_of(found.inverted[0]), f"made from {found.layer}", smooth=True),
    ]
    error = float(found.errors[0])
    note = f"The code of the right image is {error:.1%} of its length away from that of the left one."
    write(out, sheet(tiles, f"What {found.layer} still knows of {image.name}", note, side=3.2))
    _tell(asked, {"layer": found.layer, "error": error, "files": [str(out)]}, f"{note}\nwrote {out}")


def _adversarial(asked: Asked, words: Made, model: Model) -> None:
    from fovea.explain import adversarial, fooling
    from fovea.explain.attacks import ATTACKS
    from fovea.report.sheets import attack_tiles, sheet

    method = str(words.adversarial)
    target = asked.target  # a name goes before a number, as in every mode
    if method not in (*ATTACKS, "fooling"):
        raise ConfigError("--adversarial", f"expected fgsm, pgd or fooling, got {method!r}; choose one of them")
    if method == "fooling":
        if words.epsilon != EPSILON:
            raise ConfigError("--epsilon", "expected fgsm or pgd beside it, got fooling, which starts from noise")
        if target is None:
            raise ConfigError("--target", "expected the class that noise is to become, got none; name one")
        found, stem = fooling(model, target, **words.common(asked)), Path(asked.model).stem
    else:
        image = asked.picture()
        options = {"epsilon": _share(words.epsilon), "target": target, **words.common(asked)}
        found, stem = adversarial(model, [image], method, **options), image.stem
    out = asked.file(f"{stem}-{method}.png")
    changed = out.with_name(f"{out.stem}-changed.png")
    write(out, sheet(attack_tiles(found), _title(found), columns=3, side=2.7))
    write(changed, _plain_png(found.changed[0]))
    record = {
        "method": method, "epsilon": found.epsilon, "targeted": found.targeted, "flipped": bool(found.flipped[0]),
        "before": found.before[0].to_dict(), "after": found.after[0].to_dict(), "files": [str(out), str(changed)],
    }  # fmt: skip
    _tell(asked, record, f"before: {found.before[0]}\nafter:  {found.after[0]}\nwrote {out} and {changed}")


def _title(found: Adversarial) -> str:
    return f"{found.method}: every pixel changed by at most {round(found.epsilon * 255)} of 255"


def _share(text: str) -> float:
    """``4/255`` or ``0.016``. Raises ConfigError."""
    above, _, below = text.partition("/")
    try:
        return float(above) / (float(below) if below else 1.0)
    except (ValueError, ZeroDivisionError):
        raise ConfigError("--epsilon", f"expected a share such as 4/255 or 0.016, got {text!r}; give one") from None


def _plain_png(pixels: Any) -> bytes:
    import io

    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(data, "PNG")
    return data.getvalue()


def _short(name: str) -> str:
    return name if len(name) <= 34 else f"{name[:32]}.."


def _tell(asked: Asked, record: dict[str, Any], text: str) -> None:
    if asked.as_json:
        print_json(record)
    else:
        print(text)
