"""The options that say what a file of another system does not: its network, how images go in, names of the classes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fovea.cli.arguments import sizes
from fovea.errors import ConfigError

if TYPE_CHECKING:
    from fovea.data.preprocess import Preprocessing
    from fovea.model import Model
    from fovea.ops.base import Shape

__all__ = [
    "Bgr", "InputShape", "Labels", "Mean", "Network", "Option", "Preprocess", "Resize", "Scale", "Size", "Std",
    "imported", "named", "with_preprocessing",
]  # fmt: skip

_WORDNET_ID = re.compile(r"^n\d{8}\s+")
"""What lists of ImageNet's classes put before each name."""

_NOT_THE_NETWORKS = {
    "num_classes": "leave it out: the weights tell it",
    "classes": "give their names in a file: --labels",
    "input_shape": "use --input-shape",
    "preprocessing": "use --preprocess, or --size, --mean and --std",
    **dict.fromkeys(("name", "weights", "seed", "initializer", "task"), "see fovea models NAME for those"),
}
"""Arguments of every network in Python that are no ``--option``, and what to do instead."""

Network = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of weights: the network, one that `fovea models` lists.")
]
Option = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Of weights: an option of the network, such as padding=same."),
]
InputShape = Annotated[
    str | None, typer.Option(metavar="H,W,C", help="Input size, where the file leaves it open; channels last.")
]
Preprocess = Annotated[
    str | None,
    typer.Option(metavar="imagenet|tf|caffe", help="How images usually become input for networks of ImageNet."),
]
Size = Annotated[str | None, typer.Option(metavar="H,W", help="Images are resized to this.")]
Resize = Annotated[str | None, typer.Option(help="shorter-side (and crop; usual), stretch or letterbox.")]
Mean = Annotated[str | None, typer.Option(metavar="R,G,B", help="Subtracted from the scaled pixels.")]
Std = Annotated[str | None, typer.Option(metavar="R,G,B", help="What they are divided by then.")]
Scale = Annotated[float | None, typer.Option(help="What pixels (0 to 255) are multiplied by first; 1/255 unless told.")]
Bgr = Annotated[bool, typer.Option("--bgr", help="The network takes blue first.")]
Labels = Annotated[Path | None, typer.Option(metavar="FILE", help="Names of the classes, one a line.")]


def imported(file: str, network: str | None, options: list[str], input_shape: Shape | None) -> tuple[Model, list[str]]:
    """The model of a file, and what to say about it."""
    if Path(file).suffix.lower() == ".onnx":
        from fovea.interop.load import import_file

        if network is not None or options:
            raise ConfigError("--network", "expected it with a file of weights, got an ONNX file; leave it out")
        imported = import_file(file, input_shape)
        model, notes = imported.model, []
        for name, ours in zip(model.graph.inputs, imported.inputs, strict=True):
            layout = "channels last" if ours != tuple(range(len(ours))) else "as in the file"
            notes.append(f"input {name}: {('N', *model.graph.shape(name))} ({layout})")
        moved = (f"note: {node} transposes at run time; everything else was renamed" for node in imported.transposes)
        return model, [*notes, *moved]
    from fovea.models.registry import create

    name = _network(file) if network is None else network
    model = create(name, None, input_shape, weights=file, **dict(map(_option, options)))
    matched = model.provenance.get("weights", {}).get("matched", "all arrays by their paths, from a model of fovea")
    return model, [f"{name}: {matched}"]


def _network(file: str) -> str:
    """The network whose layers a file of weights names."""
    from fovea.models.foreign import FOREIGN_SUFFIXES, read_foreign
    from fovea.models.published import PUBLISHED
    from fovea.models.recognise import network_of

    if file.split(":")[0] in PUBLISHED:
        raise ConfigError("--network", f"expected the name of a network for {file}, got none; see fovea models")
    if Path(file).suffix.lower() not in FOREIGN_SUFFIXES:
        raise ConfigError(
            "import", f"expected a file of ONNX, PyTorch, Keras or safetensors, got {file}; its name must end so"
        )
    if not Path(file).is_file():
        raise ConfigError("import", f"expected a file of weights, found none at {file}; check the path")
    foreign = read_foreign(file)
    if foreign is None:
        raise ConfigError("import", f"expected a file of another system, got {file}, which is none; see fovea summary")
    return network_of(foreign)


