"""Resident memory of an epoch over shards against the number of samples: streamed, and all in memory.

    python bench/streaming.py                           # 20,000, 80,000 and 320,000 images of 32x32
    python bench/streaming.py --samples 2000,8000

Each row is a process of its own that goes through the whole epoch once, in batches of 128 with the standard
augmentation, and reports how much its resident memory had grown from the first batch to its largest (``VmHWM``). The
images are 512 JPEG files of noise, over and over: memory depends on how many there are, not on what they show.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

DIFFERENT = 512
PER_SHARD = 4000


def write(folder: Path, samples: int, side: int) -> None:
    """Shards of noise, as another program would write them, with fovea's listing."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    images = []
    for _ in range(DIFFERENT):
        stream = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(stream, "JPEG")
        images.append(stream.getvalue())
    shards: list[dict[str, Any]] = []
    for first in range(0, samples, PER_SHARD):
        name = f"train-{len(shards):06d}.tar"
        count = min(PER_SHARD, samples - first)
        with tarfile.open(folder / name, "w") as archive:
            for number in range(first, first + count):
                for ending, content in (("cls", str(number % 10).encode()), ("jpg", images[number % DIFFERENT])):
                    item = tarfile.TarInfo(f"{number:08d}.{ending}")
                    item.size = len(content)
                    archive.addfile(item, io.BytesIO(content))
        shards.append({"name": name, "samples": count, "bytes": (folder / name).stat().st_size, "sha256": name})
    counts = [len(range(label, samples, 10)) for label in range(10)]
    listing = {
        "format": 1, "name": "noise", "classes": [str(label) for label in range(10)], "channels": 3,
        "image_sizes": [[side, side]], "splits": {"train": {"class_counts": counts, "shards": shards}},
    }  # fmt: skip
    (folder / "shards.json").write_text(json.dumps(listing))


def resident(field: str) -> int:
    """A line of /proc/self/status in bytes: ``VmRSS`` now, ``VmHWM`` the largest so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def child(folder: str, stream: bool) -> None:
    """Go through one epoch, then print what it took."""
    import fovea
    from fovea.data.loader import loader_for

    data = fovea.dataset(folder, stream=stream, val_fraction=0.0)
    augment = fovea.Augment.from_names("standard", "image", data.input_shape)
    before = resident("VmRSS")
    begin, images = time.perf_counter(), 0
    for batch in loader_for(data.train, 128, augment=augment, workers=2):
        images += len(batch)
    seconds = time.perf_counter() - begin
    print(json.dumps({"mb": (resident("VmHWM") - before) / 1e6, "images": images, "rate": images / seconds}))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", default="20000,80000,320000", help="numbers with commas")
    parser.add_argument("--side", type=int, default=32, help="of the images, in pixels")
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "HOW"), help="go through one folder in this process")
    args = parser.parse_args()
    if args.child:
        child(args.child[0], args.child[1] == "stream")
        return
    print(f"{'samples':>9} {'decoded MB':>11} {'streamed MB':>12} {'images/s':>9} {'in memory MB':>13}", flush=True)
    for samples in map(int, args.samples.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), samples, args.side)
            found = []
            for how in ("stream", "memory"):
                done = subprocess.run(
                    [sys.executable, __file__, "--child", folder, how], capture_output=True, text=True
                )
                if done.returncode:
                    sys.exit(f"[bench] expected an epoch of {samples} samples, got:\n{done.stderr}")
                found.append(json.loads(done.stdout))
            streamed, whole = found
            decoded = samples * args.side**2 * 3 / 1e6
            print(
                f"{samples:9,} {decoded:11.0f} {streamed['mb']:12.0f} {streamed['rate']:9.0f} {whole['mb']:13.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
