"""Convolution, its transpose and the dense layer: every number is a sum of values times weights (docs/convolution.md).

    O[i, c]        = b[c] + sum over m, k of  X[i s + m d - p, k] F[m, k, c]
    dL/dX[q, k]    = sum over i, m, c with i s + m d - p = q of  delta[i, c] F[m, k, c]
    dL/dF[m, k, c] = sum over n, i of  X[n, i s + m d - p, k] delta[n, i, c]

The transpose has the first two in exchanged roles. With groups, k runs over the channels of c's group alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from fovea.explain.arithmetic.live import Live
from fovea.explain.arithmetic.records import Array, Calculation, Index, Term
from fovea.explain.arithmetic.sums import grad_bias, grad_input, grad_parameter, output
from fovea.explain.arithmetic.taps import Tap, readers, window_taps
from fovea.explain.arithmetic.tiles import tile_bound, weight_bound
from fovea.ops.window import Axis

__all__ = [
    "conv_backward",
    "conv_forward",
    "convtranspose_backward",
    "convtranspose_forward",
    "dense_backward",
    "dense_forward",
]


def conv_forward(live: Live, at: Index, channel: int) -> Calculation:
    """One output: a patch of the input times a filter, and the bias."""
    axes, x, weight = _geometry(live), live.inputs[0][0], live.params["weight"]
    ins = _members(x.shape[-1], live.op.groups, channel // (live.op.out_channels // live.op.groups))
    terms = _patch(x, weight, window_taps(axes, at), ins, channel)
    bound = tile_bound(live, "forward", x[..., ins], _sums(weight[..., channel], axes), at)
    formula = f"sum over m, k of X[{_place(axes)}, k] F[m, k, {channel}]"
    return output(
        live, (*at, channel), _with_bias(live, formula, channel), terms, bound=bound, bias=_bias(live, channel)
    )


def conv_backward(live: Live, at: Index, channel: int, weight_at: Index) -> tuple[Calculation, ...]:
    """The gradient at one input element, of one weight, of its bias."""
    axes, x, weight, delta = _geometry(live), live.inputs[0], live.params["weight"], live.delta
    group, local = divmod(channel, weight.shape[-2])
    outs = _members(live.op.out_channels, live.op.groups, group)
    terms = _reached(delta[0], weight, readers(axes, at), outs, local)
    bound = tile_bound(live, "backward data", delta[0][..., outs], _sums(weight[..., local, outs], axes), at)
    formula = f"sum over the windows i that read it (at their m) and all c of delta[i, c] F[m, {local}, c]"
    k, c = weight_at[-2:]
    whole = _members(x.shape[-1], live.op.groups, c // len(outs))[k]
    return (
        grad_input(live, 0, (*at, channel), formula, terms, bound=bound),
        _grad_weight(live, axes, x, delta, whole, c, weight_at),
        *grad_bias(live, c),
    )


def convtranspose_forward(live: Live, at: Index, channel: int) -> Calculation:
    """One output: every input whose filter reaches it times the weight that reaches it, and the bias."""
    axes, x, weight = _geometry(live), live.inputs[0][0], live.params["weight"]
    group, local = divmod(channel, weight.shape[-2])
    ins = _members(x.shape[-1], live.op.groups, group)
    terms = _reached(x, weight, readers(axes, at), ins, local)
    formula = f"sum over the i, m with {_place(axes)} at this place and all k of X[i, k] F[m, {local}, k]"
    bound = tile_bound(live, "forward", x[..., ins], _sums(weight[..., local, ins], axes), at)
    return output(
        live, (*at, channel), _with_bias(live, formula, channel), terms, bound=bound, bias=_bias(live, channel)
    )


def convtranspose_backward(live: Live, at: Index, channel: int, weight_at: Index) -> tuple[Calculation, ...]:
    """As of a convolution, with X and delta in exchanged roles."""
    axes, x, weight, delta = _geometry(live), live.inputs[0], live.params["weight"], live.delta
    per_group = x.shape[-1] // live.op.groups
    outs = _members(live.op.out_channels, live.op.groups, channel // per_group)
    terms = _patch(delta[0], weight, window_taps(axes, at), outs, channel)
    bound = tile_bound(live, "backward data", delta[0][..., outs], _sums(weight[..., channel], axes), at)
    formula = f"sum over m, c of delta[{_place(axes)}, c] F[m, c, {channel}]"
    c, k = weight_at[-2:]
    whole = _members(live.op.out_channels, live.op.groups, k // per_group)[c]
    return (
        grad_input(live, 0, (*at, channel), formula, terms, bound=bound),
        _grad_weight(live, axes, delta, x, whole, k, weight_at),
        *grad_bias(live, whole),
    )


def dense_forward(live: Live, at: Index, channel: int) -> Calculation:
    """One output: all inputs (of one position) times a column of weights, and the bias."""
    terms = _row(live.inputs[0][0][at], live.params["weight"][:, channel], at, lambda k: (k, channel))
    formula = _with_bias(live, f"sum over k of X[k] W[k, {channel}]", channel)
    return output(live, (*at, channel), formula, terms, bias=_bias(live, channel))


def dense_backward(live: Live, at: Index, channel: int, weight_at: Index) -> tuple[Calculation, ...]:
    """The gradient at one input, of one weight, of its bias."""
    delta, weight, x = live.delta, live.params["weight"], live.inputs[0]
    terms = _row(delta[0][at], weight[channel], at, lambda c: (channel, c))
    k, c = weight_at
    pairs = tuple(
        Term((*place, k), a, (*place, c), b, a * b, cell=place[1:], plane=place[0])
        for place, a, b in zip(
            np.ndindex(*x.shape[:-1]), x[..., k].ravel().tolist(), delta[..., c].ravel().tolist(), strict=True
        )
    )
    return (
        grad_input(live, 0, (*at, channel), f"sum over c of delta[c] W[{channel}, c]", terms),
        grad_parameter(
            live, "weight", weight_at, f"sum over samples n of X[n, {k}] delta[n, {c}]", pairs,
            values=f"X, from {live.source()}", weights="delta, gradient of the output",
        ),
        *grad_bias(live, c),
    )  # fmt: skip


# --- the sums


def _patch(x: Array, weight: Array, taps: Iterable[Tap], channels: range, last: int) -> tuple[Term, ...]:
    """A window of x times the filter ``weight[..., last]``, channel by channel; padding is 0."""
    terms, found = [], tuple(taps)
    for local, channel in enumerate(channels):
        for tap in found:
            index, place = (*tap.position, channel), (*tap.offset, local, last)
            value, factor = float(x[index]) if tap.inside else 0.0, float(weight[place])
            terms.append(Term(index, value, place, factor, value * factor, tap.cell, channel, tap.inside))
    return tuple(terms)


def _reached(values: Array, weight: Array, taps: Iterable[Tap], channels: range, row: int) -> tuple[Term, ...]:
    """What reaches one place: the value at every window that covers it times the weight that connects them."""
    terms, found = [], tuple(taps)
    for channel in channels:
        for tap in found:
            index, place = (*tap.position, channel), (*tap.offset, row, channel)
            value, factor = float(values[index]), float(weight[place])
            terms.append(Term(index, value, place, factor, value * factor, tap.cell, channel))
    return tuple(terms)


def _row(values: Array, weights: Array, at: Index, place: Callable[[int], Index]) -> tuple[Term, ...]:
    pairs = zip(values.tolist(), weights.tolist(), strict=True)
    return tuple(Term((*at, k), x, place(k), w, x * w, cell=(k,)) for k, (x, w) in enumerate(pairs))


def _grad_weight(
    live: Live, axes: tuple[Axis, ...], wide: Array, narrow: Array, channel: int, other: int, weight_at: Index
) -> Calculation:
    """One weight's gradient: ``wide``, which windows read, at its offset of every window, times ``narrow`` there."""
    offset = weight_at[: len(axes)]
    terms = []
    for n, *i in np.ndindex(*narrow.shape[:-1]):
        place = [j * axis.stride + m * axis.dilation - axis.pad_lo for j, m, axis in zip(i, offset, axes, strict=True)]
        inside = all(0 <= q < (axis.input or 0) for q, axis in zip(place, axes, strict=True))
        index, own = (n, *place, channel), (n, *i, other)
        value, factor = float(wide[index]) if inside else 0.0, float(narrow[own])
        terms.append(Term(index, value, own, factor, value * factor, tuple(i), n, inside))
    names = (f"X, from {live.source()}", "delta, gradient of the output")
    letters = ("X", "delta")
    if live.node.op.kind == "convtranspose":
        names, letters = names[::-1], letters[::-1]
    where = f"m = ({', '.join(map(str, offset))})"
    formula = f"sum over n, i of {letters[0]}[n, {_place(axes)}, {channel}] {letters[1]}[n, i, {other}] at {where}"
    bound = weight_bound(live, wide[..., channel], narrow[..., other])
    return grad_parameter(
        live, "weight", weight_at, formula, tuple(terms), bound=bound, values=names[0], weights=names[1]
    )


