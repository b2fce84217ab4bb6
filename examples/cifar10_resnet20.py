"""ResNet-20 (option A shortcuts, 269,722 parameters) on CIFAR-10, a one-cycle recipe of 15 epochs.

Needs FOVEA_DATA with cifar10/ in any layout that fovea reads, or the network. A copy that went through JPEG compression
loses several points against the original pixels. Run: python examples/cifar10_resnet20.py
"""

from __future__ import annotations

from evidence import arguments, show

import fovea

EPOCHS = 15


def main() -> None:
    given = arguments(__doc__, EPOCHS)
    data = fovea.dataset("cifar10")
    model = fovea.models.resnet20(classes=data.classes, seed=given.seed)
    run = fovea.train(
        model, data, epochs=given.epochs, batch_size=128, lr=0.4, label_smoothing=0.1, seed=given.seed, out=given.out
    )
    show("ResNet-20 on CIFAR-10", model, run, data, at_least=0.82, epochs=EPOCHS)


if __name__ == "__main__":
    main()
