"""Spoken digits with 1-D convolutions on the raw waveform. The test is takes 0 to 4 of every speaker and digit.

Needs FOVEA_DATA with fsdd/ (the Free Spoken Digit Dataset: wav files {digit}_{speaker}_{take}.wav, 8 kHz). The split by
take is the set's own; its speakers are in both parts. Run: python examples/spoken_digits.py
"""

from __future__ import annotations

from evidence import arguments, show

import fovea

EPOCHS = 60


def main() -> None:
    given = arguments(__doc__, EPOCHS)
    data = fovea.dataset("fsdd", label_pattern="{label}_{speaker}_{take}.wav", test_where="take<5")
    model = fovea.models.conv1d(classes=data.classes, input_shape=data.input_shape, seed=given.seed)
    run = fovea.train(model, data, epochs=given.epochs, batch_size=32, seed=given.seed, out=given.out)
    show("1-D convolutions on spoken digits", model, run, data, at_least=0.90, epochs=EPOCHS)


if __name__ == "__main__":
    main()
