"""How many images a second a `Scene` draws on one core, for each of its parts.

    python bench/scenes.py [DATA] [--side 320]

DATA is a detection set as `fovea train` takes it; left out, noise with boxes. Prints the median of the runs, in CPU
time, so that other programs on the machine matter little.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np

import fovea
from fovea.data.boxes import padded, rows_of

RUNS, BATCH = 7, 16
SCENES = {
    "standard": fovea.Scene(),
    "no mosaic (calm)": fovea.Scene(mosaic=0.0),
    "always a mosaic": fovea.Scene(mosaic=1.0),
    "turned by up to 10 degrees": fovea.Scene(degrees=10.0),
    "always MixUp": fovea.Scene(mixup=1.0),
    "colours alone": fovea.Scene.from_text("none,hue=0.015,saturation=0.5,value=0.3"),
    "a flip alone": fovea.Scene.from_text("none,flip=1"),
}


def noise(side: int) -> tuple[Any, Any]:
    """Letterboxed images 4:3 with twenty boxes each."""
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (64, side, side, 3), dtype=np.uint8)
    bar = side // 8
    images[:, :bar], images[:, side - bar :] = 114, 114
    first = draws.uniform(bar, side * 0.6, (64, 20, 2))
    boxes = np.concatenate([first, first + draws.uniform(8, side * 0.25, first.shape)], axis=2)
    return images, padded([rows_of(rows, np.zeros(20)) for rows in boxes])


def rate(scene: fovea.Scene, images: Any, targets: Any) -> float:
    """Images a second of CPU time."""
    seconds = []
    for run in range(RUNS):
        rows = np.arange(run * BATCH, (run + 1) * BATCH) % len(images)
        keys = fovea.random.fold_in(fovea.random.key(0, "augment", run), rows)
        begin = time.process_time()
        scene(images, targets, rows, keys)
        seconds.append(time.process_time() - begin)
    return BATCH / statistics.median(seconds)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?")
    parser.add_argument("--side", type=int, default=320)
    options = parser.parse_args()
    if options.data is None:
        images, targets = noise(options.side)
    else:
        train = fovea.dataset(options.data, size=(options.side, options.side)).train
        images, targets = train.inputs, train.targets
    print(f"{images.shape[1]} pixels, batches of {BATCH}, one core, median of {RUNS}")
    for name, scene in SCENES.items():
        print(f"{name:28} {rate(scene, images, targets):7.0f} images/s")


if __name__ == "__main__":
    main()
