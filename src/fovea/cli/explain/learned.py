"""Modes that look at what a network has learned: ``--maps``, ``--filters``, ``--channels``, ``--exciting``,
``--embedding``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fovea.cli.arguments import load_model
from fovea.cli.explain.asked import Asked
from fovea.cli.files import write, write_array
from fovea.cli.output import columns, print_json
from fovea.errors import ConfigError, DataError, GraphError

if TYPE_CHECKING:
    from fovea.data.dataset import Dataset
    from fovea.model import Model

__all__ = [
    "ChannelsOption", "DataOption", "EmbeddingOption", "ExcitingOption", "FiltersOption", "Learned", "MapsOption",
    "TopOption", "open_data_for", "run",
]  # fmt: skip

MapsOption = Annotated[
    str | None, typer.Option("--maps", metavar="NODE", help="The feature maps of this layer for IMAGE.")
]
FiltersOption = Annotated[
    str | None, typer.Option("--filters", metavar="NODE", help="The filters of this convolution ('first': the first).")
]
ChannelsOption = Annotated[
    str | None, typer.Option("--channels", metavar="DATA", help="Dead and saturated channels of all layers over DATA.")
]
ExcitingOption = Annotated[
    str | None,
    typer.Option("--exciting", metavar="NODE", help="The parts of --data that excite channels of this layer most."),
]
EmbeddingOption = Annotated[
    str | None, typer.Option("--embedding", metavar="pca|tsne", help="Codes of --data in the plane, as thumbnails.")
]
DataOption = Annotated[
    str | None, typer.Option("--data", metavar="DATA", help="A data set, or a folder or archive of pictures.")
]
TopOption = Annotated[int, typer.Option("--top-k", help="With --exciting: how many patches a channel.")]
TOP_K = 9
_MODES = ("maps", "filters", "channels", "exciting", "embedding")
_SHOWN = 7
"""Channels of a sheet of patches when nobody names one."""


@dataclass(frozen=True)
class Learned:
    """The modes' own words."""

    maps: str | None
    filters: str | None
    channels: str | None
    exciting: str | None
    embedding: str | None
    data: str | None
    channel: int | None
    top_k: int
    seed: int

    def wanted(self) -> str | None:
        """The mode that was asked for."""
        return next((one for one in _MODES if getattr(self, one)), None)


def run(asked: Asked, words: Learned) -> None:
    """Do what was asked for."""
    modes = {"maps": _maps, "filters": _filters, "channels": _channels, "exciting": _exciting, "embedding": _embedding}
    modes[words.wanted() or "maps"](asked, words, load_model(asked.model))


def _maps(asked: Asked, words: Learned, model: Model) -> None:
    from fovea.explain import activations
    from fovea.report.sheets import map_tiles, sheet

    image, layer = asked.picture(), str(words.maps)
    out = asked.file(f"{image.stem}-{layer}.png")
    found = activations(model, [image], layer, engine=asked.engine)[layer][0]
    tiles, note = map_tiles(found)
    shape = " x ".join(map(str, found.shape))
    write(out, sheet(tiles, f"{layer}: {shape}, for {image.name}", note))
    array = out.with_suffix(".npy")
    write_array(array, found)
    record = {"layer": layer, "shape": list(found.shape), "minimum": float(found.min()), "maximum": float(found.max()),
              "zeros": float((found == 0).mean()), "files": [str(out), str(array)]}  # fmt: skip
    text = f"{layer}: {shape}, from {found.min():.4g} to {found.max():.4g}, {record['zeros']:.0%} zeros"
    _tell(asked, record, f"{text}\nwrote {out} and {array}")


def _filters(asked: Asked, words: Learned, model: Model) -> None:
    from fovea.explain import filters
    from fovea.report.sheets import filter_tiles, filters_drawn, sheet

    found = filters(model, None if words.filters == "first" else words.filters)
    out = asked.file(f"{Path(asked.model).stem}-{found.layer}-filters.png")
    known = model.preprocessing
    rgb = known is None or known.order == "rgb"
    turned = found if rgb or not found.is_first else replace(found, weight=found.weight[..., ::-1])
    shape = " x ".join(map(str, found.weight.shape))
    tiles = filter_tiles(turned, True)
    title, drawn = f"{found.layer}: {shape}", filters_drawn(turned, True)
    rest = "" if drawn == len(found.weight) else f" The first {drawn} of {len(found.weight)}; the array holds all."
    write(out, sheet(tiles, title, found.note() + rest, side=1.35 if len(tiles) > 1 else 8.0))  # one matrix
    array = out.with_suffix(".npy")
    write_array(array, found.weight)
    record = {"layer": found.layer, "shape": list(found.weight.shape), "first": found.is_first, "note": found.note(),
              "files": [str(out), str(array)]}  # fmt: skip
    _tell(asked, record, f"{found.layer}: {shape}. {found.note()}\nwrote {out} and {array}")


def _channels(asked: Asked, words: Learned, model: Model) -> None:
    from fovea.explain import channel_statistics

    data, _ = open_data_for(model, str(words.channels))
    layers = None if asked.layer is None else [asked.layer]
    found = channel_statistics(model, data.train, layers, engine=asked.engine)
    records = [
        {
            "layer": one.layer, "op": one.kind, "channels": len(one.mean), "dead": int(one.dead.sum()),
            "never_active": int(one.never.sum()), "always_active": int(one.always.sum()),
            "saturated": int(one.saturated.sum()), "zeros": float(one.zeros.mean()), "at_upper": float(one.high.mean()),
            "dead_channels": one.dead.nonzero()[0].tolist(),
        }
        for one in found.values()
    ]  # fmt: skip
    if asked.as_json:
        print_json({"data": data.name, "samples": next(iter(found.values())).samples, "layers": records})
        return
    head = ["layer", "op", "channels", "dead", "never", "always", "saturated", "zeros", "at upper limit"]
    rows = [
        [one["layer"], one["op"], one["channels"], one["dead"], one["never_active"], one["always_active"],
         one["saturated"], f"{one['zeros']:.1%}", f"{one['at_upper']:.1%}"]
        for one in records
    ]  # fmt: skip
    print(columns(head, rows, left=2))
    print(
        f"over {next(iter(found.values())).samples} samples of {data.name}. dead: the same everywhere; never and always"
    )
    print("active: at, or above, the lower limit everywhere; saturated: nine tenths at a limit (of ReLU6 the upper)")


