"""The weights that come with fovea, made again: trained, rounded to float16, measured once on the test split.

Needs FOVEA_DATA, or the network. `python examples/packaged_weights.py lenet5` does all of it;
`--run RUN` takes a finished training instead, `--to FOLDER` writes file and card elsewhere than into the package.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evidence import machine

import fovea
from fovea.models.packaged import FOLDER

LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class Weights:
    """One file: its network, the data set's name for fovea and in words, and how it is trained."""

    network: str
    dataset: str
    epochs: int
    options: str
    data: str
    source: str


ALL = (
    Weights(
        "lenet5", "mnist", 20, "--batch-size 64 --seed 0",
        "MNIST: 60,000 handwritten digits, 28x28 grey, of which 6,000 were kept for validation; 10,000 for the test",
        "LeCun, Cortes and Burges, The MNIST database; bit-identical to the original files. The database names no "
        "licence of its own; the copy used here was published under MIT.",
    ),
    Weights(
        "resnet20", "cifar10", 30, "--lr 0.3 --precision bf16 --seed 0",
        "CIFAR-10, a copy that went through JPEG: 50,000 photographs, 32x32 colour, of which 5,000 were kept for "
        "validation; 10,000 for the test",
        "Krizhevsky 2009, Learning multiple layers of features from tiny images. Every image of this copy, test images "
        "included, was stored as JPEG of quality 75 with halved colour resolution (about 30 dB from the original "
        "pixels): this costs accuracy, figures are not comparable with those on the original pixels, and the network "
        "has never seen those. No licence is named for the images.",
    ),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=[one.network for one in ALL])
    parser.add_argument("--run", type=Path, default=None, help="a finished run of this recipe, instead of training")
    parser.add_argument("--epochs", type=int, default=None, help="fewer, to see whether it works")
    parser.add_argument("--to", type=Path, default=FOLDER, help="folder of the file and its card")
    given = parser.parse_args()
    one = next(each for each in ALL if each.network == given.network)
    name = f"{one.network}-{one.dataset}"
    epochs = one.epochs if given.epochs is None else given.epochs
    commands = [
        f"fovea train {one.dataset} --model {one.network} --epochs {epochs} {one.options} --out runs/{name}",
        f"fovea export runs/{name} -o {name}.safetensors --float16",
        f"fovea evaluate {name}.safetensors {one.dataset}",
    ]
    if given.run is None:
        call(commands[0], ".")
    run = given.run or Path("runs", name)
    check(run, commands[0])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "runs").mkdir()
        Path(folder, "runs", name).symlink_to(run.resolve())
        call(commands[1], folder)
        result = json.loads(call(f"{commands[2]} --json", folder))
        model = fovea.load(Path(folder) / f"{name}.safetensors")
    model.provenance["packaged"] = {
        "data": one.data, "source": one.source, "licence": LICENCE, "commands": commands,
        "test": {key: result[key] for key in ("n", "accuracy", "loss", "ece")},
    }  # fmt: skip
    path = model.save(given.to / f"{name}.safetensors", dtype="float16")
    path.with_suffix(".md").write_text(card(model, one, path.stat().st_size), encoding="utf-8")
    print(f"{path}: {path.stat().st_size:,} bytes, {result['accuracy']:.2%} of {result['n']:,} test images")


def call(command: str, folder: str) -> str:
    """Run one command line of fovea in a folder; what it prints for people is shown."""
    print(f"$ {command}", file=sys.stderr)
    program = Path(sys.executable).with_name("fovea")
    done = subprocess.run(
        [program, *shlex.split(command)[1:]], cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def check(run: Path, train: str) -> None:
    """Exit unless the run was started with these words, whatever its folder is called."""
    began = str(fovea.Run(run).config["record"]["command"])
    asked, found = (shlex.split(text)[2:] for text in (train, began))
    if options(asked) != options(found):
        sys.exit(f"{run} was made by another recipe: {began}")


def options(words: list[str]) -> dict[str, str]:
    """What a command line says, but where the run goes."""
    pairs = dict(zip(words[1::2], words[2::2], strict=True))
    return {"DATA": words[0], **{name: value for name, value in pairs.items() if name != "--out"}}


def card(model: fovea.Model, one: Weights, size: int) -> str:
    """What a person should know about the file, from what stands in it."""
    known: dict[str, Any] = model.provenance
    said, val, recipe = known["packaged"], known["metrics"], known["train"]
    test, title = said["test"], f"{one.network}:{one.dataset}"
    parameters = sum(array.size for array in model.parameters().values())
    rows = {
        "network": f"`{one.network}`, {parameters:,} parameters, input "
        + "x".join(map(str, model.graph.input_shapes[0])),
        "classes": ", ".join(model.classes or ()),
        "data": said["data"],
        "accuracy on the test images": f"{test['accuracy']:.2%} of {test['n']:,}; loss {test['loss']:.4f}, calibration "
        f"error {test['ece']:.2%}",
        "on the validation images": f"{val['accuracy']:.2%}; they chose the epoch ({known['epoch']} of "
        f"{recipe['epochs']}) and the temperature ({model.task.to_dict()['temperature']:.3f})",
        "file": f"{size:,} bytes, float16; the accuracy is that of this file",
        "licence of the weights": said["licence"],
        "fingerprint of the data": f"`{known['fingerprint']}`",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    commands = "\n".join(f"$ {command}" for command in said["commands"])
    return f"""# {title}

`fovea.models.{one.network}(weights="{one.dataset}")`, or `{title}` as the MODEL of any command.

| | |
|---|---|
{table}

## Data

{said["source"]}

## Recipe

{describe(recipe)} One run; the test images were read once, at the end.

```console no-run
{commands}
```

`python examples/packaged_weights.py {one.network}` runs these and writes this card. The same version, data and
instruction set give the same bits. Made with fovea {known["fovea"]} on {machine()}.

## Use

For starting points and examples, on pictures like those it was trained on. It knows its {len(model.classes or ())}
classes and nothing else: a picture of anything else gets one of them too.
"""


def describe(recipe: dict[str, Any]) -> str:
    """The recipe in words."""
    optimizer, schedule = recipe["optimizer"], recipe["schedule"]
    return (
        f"{recipe['epochs']} epochs in batches of {recipe['batch_size']}; {optimizer['kind']} with momentum "
        f"{optimizer['momentum']:g} and weight decay {optimizer['weight_decay']:g}; {schedule['kind']} schedule up to "
        f"a learning rate of {recipe['lr']:.4g}; augmentation {recipe['augment']}; precision {recipe['precision']}; "
        f"seed {recipe['seed']}."
    )


if __name__ == "__main__":
    main()
