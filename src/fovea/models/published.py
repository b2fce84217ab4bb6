"""Weights that torchvision publishes for networks of the zoo: where they lie, how good they are, how images go in.

Carried over from the weight records of torchvision 0.28 (``torchvision.models.get_model_weights``): file names, which
end in the first digits of the file's SHA-256, accuracies on ImageNet-1K's validation images (one crop), sizes, the
resizing that they were measured with, and the names of the classes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fovea.data.fetch import cache_folder
from fovea.data.preprocess import Preprocessing
from fovea.errors import ConfigError, DataError
from fovea.progress import Bar, bar

__all__ = ["PRESETS", "PUBLISHED", "Published", "imagenet_classes", "published_file", "published_for"]

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""Of the training images of ImageNet, on a scale from 0 to 1: what most published networks were trained with."""
HALF: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
"""Pixels from -1 to 1."""
PRESETS: dict[str, dict[str, Any]] = {
    "imagenet": IMAGENET,
    "tf": HALF,
    "caffe": {"mean": (103.939, 116.779, 123.68), "scale": 1.0, "order": "bgr"},
}
"""The three customs, named as in Keras Applications: its MobileNets take "tf", its ResNets and VGGs "caffe"."""
BASE = "https://download.pytorch.org/models/"


@dataclass(frozen=True)
class Published:
    """One file of weights. ``top1``, ``top5``: percent of ImageNet's validation images; ``size`` in MB.

    ``resize``: of the shorter side, before the central 224x224 are cut out.
    """

    file: str
    top1: float
    top5: float
    size: float
    resize: int = 256
    interpolation: str = "bilinear"
    pixels: Any = None
    name: str = "IMAGENET1K_V1"

    @property
    def url(self) -> str:
        """Where the publisher keeps the file."""
        return BASE + self.file

    @property
    def checksum(self) -> str:
        """The first digits of the file's SHA-256."""
        return self.file.rpartition(".")[0].rpartition("-")[2]

    def preprocessing(self, input_shape: Sequence[int | None]) -> Preprocessing | None:
        """How images go in, scaled to another input size; None where the input is no fixed size of three channels."""
        *sizes, channels = input_shape
        if len(sizes) != 2 or channels != 3 or not all(sizes):
            return None
        size = tuple(int(one or 0) for one in sizes)
        return Preprocessing(
            size=size,
            resize_to=max(max(size), round(max(size) * self.resize / 224)),
            interpolation=self.interpolation,
            **(self.pixels or IMAGENET),
        )


_V2 = "IMAGENET1K_V2"
TORCHVISION: dict[str, tuple[Published, ...]] = {
    "alexnet": (Published("alexnet-owt-7be5be79.pth", 56.522, 79.066, 233.1),),
    "convnext_tiny": (Published("convnext_tiny-983f1562.pth", 82.52, 96.146, 109.1, 236),),
    "densenet121": (Published("densenet121-a639ec97.pth", 74.434, 91.972, 30.8),),
    "efficientnet_b0": (
        Published("efficientnet_b0_rwightman-7f5810bc.pth", 77.692, 93.532, 20.5, interpolation="bicubic"),
    ),
    # torchvision turns ImageNet's mean and deviation into a half each inside the network, when it loads this file
    "googlenet": (Published("googlenet-1378be20.pth", 69.778, 89.53, 49.7, pixels=HALF),),
    "mobilenetv2": (
        Published("mobilenet_v2-7ebf99e0.pth", 72.154, 90.822, 13.6, 232, name=_V2),
        Published("mobilenet_v2-b0353104.pth", 71.878, 90.286, 13.6),
    ),
    "mobilenetv3_large": (
        Published("mobilenet_v3_large-5c1a4163.pth", 75.274, 92.566, 21.1, 232, name=_V2),
        Published("mobilenet_v3_large-8738ca79.pth", 74.042, 91.34, 21.1),
    ),
    "mobilenetv3_small": (Published("mobilenet_v3_small-047dcff4.pth", 67.668, 87.402, 9.8),),
    "resnet18": (Published("resnet18-f37072fd.pth", 69.758, 89.078, 44.7),),
    "resnet34": (Published("resnet34-b627a593.pth", 73.314, 91.42, 83.3),),
    "resnet50": (
        Published("resnet50-11ad3fa6.pth", 80.858, 95.434, 97.8, 232, name=_V2),
        Published("resnet50-0676ba61.pth", 76.13, 92.862, 97.8),
    ),
    "shufflenetv2": (Published("shufflenetv2_x1-5666bf0f80.pth", 69.362, 88.316, 8.8),),
    "squeezenet": (Published("squeezenet1_0-b66bff10.pth", 58.092, 80.42, 4.8),),
    "vgg11": (Published("vgg11-8a719046.pth", 69.02, 88.628, 506.8),),
    "vgg16": (Published("vgg16-397923af.pth", 71.592, 90.382, 527.8),),
    "vgg19": (Published("vgg19-dcbb9e9d.pth", 72.376, 90.876, 548.1),),
}
"""The best first: what ``weights="torchvision"`` takes."""
PUBLISHED = {"torchvision": TORCHVISION}
"""By publisher, then network."""


