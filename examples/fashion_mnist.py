"""Fashion-MNIST with every default: the same as `fovea train fashion-mnist --epochs 10`, then `fovea evaluate`.

Needs FOVEA_DATA with fashion-mnist/, or the network to download it once. Run: python examples/fashion_mnist.py
"""

from __future__ import annotations

from evidence import arguments, show

import fovea

EPOCHS = 10


def main() -> None:
    given = arguments(__doc__, EPOCHS)
    data = fovea.dataset("fashion-mnist")
    name = fovea.models.default_for(data.kind, data.input_shape, data.train.listed)
    model = fovea.models.create(name, classes=data.classes, input_shape=data.input_shape, seed=given.seed)
    run = fovea.train(model, data, epochs=given.epochs, seed=given.seed, out=given.out)
    show(f"{name} on Fashion-MNIST, defaults", model, run, data, at_least=0.925, epochs=EPOCHS)


if __name__ == "__main__":
    main()
