"""The layers in Keras's files of weights: ``.keras``, ``.weights.h5`` and the older ``.h5``.

A ``.keras`` file is a zip archive of ``config.json`` (layers in order, as data) and ``model.weights.h5``. There a layer
is a group named by its class and a counter, ``layers/conv2d_3/vars/0``, where newer versions also note its name.
The older ``.h5`` lists layers in order and names every array, ``conv1/kernel:0``. Of a model only names of layers and
the eps of norms are looked at; a Lambda layer, which is Python code, is refused.

Run as a program (``keras_file`` does), it reads one file within limits of memory and time: the library under h5py loops
and crashes on files that are damaged in the right places.
"""

from __future__ import annotations

import io
import json
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors.numpy import save_file

from fovea.errors import FoveaError, ModelFileError
from fovea.interop.h5_tree import H5File
from fovea.interop.keras_file import KerasLayer

__all__ = ["main", "read_layers"]

Array = npt.NDArray[Any]
LARGEST_CONFIG = 64 << 20
"""Bytes of config.json; ConvNeXt-XL's has 0.2 MB."""
DEEPEST = 16
"""Models inside models."""
NUMBERED = {
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "layer_normalization": ("gamma", "beta"),
    "layer_scale": ("layer_scale",),
}
"""What Keras's own classes call their arrays, which the newer format numbers."""
SHORT = {
    "kernel": "weight", "depthwise_kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias",
    "moving_mean": "running_mean", "moving_variance": "running_var", "layer_scale": "layer_scale",
    "variable": "layer_scale",
}  # fmt: skip
"""Our names of the same arrays; ConvNeXt's layer scale is called Variable in older files."""
NOT_LAYERS = ("normalization", "rescaling", "seed_generator", "random_seed_generator")
"""Hold the statistics of input pixels, or states of generators."""


def read_layers(path: str | PathLike[str]) -> list[KerasLayer]:
    """The layers that have arrays, in the order of the file: the model's own where the file holds that, else by class.

    Raises ModelFileError, in one line, for a file that is damaged, hostile or none of Keras's.
    """
    where = str(path)
    try:
        if zipfile.is_zipfile(path):
            return _archive(where, path)
        with open(path, "rb") as file:
            size = Path(path).stat().st_size
            return _layers(where, file, size, None)
    except FoveaError:
        raise
    except FileNotFoundError:
        raise ModelFileError(where, "expected a Keras file, got none there; check the path") from None
    except OSError as error:
        got = " ".join((error.strerror or str(error)).split())[:120]
        raise ModelFileError(where, f"expected a whole Keras file, got: {got}; save or download it again") from None
    except Exception as error:  # anything may stand anywhere in a hostile file
        raise ModelFileError(
            where, f"expected a whole Keras file, got {type(error).__name__} while reading it; the file is damaged"
        ) from None


def _archive(where: str, path: str | PathLike[str]) -> list[KerasLayer]:
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        for name in ("config.json", "model.weights.h5"):
            if name not in entries:
                raise ModelFileError(where, f"expected {name} in the archive; this zip file is no model of Keras")
        config, weights = entries["config.json"], entries["model.weights.h5"]
        if config.file_size > LARGEST_CONFIG:
            raise ModelFileError(where, f"expected a config.json below 64 MB, got {config.file_size:,} bytes")
        if weights.compress_type != zipfile.ZIP_STORED:  # its size is then the file's, whatever the archive says
            raise ModelFileError(where, "expected model.weights.h5 uncompressed, as Keras writes it; save it again")
        with archive.open(config) as text:
            described = json.loads(text.read(LARGEST_CONFIG))
        content = archive.read(weights)
    return _layers(where, io.BytesIO(content), len(content), described)


def _layers(where: str, file: Any, size: int, described: Any) -> list[KerasLayer]:
    with H5File(where, file, size) as content:
        names = content.texts("", "layer_names")
        root = ""
        if names is None and content.is_group("model_weights"):
            root, names = "model_weights", content.texts("model_weights", "layer_names")
            described = content.json("", "model_config", LARGEST_CONFIG)
        norms = dict(_norms(where, described))
        found = list(_numbered(content, described) if names is None else _named(content, root, names))
    layers = [
        KerasLayer(one.name, one.kind, one.arrays, norms.get(one.name)) for one in found if one.kind not in NOT_LAYERS
    ]
    if not layers:
        raise ModelFileError(where, "expected layers with weights, got none; it is no file of weights of Keras")
    return layers


# --- the older format: names of layers, names of arrays


def _named(content: H5File, root: str, names: list[str]) -> Iterator[KerasLayer]:
    for name in names:
        group = f"{root}/{name}" if root else name
        modules: dict[str, dict[str, Array]] = {}
        for weight in content.texts(group, "weight_names") or []:
            prefix, _, last = weight.rpartition("/")
            # a model inside the model lists the arrays of all its layers
            module = name if prefix == name or prefix.endswith(f"/{name}") else prefix.rpartition("/")[2] or name
            short = re.sub(r"(_\d+)?(:\d+)?$", "", last).lower()
            modules.setdefault(module, {})[short] = content.array(f"{group}/{weight}")
        for module, arrays in modules.items():
            if {"mean", "variance"} <= set(arrays):
                continue  # statistics of pixels
            kind = "depthwise_conv2d" if "depthwise_kernel" in arrays else ""
            yield KerasLayer(module, kind, {SHORT.get(short, short): array for short, array in arrays.items()})


