"""Data sets by name: from ``FOVEA_DATA/NAME`` when that exists, else from the official source, checked by hash.

Downloads go through pooch into ``FOVEA_CACHE`` (default: the user's cache folder) and are used only when their checksum
is the published one.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, field
from pathlib import Path

from fovea.errors import DataError

__all__ = ["SOURCES", "Known", "cache_folder", "fetch", "known", "locate", "names"]

_DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Known:
    """A data set that has a name: official files with checksums (none: only found locally) and how to read it."""

    name: str
    base: tuple[str, ...] = ()  # mirrors, tried in order
    files: dict[str, str] = field(default_factory=dict)  # file name -> "sha256:..." or "md5:..."
    classes: tuple[str, ...] | None = None
    label_pattern: str | None = None
    test_where: str | None = None


SOURCES: dict[str, Known] = {
    known.name: known
    for known in (
        Known(
            "mnist",
            ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
            {
                "train-images-idx3-ubyte.gz": "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "train-labels-idx1-ubyte.gz": "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "t10k-images-idx3-ubyte.gz": "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "t10k-labels-idx1-ubyte.gz": "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            },
            classes=_DIGITS,
        ),
        Known(
            "fashion-mnist",
            ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
            {
                "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
                "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
                "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
            },
            classes=(
                "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
            ),
        ),
        Known(
            "cifar10",
            ("https://www.cs.toronto.edu/~kriz/",),
            {"cifar-10-python.tar.gz": "sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"},
        ),
        Known("cats_dogs"),
        # Free Spoken Digit Dataset: its README names takes 0 to 4 of each speaker and digit as the test set.
        Known("fsdd", label_pattern="{label}_{speaker}_{take}.wav", test_where="take<5"),
        Known("digits", classes=_DIGITS),  # comes with scikit-learn
    )
}  # fmt: skip


def names() -> tuple[str, ...]:
    """Every name that is known, and every folder of ``FOVEA_DATA``."""
    root = os.environ.get("FOVEA_DATA")
    local = [entry.name for entry in Path(root).iterdir() if entry.is_dir()] if root and Path(root).is_dir() else []
    return tuple(sorted({*SOURCES, *(name for name in local if not name.startswith("."))}))


def known(name: str) -> Known | None:
    """What is known about a name; ``_`` and ``-`` are the same, case does not matter."""
    plain = name.lower().replace("_", "-")
    return next((item for item in SOURCES.values() if item.name.replace("_", "-") == plain), None)


def locate(name: str) -> Path | None:
    """``FOVEA_DATA/NAME`` when it exists."""
    root = os.environ.get("FOVEA_DATA")
    if not root or "/" in name or "\\" in name or name in ("", ".", ".."):
        return None
    item = known(name)
    candidates = [name, item.name] if item else [name]
    return next((Path(root) / candidate for candidate in candidates if (Path(root) / candidate).exists()), None)


def cache_folder() -> Path:
    """Where downloads are kept: ``FOVEA_CACHE``, else the user's cache folder."""
    if os.environ.get("FOVEA_CACHE"):
        return Path(os.environ["FOVEA_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fovea"


def fetch(name: str) -> Path:
    """The folder of a named data set, downloaded when it is not there yet. Raises DataError.

    >>> fetch("mnist")  # doctest: +SKIP
    PosixPath('.../fovea/data/mnist')
    """
    local = locate(name)
    if local is not None:
        return local
    item = known(name)
    if item is None or not item.files:
        raise DataError(name, unknown_name(name))
    import pooch  # type: ignore[import-untyped]  # it ships no types

    folder = cache_folder() / "data" / item.name
    for file, checksum in item.files.items():
        errors = []
        for mirror in item.base:
            try:
                pooch.retrieve(mirror + file, known_hash=checksum, fname=file, path=folder, progressbar=False)
                break
            except (OSError, ValueError) as error:  # no connection, or bytes that are not the published ones
                errors.append(f"{mirror}: {str(error)[:160]}")
        else:
            raise DataError(
                item.name,
                f"could not be downloaded ({'; '.join(errors)}); put its files into a folder and give that, or set"
                " FOVEA_DATA",
            )
    return folder


def unknown_name(name: str) -> str:
    """The sentence for a path or name that is not there."""
    near = difflib.get_close_matches(name, names(), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known names are {', '.join(sorted(SOURCES))}"
    where = "" if os.environ.get("FOVEA_DATA") else " (FOVEA_DATA is not set)"
    return f"is no file, folder or known data set{where}; {hint}"