def published_for(network: str) -> tuple[Published, ...]:
    """Every file that is published for a network, the best first; none for most small ones."""
    return tuple(one for table in PUBLISHED.values() for one in table.get(network, ()))


def published_file(network: str, wanted: str) -> tuple[Published, Path]:
    """The record and the file of ``"torchvision"`` or ``"torchvision:IMAGENET1K_V1"``, downloaded where it is needed.

    A file of that name in FOVEA_WEIGHTS or FOVEA_DATA goes before. Raises ConfigError for what is not published,
    DataError when it cannot be downloaded or is not what was published.
    """
    publisher, _, version = wanted.partition(":")
    known = PUBLISHED[publisher].get(network, ())
    if not known:
        raise ConfigError(
            network, f"expected weights that {publisher} publishes, got none for this network; see fovea models"
        )
    record = next((one for one in known if version in ("", one.name)), None)
    if record is None:
        names = ", ".join(f"{publisher}:{one.name}" for one in known)
        raise ConfigError(network, f"expected one of {names}, got {wanted!r}; see fovea models {network}")
    for variable in ("FOVEA_WEIGHTS", "FOVEA_DATA"):
        local = Path(os.environ.get(variable) or "", record.file)
        if os.environ.get(variable) and local.is_file():
            return record, local
    kept = cache_folder() / "weights" / record.file
    if not kept.is_file():
        _download(record, kept)
    return record, kept


def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet-1K's classes, in the order of the outputs."""
    return tuple((Path(__file__).parent / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines())


def _download(record: Published, target: Path) -> None:
    """Into a file beside the target, which takes its place when its checksum is the published one."""
    import pooch  # type: ignore[import-untyped]  # it ships no types

    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with bar(round(record.size * 1000), record.file, unit="kB") as shown:
            pooch.HTTPDownloader(progressbar=_Bytes(shown), chunk_size=256_000)(record.url, str(part), None)
        with part.open("rb") as file:
            found = hashlib.sha256()
            while block := file.read(1 << 20):
                found.update(block)
        if not found.hexdigest().startswith(record.checksum):
            raise DataError(
                record.file,
                f"expected SHA-256 {record.checksum}..., got {found.hexdigest()[:10]}... from {record.url}; try again, "
                "or put the file into FOVEA_WEIGHTS",
            )
        part.replace(target)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; the one without a connection is very long
        reason = "no connection" if type(error).__name__ == "ConnectionError" else str(error)[:160]
        raise DataError(
            record.file,
            f"could not be downloaded from {record.url} ({reason}); put the file into a folder and set FOVEA_WEIGHTS "
            "to it",
        ) from None
    finally:
        part.unlink(missing_ok=True)


class _Bytes:
    """What pooch tells of a download, drawn by our bar."""

    def __init__(self, shown: Bar) -> None:
        self.shown = shown
        self.total: int = shown.total

    def update(self, count: int) -> None:
        """So many more bytes came."""
        self.shown.update(count // 1000)

    def reset(self) -> None:
        """pooch sets a bar back before it fills it once more at the end."""
        self.shown.done = 0

    def close(self) -> None:
        """The bar closes with its context."""