def _option(text: str) -> tuple[str, Any]:
    """``padding=same`` or ``dropout=0.1`` as a key and a text or number."""
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise ConfigError("--option", f"expected KEY=VALUE such as padding=same, got {text!r}; see fovea models NAME")
    if key in _NOT_THE_NETWORKS:
        raise ConfigError("--option", f"expected an option of the network itself, got {key}; {_NOT_THE_NETWORKS[key]}")
    for kind in (int, float):
        try:
            return key, kind(value)
        except ValueError:
            continue
    return key, value


def with_preprocessing(
    model: Model,
    preset: str | None,
    size: str | None,
    resize: str | None,
    mean: str | None,
    std: str | None,
    scale: float | None,
    bgr: bool,
) -> Preprocessing | None:
    """The model's preprocessing, changed as the options say: on top of what the file says where no preset is given."""
    if not bgr and all(one is None for one in (preset, size, resize, mean, std, scale)):
        return model.preprocessing
    from fovea.data.preprocess import Preprocessing
    from fovea.models.published import PRESETS

    if preset is not None and preset not in PRESETS:
        known = ", ".join(PRESETS)
        raise ConfigError("--preprocess", f"expected one of {known}, got {preset!r}; or give --size, --mean and --std")
    side, channels = _side(model, size)
    base = model.preprocessing if preset is None else None
    if base is None:
        crop = round(max(side) * 256 / 224) if preset is not None and resize in (None, "shorter-side") else None
        chosen = {} if preset is None else PRESETS[preset]
        base = Preprocessing(size=side, channels=channels, resize_to=crop, **chosen)
    changes: dict[str, Any] = {
        "resize": resize, "scale": scale, "order": "bgr" if bgr else None,
        "mean": _numbers(mean, "--mean"), "std": _numbers(std, "--std"),
    }  # fmt: skip
    if base.size != side:
        changes["size"] = side
    if base.size != side or resize not in (None, base.resize):
        base = replace(base, resize_to=None)
    return replace(base, **{name: value for name, value in changes.items() if value is not None})


def _side(model: Model, size: str | None) -> tuple[tuple[int, int], int]:
    """Height and width that images get, and their channels."""
    given = sizes(size, "--size")
    height, width, channels = (*model.graph.input_shapes[0], None, None, None)[:3]
    side = given if given is not None else (height, width)
    side = side * 2 if len(side) == 1 else side
    if channels is None or len(side) != 2 or any(one is None for one in side):
        raise ConfigError("--size", "expected a height and a width, and the network leaves them open; give --size 224")
    if any(own not in (None, one) for own, one in zip((height, width), side, strict=True)):
        raise ConfigError(
            "--size", f"expected {height},{width}, the only size of this network, got {size}; see --input-shape"
        )
    return (int(side[0] or 0), int(side[1] or 0)), channels


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            option, f"expected numbers such as 0.485,0.456,0.406, got {text!r}; separate by commas"
        ) from None


def named(model: Model, path: Path | None) -> tuple[str, ...] | None:
    """The model's class names, or those of a file with one a line. Raises ConfigError where their number differs."""
    if path is None:
        return model.classes
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("--labels", f"expected a text file with one class a line, got: {error}") from None
    names = tuple(_WORDNET_ID.sub("", line.strip()) for line in lines if line.strip())
    outputs = model.graph.output_shapes[0][-1] if model.graph.output_shapes[0] else None
    if len(names) != outputs:
        raise ConfigError("--labels", f"expected {outputs} names for as many outputs, got {len(names)} in {path}")
    return names