# --- the newer format: classes and counters


def _numbered(content: H5File, described: Any) -> Iterator[KerasLayer]:
    order = list(_places(described)) if described is not None else []
    position = {place: index for index, (place, _) in enumerate(order)}
    names = dict(order)
    groups = [path for path in content.groups() if path.endswith("/vars") and not path.startswith("optimizer")]
    places = {path: "/".join(path.split("/")[:-1]) for path in groups}
    for path in sorted(groups, key=lambda one: (position.get(places[one], len(order)), _natural(one))):
        place = places[path]
        kind = re.sub(r"_\d+$", "", place.rpartition("/")[2])
        numbers = sorted((name for name in content.members(path) if name.isdecimal()), key=int)
        if not numbers or kind in NOT_LAYERS:
            continue
        shorts = NUMBERED.get(kind, ("kernel", "bias"))
        if len(numbers) > len(shorts) or (kind in NUMBERED and len(numbers) < len(shorts)):
            raise ModelFileError(
                content.where,
                f"expected {', '.join(shorts)} in {path}, got {len(numbers)} arrays; this kind of layer is not known",
            )
        arrays = {SHORT[short]: content.array(f"{path}/{one}") for short, one in zip(shorts, numbers, strict=False)}
        noted = content.texts(path, "name")
        name = names.get(place) or (noted[0] if noted else place.removeprefix("layers/"))
        yield KerasLayer(name, kind, arrays)


def _natural(path: str) -> list[tuple[str, int]]:
    """A key that sorts "conv2d_2" before "conv2d_10"."""
    return [(re.sub(r"_\d+$", "", part), int((re.findall(r"_(\d+)$", part) or [0])[0])) for part in path.split("/")]


# --- config.json


def _children(described: Any) -> list[Mapping[str, Any]]:
    config = described.get("config") if isinstance(described, dict) else None
    layers = config.get("layers") if isinstance(config, dict) else None
    return [one for one in layers if isinstance(one, dict)] if isinstance(layers, list) else []


def _places(described: Any, prefix: str = "layers", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Where the newer format keeps each layer, and its name: the class in snake case, counted within its model."""
    counts: dict[str, int] = {}
    for layer in _children(described) if depth < DEEPEST else []:
        kind = _snake_case(str(layer.get("class_name")))
        count = counts[kind] = counts.get(kind, -1) + 1
        place = f"{prefix}/{kind}_{count}" if count else f"{prefix}/{kind}"
        yield place, _name(layer)
        yield from _places(layer, f"{place}/layers", depth + 1)


def _norms(where: str, described: Any, depth: int = 0) -> Iterator[tuple[str, float]]:
    """The eps of every layer that has one. Refuses layers made of code."""
    for layer in _children(described) if depth < DEEPEST else []:
        if layer.get("class_name") == "Lambda":
            raise ModelFileError(
                where,
                f"expected a model of layers, got code in the Lambda layer {_name(layer)[:60]!r}; nothing in a file is "
                "run: save its weights alone, with save_weights",
            )
        config = layer.get("config")
        eps = config.get("epsilon") if isinstance(config, dict) else None
        if isinstance(eps, (int, float)) and 0 <= eps < 1:
            yield _name(layer), float(eps)
        yield from _norms(where, layer, depth + 1)


def _name(layer: Mapping[str, Any]) -> str:
    config = layer.get("config")
    return str((config.get("name") if isinstance(config, dict) else None) or layer.get("name") or "")


def _snake_case(name: str) -> str:
    """Keras's own rule: "BatchNormalization" is "batch_normalization", "Conv2D" is "conv2d"."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def main(path: str, out: str) -> None:
    """Write the arrays to ``out`` (safetensors), the layers they belong to as JSON into its metadata."""
    _limit(Path(path).stat().st_size)
    layers = read_layers(path)
    described = [{"name": one.name, "kind": one.kind, "eps": one.eps, "arrays": list(one.arrays)} for one in layers]
    arrays = {f"{index}.{short}": one.arrays[short] for index, one in enumerate(layers) for short in one.arrays}
    save_file(arrays, out, {"layers": json.dumps(described)})


def _limit(size: int) -> None:
    """Memory for the file four times over and the interpreter, and seconds of computing: more is a sign of damage."""
    try:
        import resource
    except ModuleNotFoundError:  # no POSIX
        return
    for kind, most in ((resource.RLIMIT_AS, (2 << 30) + 4 * size), (resource.RLIMIT_CPU, 5 + size // 10_000_000)):
        _, hard = resource.getrlimit(kind)
        with suppress(ValueError, OSError):  # macOS knows no limit of addresses; the one of seconds it keeps
            resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ModelFileError as problem:
        sys.stdout.write(json.dumps(problem.message))
        sys.exit(2)
