"""Cats against dogs with an ImageNet network: a linear probe and fine-tuning with 10, 50 and all images of each class.

Needs FOVEA_DATA with cats_dogs/ (train/, val/) and FOVEA_WEIGHTS with the two files of ImageNet weights below. So many
images of each class are all that is used: fovea.finetune holds a fifth of them out to choose on. Its val/ is kept as
the test, which nothing was chosen on. Run: python examples/cats_dogs_transfer.py [--seeds 3] [--only probe]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from evidence import machine

import fovea
from fovea.data import Dataset
from fovea.data.select import few_of_each, with_splits, with_validation
from fovea.model import Model
from fovea.tasks.metrics import mean_interval, share_interval

SHOTS = (10, 50, None)
AT_LEAST = 0.97
MOBILENET = "mobilenet_v2_imagenet_bnfolded_fp16.safetensors"
SQUEEZENET = "squeezenet1_0_imagenet_deepcompressed.safetensors"


def mobilenet() -> Model:
    """TensorFlow's MobileNetV2, batch norm folded into its weights, 1,001 classes of ImageNet."""
    known = fovea.Preprocessing(size=(224, 224), resize_to=256, mean=(0.5,) * 3, std=(0.5,) * 3)
    return fovea.models.mobilenetv2(weights=_file(MOBILENET), norm="folded", padding="same", preprocessing=known)


def squeezenet() -> Model:
    """SqueezeNet 1.0 as its authors compressed it: blue first, means taken away."""
    known = fovea.Preprocessing(size=(227, 227), resize_to=256, scale=1.0, mean=(104, 117, 123), order="bgr")
    return fovea.models.squeezenet(
        weights=_file(SQUEEZENET), head_padding=1, input_shape=(227, 227, 3), preprocessing=known
    )


def _file(name: str) -> str:
    return str(Path(os.environ.get("FOVEA_WEIGHTS", "."), name))


def photographs(model: Model) -> Dataset:
    """The photographs as the network takes them: train, and val/ as the test."""
    assert model.preprocessing is not None
    data = fovea.dataset("cats_dogs").prepared(model.preprocessing)
    held = data.split("val")
    return with_splits(data, {"test": held.take(np.arange(len(held)))}, drop=("val",))


def run(model: Model, data: Dataset, plan: str, shots: int | None, seed: int, **options: Any) -> dict[str, Any]:
    """One fine-tuning and its result on the test images."""
    rows = np.arange(len(data.train)) if shots is None else few_of_each(data.train.targets, shots, seed)
    some = with_validation(with_splits(data, {"train": data.train.take(rows)}), 0.2, seed)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        done = fovea.finetune(
            some, model, plan=plan, advise=False, seed=seed, out=Path(folder) / "run", report=False, **options
        )
        found = fovea.evaluate(done, some, "test")
        metrics = done.metrics or {}
    return {
        "network": model.name, "plan": plan, "shots": "all" if shots is None else shots, "seed": seed,
        "accuracy": found["accuracy"], "n": found["n"], "train": len(some.train), "epoch": metrics.get("best_epoch"),
        "epochs": metrics.get("epochs"), "seconds": time.perf_counter() - begin,
    }  # fmt: skip


def table(results: list[dict[str, Any]]) -> None:
    """Accuracy on the test images by network, plan and images a class: every run, mean and 95 % interval."""
    print(f"\n  {'network':12} {'plan':10} {'images':>6}  {'mean':>8}  {'95 % interval':18} runs (epoch kept)")
    keys = list(dict.fromkeys((one["network"], one["plan"], one["shots"]) for one in results))
    for key in keys:
        some = [one for one in results if (one["network"], one["plan"], one["shots"]) == key]
        shares = [one["accuracy"] for one in some]
        n = some[0]["n"]
        _, low, high = mean_interval(shares) if len(shares) > 1 else (0.0, *share_interval(round(shares[0] * n), n))
        each = ", ".join(f"{one['accuracy']:.2%} ({one['epoch']}/{one['epochs']})" for one in some)
        interval = f"{low:.2%} to {high:.2%}"
        print(f"  {key[0]:12} {key[1]:10} {key[2]!s:>6}  {np.mean(shares):8.2%}  {interval:18} {each}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=("probe", "finetune", "scratch"), default=None)
    parser.add_argument("--json", type=Path, default=None, help="keeps every result; what is there is not repeated")
    given = parser.parse_args()
    results: list[dict[str, Any]] = json.loads(given.json.read_text()) if given.json and given.json.exists() else []

    def add(model: Model, data: Dataset, plan: str, shots: int | None, seed: int, **options: Any) -> None:
        name = ("all" if shots is None else shots, plan, seed, model.name)
        there = any((one["shots"], one["plan"], one["seed"], one["network"]) == name for one in results)
        if there or given.only not in (None, plan):
            return
        results.append(run(model, data, plan, shots, seed, **options))
        print(results[-1], flush=True)
        if given.json:
            given.json.write_text(json.dumps(results, indent=1))

    model = mobilenet()
    data = photographs(model)
    for plan in ("probe", "finetune"):
        for shots in SHOTS:
            for seed in range(given.seeds):
                add(model, data, plan, shots, seed)
    other = squeezenet()
    photos = photographs(other)
    for shots in SHOTS:
        for seed in range(given.seeds):
            add(other, photos, "probe", shots, seed)
    # from scratch: the same network with batch norm, without which so deep a network learns nothing from the start
    fresh = fovea.models.mobilenetv2(2, padding="same", classes=data.classes, preprocessing=model.preprocessing)
    add(fresh, data, "scratch", None, 0, epochs=15)
    print("\nCats against dogs, 199 test images that nothing was chosen on")
    table(results)
    print(f"  runs: {len(results)}; machine: {machine()}")
    whole = [one for one in results if one["shots"] == "all" and one["network"] == "mobilenetv2"]
    tried = [plan for plan in ("probe", "finetune") if any(one["plan"] == plan for one in whole)]
    means = [np.mean([one["accuracy"] for one in whole if one["plan"] == plan]) for plan in tried]
    if means and min(means) < AT_LEAST:
        sys.exit(f"expected a test accuracy of at least {AT_LEAST:.0%} with all images")


if __name__ == "__main__":
    main()
