"""Small data sets of every kind, written to disk the way people have them. Seeded, learnable, a few kilobytes."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from PIL import Image


def images(root: Path, per_class: int = 12, side: int = 16) -> Path:
    """Folders red/ and green/ of colour PNGs, with a test split beside train."""
    rng = np.random.default_rng(3)
    for split, count in (("train", per_class), ("test", 4)):
        for channel, name in enumerate(("red", "green")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 90, (side, side, 3), np.uint8)
                pixels[4:12, 4:12, channel] += 120
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def signals(root: Path, takes: int = 10) -> Path:
    """Flat wav files {label}_{take}.wav: a low and a high tone, 8 kHz, unequal lengths."""
    rng = np.random.default_rng(4)
    root.mkdir(parents=True)
    for label, frequency in (("low", 300), ("high", 1200)):
        for take in range(takes):
            time = np.arange(400 + 20 * take) / 8000
            values = np.sin(2 * np.pi * frequency * time) * 9000 + rng.normal(0, 300, len(time))
            with wave.open(str(root / f"{label}_{take}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(8000)
                file.writeframes(values.astype("<i2").tobytes())
    return root


def volumes(root: Path, per_class: int = 8) -> Path:
    """Folders top/ and bottom/ of npy volumes, brighter in one half."""
    rng = np.random.default_rng(5)
    for name, half in (("top", slice(0, 4)), ("bottom", slice(4, 8))):
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            values = rng.normal(0, 1, (8, 8, 8)).astype(np.float32)
            values[half] += 2
            np.save(root / name / f"{number}.npy", values)
    return root


def clips(root: Path, per_class: int = 8) -> Path:
    """Folders left/ and right/ of animated GIFs: a square that moves."""
    rng = np.random.default_rng(6)
    for name, step in (("left", -2), ("right", 2)):
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            frames = rng.integers(0, 60, (4, 12, 12), np.uint8)
            for index, frame in enumerate(frames):
                start = 4 + step * (index - 1)
                frame[4:8, max(start, 0) : start + 4] = 255
            first, *rest = [Image.fromarray(frame) for frame in frames]
            first.save(root / name / f"{number}.gif", save_all=True, append_images=rest, duration=50)
    return root


def values(root: Path, count: int = 24) -> Path:
    """A CSV of path,value: grey pictures whose value is their brightness."""
    rng = np.random.default_rng(7)
    root.mkdir(parents=True)
    rows = ["path,value"]
    for number in range(count):
        level = int(rng.integers(20, 220))
        pixels = np.clip(rng.normal(level, 8, (12, 12)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
        rows.append(f"{number}.png,{level / 10}")
    (root / "values.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root / "values.csv"
