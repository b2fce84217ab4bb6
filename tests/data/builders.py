"""Small data sets of every layout, made of pixels that say which class they are."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import wave
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

U8 = npt.NDArray[np.uint8]

COLORS = {"cat": (200, 30, 30), "dog": (30, 200, 30), "owl": (30, 30, 200)}


def picture(color: tuple[int, int, int], seed: int, height: int = 12, width: int = 12) -> U8:
    """Noise around a colour; no two seeds give the same picture."""
    noise = np.random.default_rng(seed).integers(-25, 26, (height, width, 3))
    return np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)


def encoded(image: U8, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def class_folders(root: Path, counts: dict[str, int], size: tuple[int, int] = (12, 12), start: int = 0) -> Path:
    """One sub-folder a class, ``counts`` PNG files in each."""
    for number, (label, count) in enumerate(counts.items()):
        folder = root / label
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            color = COLORS.get(label, (90, 90, 40 * (number % 6)))
            (folder / f"{index:03d}.png").write_bytes(encoded(picture(color, start + 1000 * number + index, *size)))
    return root


def packed(folder: Path, archive: Path) -> Path:
    """A folder's contents as tar (plain, gz) or zip, by the archive's name."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as target:
            for path in sorted(folder.rglob("*")):
                target.write(path, path.relative_to(folder).as_posix())
    else:
        with tarfile.open(archive, "w:gz" if archive.name.endswith("gz") else "w") as target:
            target.add(folder, arcname=".")
    return archive


def idx(array: npt.NDArray[np.generic], code: int = 0x08) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


def idx_folder(root: Path, train: int = 40, test: int = 10, packed_too: bool = True) -> tuple[U8, U8]:
    """MNIST's four files; returns the training images and labels."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    kept = None
    for name, count in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (count, 6, 5), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for what, array in (("images-idx3", images), ("labels-idx1", labels)):
            data = idx(array)
            path = root / f"{name}-{what}-ubyte{'.gz' if packed_too else ''}"
            path.write_bytes(gzip.compress(data, mtime=0) if packed_too else data)
        kept = kept or (images, labels)
    assert kept is not None
    return kept


def wav(values: npt.NDArray[np.floating], rate: int = 8000, width: int = 2, channels: int = 1) -> bytes:
    """PCM bytes of values in [-1, 1)."""
    scaled = np.round(values * 2.0 ** (8 * width - 1)).astype(np.int64)
    if width == 1:
        raw = (scaled + 128).astype(np.uint8).tobytes()
    else:
        raw = b"".join(int(value).to_bytes(width, "little", signed=True) for value in scaled)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate)
        writer.writeframes(raw)
    return buffer.getvalue()


def tone(label: int, take: int, length: int) -> npt.NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * (label + 1) * 40 * np.arange(length) / 8000 + take)


def wav_files(root: Path, labels: int = 2, takes: int = 6, speakers: tuple[str, ...] = ("ada", "bob")) -> Path:
    """Flat ``LABEL_SPEAKER_TAKE.wav``."""
    root.mkdir(parents=True, exist_ok=True)
    for label in range(labels):
        for number, speaker in enumerate(speakers):
            for take in range(takes):
                values = tone(label, take + 100 * number, 200 + 10 * take)
                (root / f"{label}_{speaker}_{take}.wav").write_bytes(wav(values))
    return root


def cifar_batch(count: int, seed: int) -> tuple[U8, list[int]]:
    """``N,32,32,3`` images and labels."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, count).tolist()


def planes(images: U8) -> U8:
    """CIFAR's rows of 3,072 bytes."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)
