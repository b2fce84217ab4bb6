"""Two detectors on real data, with the numbers of the COCO challenge.

    python examples/detectors.py cells     # BCCD, blood cells: detector_small on an ImageNet backbone, 416x416
    python examples/detectors.py masks     # faces with and without masks: the same at 320x320

Cells train on `train`, choose the epoch on `val` and are measured on `test`. The masks have no third split: chosen and
measured on `val`, which is kind. Needs FOVEA_DATA with bccd_voc/ and facemask_coco/, and FOVEA_WEIGHTS with the
MobileNetV2 below. The same by the command line stands in docs/detection.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from evidence import machine

import fovea
from fovea.data import Dataset
from fovea.model import Model

MOBILENET = "mobilenet_v2_imagenet_bnfolded_fp16.safetensors"
DATA = {"cells": ("bccd_voc", 416), "masks": ("facemask_coco", 320)}
"""Name and size of the images."""
PROMISED = {"cells": (150, 0.88), "masks": (40, 0.40)}
"""Epochs, and the least mAP at IoU 0.5 that they lead to."""


def mobilenet() -> Model:
    """TensorFlow's MobileNetV2, batch norm folded into its weights, 1,001 classes of ImageNet."""
    known = fovea.Preprocessing(size=(224, 224), resize_to=256, mean=(0.5,) * 3, std=(0.5,) * 3)
    file = Path(os.environ.get("FOVEA_WEIGHTS", "."), MOBILENET)
    return fovea.models.mobilenetv2(weights=file, norm="folded", padding="same", preprocessing=known)


def made(name: str, size: int, seed: int) -> tuple[Model, Dataset, dict[str, Any]]:
    """A detector of the data's classes on the ImageNet backbone, which learns twenty times slower than the rest."""
    data = fovea.dataset(name, size=size)
    model = fovea.models.detector(
        classes=data.classes, size="small", backbone=mobilenet(), image_size=size, seed=seed
    )  # fmt: skip
    return model, data, {"optimizer": fovea.AdamW(lr_scales=(("backbone", 0.05),))}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=sorted(PROMISED))
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=None, help="new run folder (default: runs/NAME-DATE-TIME)")
    given = parser.parse_args()
    enough, least = PROMISED[given.what]
    epochs = given.epochs or enough
    model, data, options = made(*DATA[given.what], given.seed)
    split = "val" if data.test is None else "test"
    if given.what == "cells":  # which have no up and down
        options["augment"] = "quarter_turn=0.5,flip_vertical=0.5"
    recipe = {**model.task.recipe, "epochs": epochs, "warmup_epochs": min(2.0, 0.1 * epochs), **options}
    run = fovea.train(model, data, precision="bf16", seed=given.seed, out=given.out, **recipe)
    result = fovea.evaluate(run.path, data, split)  # what counts is the file, not what is still in memory
    same = all(
        np.array_equal(a, b)
        for a, b in zip(
            fovea.load(run.path).logits(data.train.inputs[:2]), run.model.logits(data.train.inputs[:2]), strict=True
        )
    )
    metrics = run.metrics or {}
    print(f"\n{data.name}, {split} ({result['n']} images)")
    for name in ("map", "map50", "map75", "map_small", "map_medium", "map_large", "ar100", "voc_map50"):
        print(
            f"  {name.ljust(12)} {result[name]:.4f}" if result[name] is not None else f"  {name.ljust(12)} none there"
        )
    for name, row in result["per_class"].items():
        print(f"  {name.ljust(22)} AP {row['ap']:.4f}  AP50 {row['ap50']:.4f}  objects {row['support']}")
    count = run.model.summary((64, 64, 3)).totals["parameters"]
    print(f"  epochs       {metrics.get('epochs')} (weights of epoch {metrics.get('best_epoch')})")
    print(f"  training     {metrics.get('seconds', 0):.0f} s, {metrics.get('images_per_second', 0):.0f} images/s")
    print(f"  parameters   {count:,}\n  runs         1 (seed {given.seed})\n  machine      {machine()}")
    print(f"  model file   {run.path}, {'equal to memory' if same else 'NOT equal to memory'}")
    if not same or (epochs >= enough and result["map50"] < least):
        sys.exit(f"expected a file equal to memory, and an mAP at IoU 0.5 of at least {least} after {enough} epochs")


if __name__ == "__main__":
    main()