def _exciting(asked: Asked, words: Learned, model: Model) -> None:
    from fovea.explain import exciting
    from fovea.report.sheets import MOST_TILES, patch_tiles, sheet

    layer = str(words.exciting)
    out = asked.file(f"{Path(asked.model).stem}-{layer}-exciting.png")
    data, _ = open_data_for(model, _needed(words))
    count = int(model.graph.shape(layer)[-1] or 0)
    rows = max(1, min(_SHOWN, MOST_TILES // max(1, words.top_k)))  # a sheet holds so many whole ones
    spread = sorted({round(i * (count - 1) / max(1, rows - 1)) for i in range(rows)})
    chosen = spread if words.channel is None else [words.channel]
    found = exciting(model, data.train, layer, chosen, top_k=words.top_k, engine=asked.engine)[layer]
    note = "Rows are channels, the strongest sample first; each patch is all that the value depends on."
    if found.gated:
        note = ("Rows are channels, the strongest sample first; each patch is where the channel looks, and a factor of "
                "the whole image acts on it as well.")  # fmt: skip
    if words.top_k > MOST_TILES:
        note += f" The {MOST_TILES} strongest of {words.top_k} are drawn, --json lists all."
    write(out, sheet(patch_tiles(found, most=words.top_k), f"{layer}: most exciting patches of {data.name}", note,
                     columns=words.top_k if len(chosen) > 1 else min(words.top_k, 12)))  # fmt: skip
    ids = data.train.ids
    record = {
        "layer": layer, "data": data.name, "gated": found.gated, "files": [str(out)],
        "channels": [
            {"channel": int(channel), "patches": [
                {"sample": ids[int(sample)], "value": float(value), "position": position.tolist(), "low": low.tolist(),
                 "high": high.tolist()}
                for sample, value, position, low, high in zip(
                    found.samples[row], found.values[row], found.positions[row], found.low[row], found.high[row],
                    strict=True) if sample >= 0]}
            for row, channel in enumerate(found.channels)
        ],
    }  # fmt: skip
    text = "\n".join(
        f"channel {one['channel']}: {one['patches'][0]['value']:.4g} in {one['patches'][0]['sample']}"
        for one in record["channels"]  # type: ignore[attr-defined]
    )
    _tell(asked, record, f"{text}\nwrote {out}")


def _embedding(asked: Asked, words: Learned, model: Model) -> None:
    import fovea
    from fovea.explain import embed
    from fovea.explain.embedding import checked_method
    from fovea.report.sheets import scatter

    out = asked.file(f"{Path(asked.model).stem}-{words.embedding}.png")
    method = checked_method(str(words.embedding))
    data, labelled = open_data_for(model, _needed(words))
    try:
        found = fovea.codes(model, data.train, asked.layer, engine=asked.engine)
    except GraphError:
        if asked.layer is not None:
            raise
        raise ConfigError(
            "--layer", "expected a NODE whose codes are shown, got none, and this network ends in no classifier whose "
            "features would be taken; see fovea summary",
        ) from None  # fmt: skip
    points = embed(found.array, method, seed=words.seed)
    pictures = list(data.train.inputs) if len(points.points) <= 400 and data.kind == "image" else None
    targets = data.train.targets if labelled and data.task == "classification" else None  # values, boxes: no colours
    write(out, scatter(points, pictures, targets, data.classes))
    array = out.with_suffix(".npy")
    write_array(array, points.points)
    layer = next(iter(found.nodes.values()))
    record = {"layer": layer, "data": data.name, "method": points.method, "explained": points.explained,
              "samples": len(points.points), "files": [str(out), str(array)]}  # fmt: skip
    shares = "" if points.explained is None else f", {sum(points.explained):.1%} of the variance in the plane"
    _tell(asked, record, f"{layer}: {len(points.points)} samples of {data.name}{shares}\nwrote {out} and {array}")


def _needed(words: Learned) -> str:
    if words.data is None:
        raise ConfigError("--data", f"expected a data set beside --{words.wanted()}, got none; name one")
    return words.data


def open_data_for(model: Model, path: str) -> tuple[Dataset, bool]:
    """DATA as the model needs it, and whether it has labels: a folder or archive of pictures alone is data as well.

    Raises DataError for what cannot be read, and for samples of another kind than the model's.
    """
    from fovea.cli.source import open_data

    try:
        data, labelled = open_data(path, {}), True
    except DataError as error:
        try:  # pictures without classes: each file name stands for itself
            data, labelled = open_data(path, {"label_pattern": "{label}", "val_fraction": 0}), False
        except DataError:
            raise error from None
    known = model.preprocessing
    if known is None:
        fix = "import it with --preprocess, or set model.preprocessing"
        raise DataError("explain", f"expected a model that knows its preprocessing, got one without; {fix}")
    return data.prepared(known), labelled


def _tell(asked: Asked, record: dict[str, Any], text: str) -> None:
    if asked.as_json:
        print_json(record)
    else:
        print(text)
