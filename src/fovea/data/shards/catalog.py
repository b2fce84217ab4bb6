"""What each shard holds: from ``shards.json`` beside the shards, else counted in one pass over their headers."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from fovea import progress
from fovea.data.decode import image_header
from fovea.data.layouts.base import natural, split_word
from fovea.data.shards.places import CATALOG, is_url, join, read_bytes, shard_files
from fovea.data.shards.tar import members
from fovea.data.source import Shape
from fovea.errors import DataError

__all__ = ["FORMAT", "Catalog", "Contents", "Shard", "read_catalog"]

FORMAT = 1
PROBES = 64
"""Images whose sizes decide to which size all are brought."""


@dataclass(frozen=True)
class Shard:
    """One tar file. ``labels``: of every sample, where they are known (not of what is only streamed)."""

    place: str
    samples: int
    size: int = 0
    digest: str = ""
    labels: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return PurePosixPath(self.place).name


@dataclass(frozen=True)
class Contents:
    """One split: its shards and how many samples each label has."""

    shards: tuple[Shard, ...]
    counts: dict[str, int]

    @property
    def samples(self) -> int:
        """Samples of all shards."""
        return sum(shard.samples for shard in self.shards)


@dataclass(frozen=True)
class Catalog:
    """A set of shards. Label texts belong to class names by ``labels`` and ``classes``, which have one order."""

    name: str
    classes: tuple[str, ...]
    labels: tuple[str, ...]
    splits: dict[str, Contents]
    shapes: tuple[Shape, ...]
    validation: str = ""
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """sha256 over class names and the shards' names, sizes and digests, whatever folder they lie in."""
        digest = hashlib.sha256(json.dumps([self.classes, self.labels]).encode())
        for name, contents in self.splits.items():
            shards = [[shard.name, shard.samples, shard.size, shard.digest] for shard in contents.shards]
            digest.update(json.dumps([name, shards, sorted(contents.counts.items())]).encode())
        return digest.hexdigest()

    def without_split(self, fraction: float) -> Catalog:
        """With a validation split of whole shards of train, ``fraction`` of them, evenly spread, where there is none.

        Fewer shards than one for that fraction are left alone.
        """
        train = self.splits.get("train")
        if train is None or "val" in self.splits:
            return replace(self, validation=self.validation or "its own split")
        taken = round(len(train.shards) * fraction)
        if not taken:
            note = f"{len(train.shards)} shards are too few to hold some of them back; write a validation split"
            return replace(self, validation="none", notes=(*self.notes, note) if fraction else self.notes)
        places = {(2 * part + 1) * len(train.shards) // (2 * taken) for part in range(taken)}
        val = with_labels([shard for place, shard in enumerate(train.shards) if place in places])
        counts = Counter(train.counts) - Counter(val.counts)
        stay = Contents(tuple(s for place, s in enumerate(train.shards) if place not in places), dict(counts))
        splits = {"train": stay, "val": val, **{name: own for name, own in self.splits.items() if name != "train"}}
        return replace(self, splits=splits, validation=f"{taken} of {len(train.shards)} shards, evenly spread")


def read_catalog(text: str) -> Catalog:
    """The catalog of a folder, file, pattern or address. Raises DataError."""
    where = (text if is_url(text) else str(Path(text).expanduser())).rstrip("/")
    listing = None if where.endswith((".tar", ".gz", ".tgz")) else read_bytes(join(where, CATALOG))
    if listing is not None:
        return _listed(where, listing)
    return _counted(PurePosixPath(where).name or where, shard_files(text))


def with_labels(shards: Sequence[Shard]) -> Contents:
    """The shards with the labels of all their samples, counted where they are not known: headers are read."""
    found = list(shards)
    unknown = [place for place, shard in enumerate(shards) if shard.labels is None]
    if unknown:
        with progress.bar(len(unknown), "reading labels", unit="shards") as bar:
            for place in unknown:
                labels = tuple(member.label for member in members(shards[place].place, images=False))
                found[place] = replace(shards[place], labels=labels, samples=len(labels))
                bar.update(1)
    counts: Counter[str] = Counter()
    for shard in found:
        counts.update(shard.labels or ())
    return Contents(tuple(found), dict(counts))


def _counted(name: str, files: Sequence[str]) -> Catalog:
    """A catalog of shards that nobody has listed: one pass over their headers."""
    splits: dict[str, list[Shard]] = {}
    counts: dict[str, Counter[str]] = {}
    with progress.bar(len(files), "counting shards", unit="shards") as bar:
        for file in files:
            split = split_word(PurePosixPath(file).name) or "train"
            labels = [member.label for member in members(file, images=False)]
            digest = hashlib.sha256("\n".join(labels).encode()).hexdigest()
            kept = tuple(labels) if split != "train" else None
            splits.setdefault(split, []).append(Shard(file, len(labels), 0, digest, kept))
            counts.setdefault(split, Counter()).update(labels)
            bar.update(1)
    names = natural(label for own in counts.values() for label in own)
    if not names:
        raise DataError(
            name, f"{len(files)} tar files hold no pairs such as 000001.jpg and 000001.cls; pack such pairs"
        )
    if all(label.isdigit() for label in names):  # numbers count classes, also those that no sample has
        names = [str(number) for number in range(int(names[-1]) + 1)]
    found = [split for split in ("train", "val", "test") if split in splits]
    made: dict[str, Contents] = {split: Contents(tuple(splits[split]), dict(counts[split])) for split in found}
    note = f"counted by reading the headers of {len(files)} shards; {CATALOG} beside them would say it"
    return Catalog(name, tuple(names), tuple(names), made, _probed(next(iter(made.values())).shards), notes=(note,))


def _probed(shards: Sequence[Shard]) -> tuple[Shape, ...]:
    """What the headers of the first images say."""
    shapes = []
    for member in islice((one for shard in shards for one in members(shard.place)), PROBES):
        try:
            height, width, grey, _ = image_header(member.data, member.name)
        except DataError:
            continue
        shapes.append(Shape((height, width), grey))
    if not shapes:
        raise DataError(shards[0].name, "none of its first images can be read; check how it was written")
    return tuple(shapes)


def _listed(where: str, listing: bytes) -> Catalog:
    try:
        found = json.loads(listing)
        if found["format"] != FORMAT:
            raise DataError(
                join(where, CATALOG),
                f"has format {found['format']!r}, {FORMAT} is expected; update fovea or write it again",
            )
        classes = tuple(str(name) for name in found["classes"])
        splits = {str(name): _contents(where, entry, len(classes)) for name, entry in found["splits"].items()}
        shapes = tuple(Shape((int(h), int(w)), int(found["channels"]) == 1) for h, w in found["image_sizes"])
        labels = tuple(str(number) for number in range(len(classes)))
        made = str(found.get("validation", "")) if "val" in splits else ""
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        text = f"{type(error).__name__} {error}"[:80]
        raise DataError(join(where, CATALOG), f"is damaged ({text}); write the shards again") from None
    if len(set(classes)) != len(classes):
        raise DataError(join(where, CATALOG), "names a class twice; write the shards again")
    if not classes or not splits or not shapes or not all(own.samples for own in splits.values()):
        raise DataError(join(where, CATALOG), "lists no classes or no samples; write the shards again")
    notes = () if made in ("", "its own split") else (f"validation was made when the shards were written: {made}",)
    return Catalog(str(found.get("name", "shards")), classes, labels, splits, shapes, notes=notes)


def _contents(where: str, entry: Any, classes: int) -> Contents:
    shards = []
    for item in entry["shards"]:
        name = str(item["name"])
        if name != PurePosixPath(name).name or (not is_url(where) and "\\" in name):
            raise ValueError(f"a shard is called {name!r}")
        labels = item.get("labels")
        texts = None if labels is None else tuple(str(int(label)) for label in labels)
        samples = int(item["samples"])
        if samples < 0 or (texts is not None and len(texts) != samples):
            raise ValueError(f"{name} has {samples} samples")
        shards.append(Shard(join(where, name), samples, int(item["bytes"]), str(item["sha256"]), texts))
    counts = [int(count) for count in entry["class_counts"]]
    if len(counts) != classes:
        raise ValueError(f"{len(counts)} counts for {classes} classes")
    return Contents(tuple(shards), {str(number): count for number, count in enumerate(counts)})
