"""Cats against dogs from 1,200 photographs at 128x128, from scratch: little data, so augmentation carries it.

Needs FOVEA_DATA with cats_dogs/ (train/, val/). Its val/ is kept as the test here, and a tenth
of train/ chooses the epoch, so that the figure is honest. Run: python examples/cats_dogs.py
"""

from __future__ import annotations

from evidence import arguments, show

import fovea

EPOCHS = 40


def main() -> None:
    given = arguments(__doc__, EPOCHS)
    photos = fovea.dataset("cats_dogs", size=128)
    held_out = photos.split("val")
    data = fovea.from_arrays(
        (photos.train.inputs, photos.train.targets),
        test=(held_out.inputs, held_out.targets),
        classes=photos.classes,
        name="cats_dogs",
    )
    model = fovea.models.small_cnn(classes=data.classes, input_shape=data.input_shape, seed=given.seed)
    run = fovea.train(
        model, data, epochs=given.epochs, batch_size=32, label_smoothing=0.1, seed=given.seed, out=given.out
    )
    show("small CNN on cats and dogs, from scratch", model, run, data, at_least=0.75, epochs=EPOCHS)


if __name__ == "__main__":
    main()
