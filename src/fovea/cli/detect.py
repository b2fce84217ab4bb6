"""``fovea detect``: what is where in pictures; boxes drawn and written down."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fovea.cli.arguments import MODEL, Device, Precision, load_model, sample_files, set_threads
from fovea.cli.files import write
from fovea.cli.output import print_json
from fovea.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fovea.detection.detect import Detector
    from fovea.detection.records import Seen

__all__ = ["detect"]

_NOTHING = b"P6 1 1 255\n\0\0\0"
"""An image of one pixel."""
_JPEG = (".jpg", ".jpeg", ".jfif")


def detect(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL)],
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Images, or folders of them.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Where to put the pictures with boxes and detections.json."),
    ] = None,
    score: Annotated[
        float | None, typer.Option(metavar="S", help="Show boxes this sure. Default: the model's own.")
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(metavar="IOU", help="Of boxes that overlap more only the surest stays. Default: its own."),
    ] = None,
    class_agnostic: Annotated[
        bool, typer.Option("--class-agnostic", help="Boxes of different classes suppress each other, too.")
    ] = False,
    soft: Annotated[
        bool, typer.Option("--soft", help="Lower the scores of boxes that overlap, rather than drop them.")
    ] = False,
    tile: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Look at windows of so many pixels, too: 640 for large pictures."),
    ] = None,
    overlap: Annotated[float, typer.Option(help="Share of a window that it has in common with the next one.")] = 0.2,
    tta: Annotated[
        bool,
        typer.Option(
            "--tta", help="Look at the mirror image and at other sizes, too: six looks, whose boxes are fused."
        ),
    ] = False,
    coco: Annotated[
        Path | None, typer.Option("--coco", metavar="FILE", help="Write the boxes as a data set in COCO's layout.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads (default: every core).")] = None,
    device: Device = None,
    precision: Precision = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Find objects in pictures, draw their boxes, and say how long each step takes.

    A picture that cannot be read is named on stderr, the others are done, and the exit code is 2.
    """
    from fovea.data.decode import read_image
    from fovea.detection.detect import Detector
    from fovea.detection.records import as_coco
    from fovea.detection.records import as_json as as_record

    set_threads(threads)
    loaded = load_model(model)
    loaded.precision, loaded.device = precision or loaded.precision, device
    for option, value in (("--score", score), ("--iou", iou)):
        if value is not None and not 0 <= value <= 1:
            raise ConfigError(option, f"expected a number from 0 to 1, got {value:g}; leave it out for the model's own")
    detector = Detector(loaded, score, iou, class_agnostic or None, tile, overlap, tta, soft)
    files = sample_files(images, "image")
    targets = _targets(images, files, out)
    detector.warm()
    read_image(_NOTHING)  # what reads images is loaded once, and not counted with the first of them
    seen, steps, bad = [], [], 0
    for file, target in zip(files, targets, strict=True):
        try:
            one, taken = _one(detector, file, target)
        except DataError as error:
            bad += 1
            print(error, file=sys.stderr)
            continue
        seen.append(one)
        steps.append(taken)
        if not as_json:
            milliseconds = 1000 * sum(taken.values())
            print(f"{one.path}  {one.prediction}  {milliseconds:.1f} ms")
    record = as_record(seen, model, _speed(steps))
    if out is not None:
        write(out / "detections.json", json.dumps(record, indent=1, ensure_ascii=False).encode())
    if coco is not None:
        coco.parent.mkdir(parents=True, exist_ok=True)
        write(coco, json.dumps(as_coco(seen, detector.names), ensure_ascii=False).encode())
    if as_json:
        print_json(record)
    elif seen:
        print(_words(record["speed"], len(seen), out, coco))
    if bad:
        raise typer.Exit(2)


def _one(detector: Detector, file: Path, target: Path | None) -> tuple[Seen, dict[str, float]]:
    """What is found in one file, and the seconds that each stage took. Raises DataError."""
    from fovea.data.decode import read_image
    from fovea.detection.records import Seen

    begin = time.perf_counter()
    image = read_image(file, 3)
    taken = {"decode": time.perf_counter() - begin}
    before = dict(detector.seconds)
    prediction = detector(image)
    taken |= {stage: detector.seconds[stage] - before[stage] for stage in before}
    if target is not None:
        _draw(image, prediction, target)
    return Seen(str(file), image.shape[0], image.shape[1], prediction), taken


def _draw(image: Any, prediction: Any, target: Path) -> None:
    import io

    from PIL import Image

    from fovea.detection.draw import Mark, colour_of, draw_boxes

    marks = [Mark(one.box, f"{one.label} {one.score:.2f}", colour_of(one.index)) for one in prediction.objects]
    data = io.BytesIO()
    jpeg = target.suffix.lower() in _JPEG
    Image.fromarray(draw_boxes(image, marks)).save(data, "JPEG" if jpeg else "PNG", **({"quality": 92} if jpeg else {}))
    target.parent.mkdir(parents=True, exist_ok=True)
    write(target, data.getvalue())


def _targets(given: list[str], files: list[Path], out: Path | None) -> list[Path | None]:
    """Where the picture of each file goes: as it lies in the folder that was named, JPEG as JPEG, else as PNG.

    Raises ConfigError where that would be the file itself.
    """
    if out is None:
        return [None] * len(files)
    folders = [Path(name) for name in given if Path(name).is_dir()]
    taken: set[Path] = set()
    targets: list[Path | None] = []
    for file in files:
        folder = next((one for one in folders if one in file.parents), file.parent)
        target = out / file.relative_to(folder)
        if target.suffix.lower() not in (*_JPEG, ".png"):
            target = target.with_name(target.name + ".png")
        stem, number = target.stem, 1
        while target in taken:
            number += 1
            target = target.with_name(f"{stem}-{number}{target.suffix}")
        if target.resolve() == file.resolve():
            raise ConfigError(
                "--out", f"expected a folder other than that of the images, got {out}; they would be lost"
            )
        taken.add(target)
        targets.append(target)
    return targets


def _speed(steps: list[dict[str, float]]) -> dict[str, Any]:
    """Milliseconds an image of every stage (the median and the 95th percentile), and images a second of all of them."""
    import numpy as np

    if not steps:
        return {}
    stages = {
        name: {
            "p50_ms": 1000 * float(np.median([one[name] for one in steps])),
            "p95_ms": 1000 * float(np.quantile([one[name] for one in steps], 0.95)),
        }
        for name in steps[0]
    }
    total = sum(sum(one.values()) for one in steps)
    decoding = sum(one["decode"] for one in steps)
    return {
        "stages": stages,
        "images_per_second": len(steps) / total,
        "images_per_second_decoded": len(steps) / max(total - decoding, 1e-9),
    }


def _words(speed: dict[str, Any], count: int, out: Path | None, coco: Path | None) -> str:
    stages = "  ".join(f"{name} {one['p50_ms']:.1f} ms" for name, one in speed["stages"].items())
    said = f"\n{count} image{'s' * (count != 1)}, an image: {stages}\n"
    said += f"{speed['images_per_second']:.1f} images/s, {speed['images_per_second_decoded']:.1f} without decoding"
    wrote = [f"wrote {out}/ (pictures with boxes, detections.json)"] if out is not None else []
    wrote += [f"wrote {coco}"] if coco is not None else []
    return "\n".join([said, *wrote])
