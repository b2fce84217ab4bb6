"""LeNet-5 (61,706 parameters) on MNIST: the network of the textbooks on the data of the textbooks.

Needs FOVEA_DATA with mnist/, or the network to download it once. Run: python examples/lenet5_mnist.py
"""

from __future__ import annotations

from evidence import arguments, show

import fovea

EPOCHS = 12


def main() -> None:
    given = arguments(__doc__, EPOCHS)
    data = fovea.dataset("mnist")
    model = fovea.models.lenet5(classes=data.classes, seed=given.seed)
    run = fovea.train(model, data, epochs=given.epochs, batch_size=64, seed=given.seed, out=given.out)
    show("LeNet-5 on MNIST", model, run, data, at_least=0.99, epochs=EPOCHS)


if __name__ == "__main__":
    main()
