"""Networks that others trained, on real pictures: accuracies, what they say of photographs, and their exports.

    python bench/pretrained.py accuracy                # CIFAR-10 and ImageNet photographs
    python bench/pretrained.py exports                 # onnxruntime on `export --images`, picture by picture
    python bench/pretrained.py picture answers.jpg     # the five most probable classes of every photograph
    python bench/pretrained.py save FOLDER             # the three networks as model files

Needs FOVEA_WEIGHTS (cifar10_resnet20, mobilenet_v2_imagenet, squeezenet1_0_imagenet) and FOVEA_DATA (cifar10,
imagenet_sample, photos). It exits with 1 when a figure is not what a plain implementation in NumPy gave.
"""

from __future__ import annotations

import argparse
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fovea
from fovea.bench.machine import facts
from fovea.data.decode import IMAGE_SUFFIXES, read_image, read_images
from fovea.model import Model
from fovea.tasks.metrics import softmax

NETWORKS = ("resnet20", "mobilenetv2", "squeezenet")
EXPECTED = {
    ("resnet20", "CIFAR-10 test, JPEG copy"): (8103, 0),
    ("resnet20", "CIFAR-10, 2,000 of train, lossless"): (1997, 0),
    ("mobilenetv2", "ImageNet photographs"): (109, 120),
    ("squeezenet", "ImageNet photographs"): (81, 102),
}
"""Right with the first guess, and with five (0: not asked), as plain NumPy counted; JPEG decoders differ a little."""
WITHIN = 2
NOT_SHOWN = ("samoyed_dog.jpg", "faces_multiface.jpg")
"""Photographs without a licence of their own (none found; a press photograph): computed on, not shown."""


def folder(variable: str) -> Path:
    """The folder that an environment variable names; ends the program when there is none."""
    path = os.environ.get(variable)
    if not path:
        sys.exit(f"[pretrained] expected {variable} as the folder with these files, got nothing; set it")
    return Path(path)


def network(name: str) -> Model:
    """One of the three with its published weights, preprocessing and class names."""
    weights = folder("FOVEA_WEIGHTS")
    if name == "resnet20":
        imagenet: Any = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
        kinds = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
        how = fovea.Preprocessing(size=(32, 32), **imagenet)
        return fovea.models.resnet20(weights=weights / "cifar10_resnet20-12fca82f.th", classes=kinds, preprocessing=how)
    if name == "mobilenetv2":  # of TensorFlow: its padding, a class for the background, pixels from -1 to 1
        how = fovea.Preprocessing(size=(224, 224), resize_to=256, scale=1 / 127.5, mean=1.0)
        return fovea.models.mobilenetv2(
            weights=weights / "mobilenet_v2_imagenet_bnfolded_fp16.safetensors", norm="folded", padding="same",
            classes=(weights / "imagenet1001_labels_background_first.txt").read_text().splitlines(), preprocessing=how,
        )  # fmt: skip
    words = (weights / "imagenet1000_synset_words.txt").read_text().splitlines()
    how = fovea.Preprocessing(size=(227, 227), resize_to=256, order="bgr", mean=(104.0, 117.0, 123.0), scale=1.0)
    return fovea.models.squeezenet(
        weights=weights / "squeezenet1_0_imagenet_deepcompressed.safetensors", input_shape=(227, 227, 3),
        head_padding=1, classes=[line.partition(" ")[2] for line in words], preprocessing=how,
    )  # fmt: skip


def photographs() -> list[Path]:
    """Every photograph of the folder."""
    return sorted(path for path in (folder("FOVEA_DATA") / "photos").iterdir() if path.suffix in IMAGE_SUFFIXES)


def imagenet_sample(place: Path) -> tuple[list[Path], np.ndarray]:
    """125 photographs, one for every eighth class, unpacked into ``place``; and their classes, 0 to 999."""
    with tarfile.open(folder("FOVEA_DATA") / "imagenet_sample" / "imagenet_sample_125.tar") as archive:
        archive.extractall(place, filter="data")
    files = sorted(place.rglob("*.jpg"))
    return files, np.array([int(path.name.partition("_")[0]) for path in files])


