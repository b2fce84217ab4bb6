"""Why convolution: a perceptron and two convolutional networks of equal accuracy on MNIST, while the digits move.

Writes shift.png beside the runs. Needs FOVEA_DATA with mnist/, or the network to download it once. Run:
python examples/shift_mnist.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from evidence import arguments, machine

import fovea
from fovea.explain import shift_curve
from fovea.report.shift import shift_picture
from fovea.training.equal import train_to_equal

EPOCHS = 10


def main() -> None:
    given = arguments(__doc__, EPOCHS)
    out = Path(given.out or "runs/shift")
    data = fovea.dataset("mnist")
    models = {
        "MLP": fovea.models.mlp(classes=data.classes, seed=given.seed),
        "LeNet-5": fovea.models.lenet5(classes=data.classes, seed=given.seed),
        "small CNN": fovea.models.small_cnn(classes=data.classes, seed=given.seed),
    }
    runs = train_to_equal(models, data, epochs=given.epochs, seed=given.seed, out=out)
    test = data.test
    assert test is not None
    found = shift_curve({name: run.model for name, run in runs.items()}, test, seed=given.seed)
    (out / "shift.png").write_bytes(shift_picture(found))
    print("\nA shift of the digits, MNIST test images")
    for name, parameters, first, row in zip(
        found.names, found.parameters, found.first_layer, found.accuracy, strict=True
    ):
        print(f"  {name:<10} {parameters:>8,} parameters, {first:>8,} in the first layer")
        values = (f"{shift:+d}: {value:.1%}" for shift, value in zip(found.shifts, row, strict=True))
        print(f"  {'':<10} {'  '.join(values)}")
    print(f"  {'images':<18} {found.samples} of {len(test)}, mean over four directions")
    print(f"  {'runs':<18} 1 (seed {given.seed})")
    print(f"  {'machine':<18} {machine()}")
    print(f"  {'picture':<18} {out / 'shift.png'}")
    if given.epochs >= EPOCHS and found.fall("small CNN") > found.fall("MLP") / 2:
        sys.exit("expected the network with global pooling to lose less than half of what the perceptron loses")


if __name__ == "__main__":
    main()