# --- what they read from the op


def _geometry(live: Live) -> tuple[Axis, ...]:
    return tuple(live.op.windows(live.node.input_shapes[0]))


def _members(channels: int, groups: int, group: int) -> range:
    """The channels of one group."""
    size = channels // groups
    return range(size * group, size * (group + 1))


def _sums(filter_: Array, axes: tuple[Axis, ...]) -> Array:
    """Absolute weights summed over the kernel."""
    return np.abs(filter_).sum(axis=tuple(range(len(axes))), dtype=np.float64)  # type: ignore[no-any-return]


def _bias(live: Live, channel: int) -> float | None:
    return float(live.params["bias"][channel]) if "bias" in live.params else None


def _with_bias(live: Live, formula: str, channel: int) -> str:
    return f"b[{channel}] + {formula}" if "bias" in live.params else formula


def _place(axes: tuple[Axis, ...]) -> str:
    """Where offset m of the window at i meets the input, with this layer's stride, dilation and padding."""
    parts = []
    for axis in axes:
        scaled = "i" if axis.stride == 1 else f"{axis.stride} i"
        offset = "m" if axis.dilation == 1 else f"{axis.dilation} m"
        parts.append(f"{scaled} + {offset}" + (f" - {axis.pad_lo}" if axis.pad_lo else ""))
    return parts[0] if len(set(parts)) == 1 else f"({', '.join(parts)})"
