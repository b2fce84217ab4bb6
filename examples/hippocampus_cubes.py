"""Which part of the hippocampus a voxel belongs to, from the 24x24x24 cube around it, with 3-D convolutions.

Needs FOVEA_DATA with hippocampus3d/ (an npz of image_NNN and label_NNN: MRI crops, labels 0 background, 1 anterior,
2 posterior). Volumes are divided between train, validation and test, never the cubes of one. Run:
python examples/hippocampus_cubes.py
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from evidence import arguments, show

import fovea

EPOCHS = 12
HALF = 12
PER_CLASS = 12  # cubes of each class from every volume
CLASSES = ("background", "anterior", "posterior")
Array = np.ndarray[Any, np.dtype[Any]]


def cubes(image: Array, label: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """``N,24,24,24,1`` cubes centred on voxels of each class, and the classes; the volume has mean 0 and variance 1."""
    values = image.astype(np.float32)
    values = np.pad((values - values.mean()) / values.std(), HALF, mode="edge")
    found, targets = [], []
    for target in range(len(CLASSES)):
        places = np.argwhere(label == target)
        for z, y, x in places[rng.choice(len(places), min(PER_CLASS, len(places)), replace=False)]:
            found.append(values[z : z + 2 * HALF, y : y + 2 * HALF, x : x + 2 * HALF, None])  # padding moved the centre
            targets.append(target)
    return np.stack(found), np.array(targets)


def main() -> None:
    given = arguments(__doc__, EPOCHS)
    folder = Path(os.environ.get("FOVEA_DATA", ".")) / "hippocampus3d"
    volumes = np.load(next(folder.glob("*.npz")))
    names = sorted(name.removeprefix("image_") for name in volumes.files if name.startswith("image_"))
    rng = np.random.default_rng(7)
    parts = [cubes(volumes[f"image_{name}"], volumes[f"label_{name}"], rng) for name in names]
    order = rng.permutation(len(parts))  # volumes, so that no patient is in two splits

    def join(rows: Array) -> tuple[Array, Array]:
        return np.concatenate([parts[row][0] for row in rows]), np.concatenate([parts[row][1] for row in rows])

    tenth = len(parts) // 10
    test, val, train = np.split(order, [2 * tenth, 3 * tenth])
    data = fovea.from_arrays(
        join(train),
        val=join(val),
        test=join(test),
        classes=CLASSES,
        kind="volume",
        per_sample=False,
        name="hippocampus",
    )
    model = fovea.models.conv3d(classes=data.classes, input_shape=data.input_shape, seed=given.seed)
    run = fovea.train(model, data, epochs=given.epochs, batch_size=32, seed=given.seed, out=given.out)
    show("3-D convolutions on hippocampus cubes", model, run, data, at_least=0.80, epochs=EPOCHS)


if __name__ == "__main__":
    main()
