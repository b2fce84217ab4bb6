"""Resampling of feature maps."""

from __future__ import annotations

from typing import Any

import numpy as np

from fovea.interop.onnx.importer import Importer
from fovea.interop.onnx.rules.rule import rule
from fovea.interop.onnx.rules.window import feature_map
from fovea.interop.onnx.values import BATCH, Tensor, Traced
from fovea.ops import Resize

__all__: list[str] = []

MODES = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}
MODES |= {"bilinear": "bilinear", "trilinear": "bilinear"}  # Upsample's names before opset 7
COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
ROUNDING = {"floor": "floor", "ceil": "ceil", "round_prefer_floor": "half_down", "round_prefer_ceil": "half_up"}


@rule("Resize", "Upsample")
def _resize(into: Importer) -> list[Traced]:
    x = into.channels_last(into.tensor(0))
    size, scale = _wanted(into, x)
    old = into.node.op_type == "Upsample" or into.opset < 11
    coordinates = "asymmetric" if old else into.attribute("coordinate_transformation_mode", "half_pixel")
    mode = MODES.get(into.attribute("mode", "nearest"), "")
    rounding = ROUNDING.get("floor" if old else into.attribute("nearest_mode", "round_prefer_floor"))
    fractions = size is None and any(scaled % 1 for scaled in _scaled(x, scale))
    if coordinates == "half_pixel_symmetric" and not fractions:
        coordinates = "half_pixel"
    if not mode or coordinates not in COORDINATES or rounding is None:
        raise into.refuse(f"the combination {into.attribute('mode')}, {coordinates} is not there")
    if coordinates == "align_corners" and fractions:
        raise into.refuse("runtimes disagree about align_corners with a scale that gives no whole size", "give sizes")
    if into.attribute("exclude_outside", 0) and mode == "bicubic":
        raise into.refuse("elements outside of the border that are left out are not there")
    if into.attribute("antialias", 0) and mode != "nearest" and _shrinks(x, size, scale):
        raise into.refuse("smoothing before shrinking (antialias) is not there")
    fields: dict[str, Any] = {"coordinates": coordinates, "mode": mode}
    if mode == "nearest":
        plain = (coordinates, rounding) == ("asymmetric", "floor")
        fields = {} if plain else {"coordinates": coordinates, "rounding": rounding}
    elif mode == "bicubic":
        fields["cubic"] = into.attribute("cubic_coeff_a", -0.75)
    return [feature_map(into, into.emit(Resize(_one(size), _one(scale), **fields), x.ref), x)]


def _one(values: tuple[Any, ...] | None) -> Any:
    """One number where all axes have the same."""
    return values[0] if values and len(set(values)) == 1 else values


def _scaled(x: Tensor, scale: tuple[float, ...] | None) -> list[float]:
    """Sizes before they are cut to whole ones, in float32; open ones count as whole."""
    pairs = zip(x.sizes[2:], scale or (), strict=False)
    return [0.0 if size is None else float(np.float32(size) * np.float32(one)) for size, one in pairs]


def _shrinks(x: Tensor, size: tuple[int, ...] | None, scale: tuple[float, ...] | None) -> bool:
    if size is None:
        return any(one < 1 for one in scale or ())
    return any(have is None or want < have for have, want in zip(x.sizes[2:], size, strict=True))


def _wanted(into: Importer, x: Tensor) -> tuple[tuple[int, ...] | None, tuple[float, ...] | None]:
    """Either the sizes or the scales of the spatial axes."""
    upsample = into.node.op_type == "Upsample"
    if upsample and into.opset < 9:
        scales: Any = into.attribute("scales") or []
    else:
        scales = into.constant_or_none(1 if upsample or into.opset < 11 else 2, "the scales")
    axes = [axis % x.ndim for axis in into.attribute("axes") or range(x.ndim)]
    given = [] if scales is None else np.asarray(scales, np.float32).reshape(-1).tolist()
    by_size = not given and not upsample and into.opset >= 11
    if by_size:
        if into.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise into.refuse("expected the policy 'stretch'")
        given = into.constant(3, "the sizes").reshape(-1).tolist()
    if len(given) != len(axes):
        raise into.refuse(f"expected a number for each of {len(axes)} axes, got {given}", "the file is damaged")
    told = dict(zip(axes, given, strict=True))
    same: list[Any] = [{1.0}, {1.0}]
    if by_size:
        same = [{BATCH, into.fixed_batch or 1}, {x.sizes[1]}]
    if any(told.get(axis, next(iter(same[axis]))) not in same[axis] for axis in (0, 1)):
        raise into.refuse("expected only spatial axes to be resized")
    if not by_size:
        return None, tuple(told.get(axis, 1.0) for axis in range(2, x.ndim))
    if len(told) < x.ndim - 2 or any(axis not in told for axis in range(2, x.ndim)):
        sizes = into.closed_sizes(x)
        told = {axis: told.get(axis, sizes[axis]) for axis in range(2, x.ndim)}
    return tuple(int(told[axis]) for axis in range(2, x.ndim)), None
