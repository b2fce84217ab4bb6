"""A detector end to end, from decoded pixels to boxes, beside one of the same size in onnxruntime, in turn.

    python bench/detect.py RUN_OR_MODEL IMAGES [--images 40]

``RUN_OR_MODEL``: a trained detector of fovea (``fovea train DATA --size 320``); ``IMAGES``: a folder of pictures. The
other side is FastestDet (0.24 million parameters, 352x352), ``fastestdet_coco.onnx`` in FOVEA_WEIGHTS, with Pillow's
resizing, NumPy's arithmetic of boxes and fovea's suppression; and our own network, exported, in onnxruntime.

First the network is held to onnxruntime, to 1e-4 of the largest output. Then the images go through the sides in turn,
one at a time: milliseconds are medians over images, of each stage and of the whole; decoding stands beside them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

import fovea
from fovea.bench.machine import Watch
from fovea.bench.timing import PAUSE
from fovea.data.decode import read_images
from fovea.interop.onnx.export import onnx_model
from fovea.model import Model
from fovea.tasks.detect.nms import nms
from fovea.tasks.metrics import sigmoid

TOLERANCE = 1e-4
ROUNDS = 5
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}
Stages = dict[str, float]


def session(proto: onnx.ModelProto) -> Any:
    """onnxruntime with all optimisations and as many threads as fovea."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = fovea.get_threads(), 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def sized(model: Model) -> fovea.Preprocessing:
    """What the model does to images; ends the program where it takes them as they come."""
    if model.task.kind != "detection" or model.preprocessing is None or model.preprocessing.size is None:
        sys.exit(f"[detect] expected a trained detector, got {model!r}; train one: fovea train DATA --size 320")
    return model.preprocessing


class Clock:
    """Milliseconds between calls, by name."""

    def __init__(self) -> None:
        self.stages: Stages = {}
        self.last = time.perf_counter()

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        self.stages[stage], self.last = 1e3 * (now - self.last), now


def ours(model: Model, image: np.ndarray, network: Callable[[np.ndarray], Any]) -> tuple[Stages, int]:
    """One image through our own way; ``network`` takes letterboxed bytes 1,H,W,3."""
    how, clock = sized(model), Clock()
    drawn = how.apply_spatial([image])
    clock("letterbox")
    maps = network(drawn)
    clock("network")
    said = model.task.decode(maps, classes=model.classes)[0].placed(how.placement(*image.shape[:2]))
    clock("boxes")
    return clock.stages, len(said.objects)  # type: ignore[attr-defined]  # of a detector


def fastestdet(image: np.ndarray, run: Callable[[np.ndarray], np.ndarray]) -> tuple[Stages, int]:
    """One image through FastestDet: score = obj^0.6 class^0.4, centre = (cell + tanh d) / 22, sides by sigmoids."""
    clock = Clock()
    drawn = fovea.Preprocessing(size=(352, 352), resize="stretch", order="bgr").apply_spatial([image])[0]
    x = np.ascontiguousarray(drawn[None, :, :, ::-1].transpose(0, 3, 1, 2), np.float32) / np.float32(255)
    clock("letterbox")
    found = run(x)[0]  # 85, 22, 22
    clock("network")
    label = found[5:].argmax(axis=0)
    score = found[0] ** 0.6 * found[5:].max(axis=0) ** 0.4
    y, x_ = np.nonzero(score > 0.25)
    dx, dy, w, h = (found[index, y, x_] for index in (1, 2, 3, 4))
    centre = np.stack([x_ + np.tanh(dx), y + np.tanh(dy)], axis=1) / found.shape[1]
    half = np.stack([sigmoid(w), sigmoid(h)], axis=1) / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1) * np.array([*image.shape[1::-1]] * 2)
    kept = nms(boxes, score[y, x_], label[y, x_], 0.45)
    clock("boxes")
    return clock.stages, len(kept)