def lossless() -> tuple[np.ndarray, np.ndarray]:
    """2,000 training images of CIFAR-10 as they were published."""
    with np.load(folder("FOVEA_DATA") / "cifar10" / "cifar10_lossless_train2000.npz") as content:
        return content["images"], content["labels"]


def right(model: Model, inputs: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    """How many samples have their class first, and among the first five."""
    parts = [model.logits(inputs[start : start + 500]) for start in range(0, len(inputs), 500)]
    order = np.argsort(-np.concatenate(parts), axis=1, kind="stable")[:, :5]
    found = order == truth[:, None]
    return int(found[:, 0].sum()), int(found.any(1).sum())


def counts(name: str, pictures: Path) -> Iterator[tuple[str, int, int, int]]:
    """For each set of pictures: what it is, how many, right first, right in five. ``pictures``: an empty folder."""
    model = network(name)
    if name == "resnet20":
        test = fovea.dataset(folder("FOVEA_DATA") / "cifar10" / "cifar10_jpeg_test.tar.gz", val_fraction=0)
        split = test.test or test.train
        yield "CIFAR-10 test, JPEG copy", len(split), *right(model, split.inputs, split.targets)
        yield "CIFAR-10, 2,000 of train, lossless", 2000, *right(model, *lossless())
        return
    assert model.preprocessing is not None
    files, truth = imagenet_sample(pictures)
    inputs = model.preprocessing.apply_spatial(read_images(files, 3))
    yield "ImageNet photographs", len(files), *right(model, inputs, truth + (name == "mobilenetv2"))


def accuracy() -> bool:
    """A table of all accuracies; whether they are as expected."""
    good = True
    print(f"{'network':12} {'pictures':36} {'right':>14} {'top-1':>8} {'top-5':>8} {'seconds':>8}")
    for name in NETWORKS:
        with tempfile.TemporaryDirectory() as place:
            start = time.perf_counter()
            for what, number, first, five in counts(name, Path(place)):
                wanted, wanted_five = EXPECTED[name, what]
                near = abs(first - wanted) <= WITHIN and (not wanted_five or abs(five - wanted_five) <= WITHIN)
                good &= near
                print(
                    f"{name:12} {what:36} {first:6} of {number:5} {first / number:8.2%} {five / number:8.2%} "
                    f"{time.perf_counter() - start:8.1f}" + ("" if near else f"  expected {wanted}"),
                    flush=True,
                )
                start = time.perf_counter()
    return good


def exported_pixels(model: Model) -> tuple[Any, str]:
    """onnxruntime on the export with preprocessing inside; it also gives the resized bytes, by this name."""
    import onnx
    import onnxruntime

    from fovea.interop.onnx.export import onnx_model

    proto = onnx_model(model, images=True)
    (resized,) = (node.output[0] for node in proto.graph.node if node.op_type == "Cast" and node.attribute[0].i == 2)
    proto.graph.output.append(onnx.helper.make_tensor_value_info(resized, onnx.TensorProto.UINT8, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"]), resized


def compared(name: str, files: list[Path]) -> dict[str, Any]:
    """Our predictions against onnxruntime on the export: bytes apart, pixels that differ, classes that differ."""
    model = network(name)
    assert model.preprocessing is not None
    session, resized = exported_pixels(model)
    apart, changed, total, other, gap = 0, 0, 0, [], 0.0
    for path in files:
        image = read_image(path, 3)
        probabilities, pixels = session.run(["probabilities", resized], {"image": image[None]})
        own = model.preprocessing.apply_spatial([image])
        steps = np.abs(pixels.astype(int) - own)
        apart, changed, total = max(apart, int(steps.max())), changed + int((steps > 0).sum()), total + steps.size
        ours = softmax(model.logits(own))
        gap = max(gap, float(np.abs(ours - probabilities).max()))
        if int(ours.argmax()) != int(probabilities.argmax()):
            other.append(f"{path.name} ({np.sort(ours[0])[-1]:.3f} against {np.sort(ours[0])[-2]:.3f})")
    return {"pictures": len(files), "apart": apart, "changed": changed / total, "other": other, "gap": gap}


def exports() -> bool:
    """A table of all networks; whether every byte is within one step and every first class the same."""
    good = True
    print(f"{'network':12} {'pictures':>8} {'bytes apart':>12} {'that differ':>12} {'probability':>12}  other classes")
    with tempfile.TemporaryDirectory() as place:
        sample, _ = imagenet_sample(Path(place))
        for name in NETWORKS:
            one = compared(name, photographs() + sample)
            good &= one["apart"] <= 1 and not one["other"]
            print(
                f"{name:12} {one['pictures']:8} {one['apart']:12} {one['changed']:12.2%} {one['gap']:12.1e}  "
                f"{', '.join(one['other']) or 'none'}",
                flush=True,
            )
    return good


def picture(path: Path) -> None:
    """One JPEG: every photograph that may be shown, as the network sees it, with both networks' five first classes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    files = [file for file in photographs() if file.name not in NOT_SHOWN]
    answers = {name: network(name).predict(files) for name in ("mobilenetv2", "squeezenet")}
    how = fovea.Preprocessing(size=(224, 224), resize_to=256)
    crops = how.apply_spatial(read_images(files, 3))
    columns = 3
    rows = -(-len(files) // columns)
    figure = Figure(figsize=(14.4, 1.82 * rows), dpi=100)
    FigureCanvasAgg(figure)
    for place, crop in enumerate(crops):
        row, column = divmod(place, columns)
        left, bottom = column / columns, 1 - (row + 1) / rows
        axes = figure.add_axes((left + 0.003, bottom + 0.005, 1.66 / 14.4, 1.66 / 1.82 / rows))
        axes.imshow(crop)
        axes.set_axis_off()
        for index, (name, found) in enumerate(answers.items()):
            panel = figure.add_axes((left + 0.1225 + 0.104 * index, bottom + 0.005, 0.102, 1.66 / 1.82 / rows))
            _bars(panel, "MobileNetV2" if name == "mobilenetv2" else "SqueezeNet", found[place])
    figure.savefig(path, pil_kwargs={"quality": 74, "optimize": True, "progressive": True})
    print(f"wrote {path}: {len(files)} photographs, {path.stat().st_size / 1000:.0f} KB")


def _bars(axes: Any, title: str, found: Any) -> None:
    """The five classes as bars with their names on them."""
    shares = [probability for _, probability in found.top][::-1]
    axes.barh(range(len(shares)), shares, color="#7fb2d9", height=0.9)
    axes.set(xlim=(0, 1), ylim=(-0.5, 5.5))
    axes.set_axis_off()
    axes.text(0, 4.95, title, fontsize=8, color="#555555", va="center")
    for place, (label, probability) in enumerate(found.top[::-1]):
        name = label.partition(",")[0]
        axes.text(0.02, place, name if len(name) <= 20 else name[:19] + "…", fontsize=8, va="center")
        axes.text(1.0, place, f"{probability:.0%}", fontsize=7.5, va="center", ha="right", color="#333333")


def save(place: Path) -> None:
    """The three networks as model files, for the command line."""
    for name in NETWORKS:
        print(network(name).save(place / f"{name}.safetensors"))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("accuracy", "exports", "picture", "save"))
    parser.add_argument("path", type=Path, nargs="?", help="of the picture, or the folder of the model files")
    args = parser.parse_args()
    if args.what in ("picture", "save"):
        if args.path is None:
            parser.error(f"{args.what} needs a path")
        picture(args.path) if args.what == "picture" else save(args.path)
        return
    print(", ".join(f"{key} {value}" for key, value in facts(fovea.get_threads(), {}).items()), flush=True)
    if not (accuracy() if args.what == "accuracy" else exports()):
        sys.exit("[pretrained] expected other figures; see above")


if __name__ == "__main__":
    main()
