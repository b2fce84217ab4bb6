"""``fovea demo``: the whole way once, on real handwritten digits that need no download, in about a minute."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fovea.errors import ConfigError
from fovea.progress import say

if TYPE_CHECKING:
    import numpy as np

    from fovea.data.dataset import Split

__all__ = ["demo"]

_SHADES = " .:-=+*#%@"


def demo(
    out: Annotated[
        Path | None, typer.Option(metavar="RUN", help="New run folder (default: runs/demo, or runs/demo-2 ...).")
    ] = None,
) -> None:
    """Train a small CNN on 1,797 handwritten digits (from scikit-learn), evaluate it, and predict one picture."""
    import fovea
    from fovea import report
    from fovea.run import Run

    folder = out or _free(Path("runs/demo"))
    if Run.is_run(folder):
        raise ConfigError("--out", f"expected a new folder, got the run {folder}; name another")
    data = fovea.dataset("digits")
    model = fovea.models.small_cnn(data.num_classes, data.input_shape)
    count = sum(array.size for array in model.parameters().values())
    say("1  data: 1,797 handwritten digits of 8x8 pixels; a fifth is kept apart for the test")
    say(f"2  training {model.name}, {count:,} parameters, on this machine's CPU")
    run = fovea.train(
        model, data, epochs=20, batch_size=32, lr=0.1, out=folder, record={"data": "digits", "options": {}}
    )
    say("3  evaluating on the digits that it has never seen")
    result: dict[str, Any] = fovea.evaluate(run, data)
    page = report.write(run, data)
    picture = _save_picture(data.split("test"), folder)
    prediction = run.model.predict([picture])[0]
    print(f"accuracy on {result['n']} held-out digits: {result['accuracy']:.2%}")
    print(_drawn(data.split("test").inputs[0]))
    print(f"this picture ({picture}) is predicted as:  {prediction}")
    where = shlex.quote(str(folder))
    print(f"\nmodel   {folder / 'model.safetensors'}\nreport  {page}   (open it in a browser)\n\ntry next:")
    print(f"  fovea predict {where} {shlex.quote(str(picture))} --json")
    print(f"  fovea summary {where}")
    print("  fovea train PHOTOS --epochs 10     PHOTOS: a folder with one sub-folder of pictures a class")
    print("  fovea train fashion-mnist")


def _free(folder: Path) -> Path:
    """The folder, or folder-2, folder-3, ... when it is taken."""
    number, free = 2, folder
    while free.exists():
        free, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return free


def _save_picture(split: Split, folder: Path) -> Path:
    from PIL import Image

    path = folder / "digit.png"
    Image.fromarray(split.inputs[0][..., 0]).save(path)
    return path


def _drawn(pixels: np.ndarray[Any, Any]) -> str:
    """An 8x8 picture in characters, two columns a pixel."""
    rows = (pixels[..., 0].astype(int) * (len(_SHADES) - 1)) // 255
    return "\n".join("    " + "".join(_SHADES[value] * 2 for value in row) for row in rows)