def verified(model: Model, images: list[np.ndarray], exported: Any) -> Callable[[np.ndarray], Any]:
    """Our network's call on letterboxed bytes; ends the program where onnxruntime computes something else."""
    how = sized(model)
    plan = model.compile("native", 1, pixels=True, input_shape=(*(how.size or ()), 3))
    drawn = how.apply_spatial(images[:3])
    for index in range(len(drawn)):
        maps = plan.forward(drawn[index : index + 1])
        theirs = exported(drawn[index : index + 1])
        worst = max(float(np.abs(a - b).max() / max(1.0, np.abs(b).max())) for a, b in zip(maps, theirs, strict=True))
        if not worst < TOLERANCE:
            sys.exit(
                f"[detect] expected the maps of onnxruntime, got a difference of {worst:.1e}; do not trust the times"
            )
    return plan.forward


def in_onnxruntime(model: Model) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The model's network exported: letterboxed bytes 1,H,W,3 -> its maps N,H,W,C."""
    how = sized(model)
    closed = Model.from_store(
        model.graph.at((*(how.size or ()), 3)), model.store, preprocessing=how, task=model.task, classes=model.classes
    )
    side = session(onnx_model(closed))
    name = side.get_inputs()[0].name

    def run(drawn: np.ndarray) -> list[np.ndarray]:
        x = np.ascontiguousarray(how.apply_pixels(drawn).transpose(0, 3, 1, 2))
        return [one.transpose(0, 2, 3, 1) for one in side.run(None, {name: x})]

    return run


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run or model file of a trained detector")
    parser.add_argument("folder", type=Path, help="a folder of pictures")
    parser.add_argument("--images", type=int, default=40, help="how many of them (40)")
    words = parser.parse_args()
    model = fovea.load(words.model)
    size = "x".join(map(str, sized(model).size or ()))
    files = sorted(path for path in words.folder.rglob("*") if path.suffix.lower() in SUFFIXES)[: words.images]
    if not files:
        sys.exit(f"[detect] expected pictures in {words.folder}, found none; name another folder")
    watch = Watch()
    print(watch.introduction())
    watch.look()
    begin = time.perf_counter()
    images = read_images(files)
    decoding = 1e3 * (time.perf_counter() - begin) / len(files)
    exported = in_onnxruntime(model)
    network = verified(model, images, exported)
    sides: dict[str, Callable[[np.ndarray], tuple[Stages, int]]] = {
        f"fovea, {model.name}": lambda image: ours(model, image, network),
        "the same in onnxruntime": lambda image: ours(model, image, exported),
    }
    other = Path(os.environ.get("FOVEA_WEIGHTS", "")) / "fastestdet_coco.onnx"
    if other.is_file():
        their = session(onnx.load(other))
        name = their.get_inputs()[0].name
        sides["FastestDet in onnxruntime"] = lambda image: fastestdet(image, lambda x: their.run(None, {name: x})[0])
    results: dict[str, list[tuple[Stages, int]]] = {side: [] for side in sides}
    for round_ in range(ROUNDS + 1):  # the first warms up
        for side, run in sides.items():
            time.sleep(PAUSE)  # threads of the other side that spin let go of their cores
            run(images[0])
            rows = [run(image) for image in images]
            results[side] += rows if round_ else []
    count = sum(array.size for array in model.parameters().values())
    print(f"{len(files)} images of {images[0].shape[1]}x{images[0].shape[0]}, {ROUNDS} rounds")
    print(f"{model.name}: {count:,} parameters, {size}")
    print(f"decoding a file: {decoding:.2f} ms (all cores)\n")
    print(f"{'':28} letterbox   network     boxes     whole    p95   images/s  boxes an image")
    for side, rows in results.items():
        whole = sorted(sum(stages.values()) for stages, _ in rows)
        parts = [statistics.median(stages[stage] for stages, _ in rows) for stage in ("letterbox", "network", "boxes")]
        median, p95 = statistics.median(whole), whole[int(0.95 * len(whole))]
        text = "  ".join(f"{part:6.2f} ms" for part in parts)
        found = statistics.mean(number for _, number in rows)
        print(f"{side:28} {text}  {median:6.2f} ms {p95:6.2f} {1e3 / median:8.0f} {found:12.1f}")
    watch.look()
    print("\n".join(["", *watch.warnings()]))


if __name__ == "__main__":
    try:
        main()
    except fovea.FoveaError as error:
        sys.exit(str(error))
