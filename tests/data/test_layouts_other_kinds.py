"""Signals, volumes and clips: layouts, label patterns and rules of splits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fovea.data.load import dataset
from fovea.data.preprocess import Preprocessing
from fovea.data.samples import read_samples
from fovea.errors import DataError
from tests.data import builders


def test_wav_folders_and_label_patterns(tmp_path: Path) -> None:
    builders.wav_files(tmp_path / "flat")
    pattern = "{label}_{speaker}_{take}.wav"
    data = dataset(tmp_path / "flat", label_pattern=pattern, test_where="take<2", val_where="speaker=bob", length=240)
    assert (data.kind, data.classes, data.input_shape) == ("signal", ("0", "1"), (240, 1))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 8, "val": 8, "test": 8}
    values = builders.tone(0, 2, 220)
    assert data.train.ids[0].endswith("0_ada_2.wav")
    assert np.abs(data.train.inputs[0, :220, 0] - values).max() <= 1 / 32768
    assert not data.train.inputs[0, 220:].any(), "shorter signals end in zeros"
    standard = dataset(tmp_path / "flat", label_pattern=pattern, per_sample=True, length=200).train
    first = standard.inputs[standard.ids.index("0_ada_0.wav")]
    assert np.allclose([first.mean(), first.std()], [0, 1], atol=1e-4), "each signal by itself"
    for label in ("0", "1"):
        folder = tmp_path / "classes" / label
        folder.mkdir(parents=True)
        for path in (tmp_path / "flat").glob(f"{label}_*.wav"):
            (folder / path.name).write_bytes(path.read_bytes())
    assert dataset(tmp_path / "classes", length=240, val_fraction=0).train.class_counts().tolist() == [12, 12]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_pattern": "{speaker}.wav"}, "needs a field {label}"),
        ({"label_pattern": "{label}-{take}.wav"}, "none of 24 files fits the label pattern"),
        ({"label_pattern": "{label}_{s}_{t}.wav", "test_where": "take<5"}, "no field 'take'; there are label, s, t"),
        ({"label_pattern": "{label}_{s}_{t}.wav", "test_where": "s<5"}, "s is 'ada', which is not a number"),
        ({"label_pattern": "{label}_{s}_{t}.wav", "test_where": "t ~ 5"}, "is not a rule; write 'take<5'"),
        ({"label_pattern": "{label}_{s}_{t}.wav", "test_where": "t>99"}, "leaves no sample for test"),
        ({"test_where": "take<5"}, "give one"),
        ({}, "no sub-folder per class"),
    ],
)
def test_bad_patterns_and_rules(tmp_path: Path, options: dict[str, str], message: str) -> None:
    builders.wav_files(tmp_path)
    with pytest.raises(DataError) as error:
        dataset(tmp_path, **options)
    assert message in str(error.value)


def test_unequal_sampling_rates_are_refused_by_name(tmp_path: Path) -> None:
    builders.wav_files(tmp_path / "d" / "0", takes=2)
    builders.wav_files(tmp_path / "d" / "1", takes=2)
    (tmp_path / "d" / "1" / "0_ada_0.wav").write_bytes(builders.wav(builders.tone(0, 0, 200), rate=16000))
    data = dataset(tmp_path / "d", val_fraction=0)
    with pytest.raises(DataError, match="is sampled at 16000 Hz, the others at 8000 Hz; resample it first"):
        _ = data.train.inputs


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wav_widths(width: int) -> None:
    from fovea.data.wav import read_wav

    values = np.array([-1.0, -0.5, 0.0, 0.25, 0.5])
    read, rate = read_wav(builders.wav(values, width=width, rate=11025), "x.wav")
    assert rate == 11025
    assert read.dtype == np.float32
    assert np.array_equal(read[:, 0], values)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wav_that_calls_itself_extensible(width: int) -> None:
    """As ffmpeg writes 24 bits: another tag, and 24 bytes more behind the format. Floats so named are refused."""
    from fovea.data.wav import read_wav

    values = np.array([-1.0, -0.5, 0.0, 0.25, 0.5])
    plain = builders.wav(values, width=width)
    end = plain.index(b"fmt ") + 8 + 16
    guid = bytes.fromhex("0000001000800000aa00389b71")
    for kind in (1, 3):
        more = (
            (22).to_bytes(2, "little")
            + (8 * width).to_bytes(2, "little")
            + bytes(4)
            + kind.to_bytes(3, "little")
            + guid
        )
        junk = b"JUNK" + (3).to_bytes(4, "little") + b"odd\0"
        data = (
            plain[:12] + junk + b"fmt " + (40).to_bytes(4, "little") + b"\xfe\xff" + plain[22:end] + more + plain[end:]
        )
        data = data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:]
        if kind == 3:
            with pytest.raises(DataError, match="is not a PCM wav file"):
                read_wav(data, "x.wav")
        else:
            assert np.array_equal(read_wav(data, "x.wav")[0][:, 0], values)


def test_volumes(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for label in ("left", "right"):
        (tmp_path / label).mkdir()
        for index in range(3):
            np.save(tmp_path / label / f"{index}.npy", rng.normal(50, 9, (6, 7, 8 + index)).astype(np.float32))
    data = dataset(tmp_path, val_fraction=0)
    assert (data.kind, data.input_shape) == ("volume", (6, 7, 9, 1))
    assert data.preprocessing.per_sample
    assert data.train.inputs.dtype == np.float32
    assert np.abs(data.train.inputs[1].mean()) < 1e-5, "the second volume has the size, so it keeps mean 0"
    assert any("unequal size" in note for note in data.notes)
    assert dataset(tmp_path, val_fraction=0, size=(4, 4, 4)).train.inputs.shape == (6, 4, 4, 4, 1)


def test_clips_from_frames_and_from_animations(tmp_path: Path) -> None:
    frames, gifs = tmp_path / "frames", tmp_path / "gifs"
    for label in ("wave", "jump"):
        (gifs / label).mkdir(parents=True)
        for clip in range(2):
            folder = frames / label / f"clip {clip}"
            folder.mkdir(parents=True)
            for number in (0, 1, 2, 10):
                Image.fromarray(np.full((8, 10, 3), 20 * number, np.uint8)).save(folder / f"frame_{number}.png")
            pictures = [Image.fromarray(np.full((8, 10, 3), 60 * number, np.uint8)) for number in range(4)]
            pictures[0].save(gifs / label / f"{clip}.gif", save_all=True, append_images=pictures[1:])
    data = dataset(frames, val_fraction=0)
    assert (data.kind, data.input_shape) == ("clip", (4, 8, 10, 3))
    assert data.train.inputs[0, :, 0, 0, 0].tolist() == [0, 20, 40, 200], "frames in the order of their numbers"
    assert data.train.ids[0] == "jump/clip 0"
    animated = dataset(gifs, length=2, val_fraction=0)
    assert (animated.kind, animated.input_shape) == ("clip", (2, 8, 10, 1))
    assert animated.train.inputs[0, :, 0, 0, 0].tolist() == [0, 180]
    assert dataset(frames, kind="image", val_fraction=0).train.inputs.shape == (16, 8, 10, 3)


def test_a_model_knows_the_sampling_rate_of_its_signals(tmp_path: Path) -> None:
    """A tone at twice the rate is another tone: such files are refused, not heard wrongly."""
    builders.wav_files(tmp_path / "eight")
    (tmp_path / "fast").mkdir()
    for label in "01":
        for take in range(2):
            path = tmp_path / "fast" / f"{label}_ada_{take}.wav"
            path.write_bytes(builders.wav(builders.tone(int(label), take, 220), rate=16000))
    pattern = "{label}_{speaker}_{take}.wav"
    record = dataset(tmp_path / "eight", label_pattern=pattern, length=240).preprocessing
    assert record.rate == 8000
    assert Preprocessing.from_dict(record.to_dict()) == record
    with pytest.raises(DataError, match="is sampled at 16000 Hz, the model knows 8000 Hz; resample it first"):
        dataset(tmp_path / "fast", label_pattern=pattern, length=240).prepared(record)
    with pytest.raises(DataError, match=r"0_ada_0\.wav\] is sampled at 16000 Hz, the model knows 8000 Hz"):
        read_samples([tmp_path / "fast" / "0_ada_0.wav"], record)
    older = replace(record, rate=None)  # files of a model that does not know it are taken as they are
    assert read_samples([tmp_path / "fast" / "0_ada_0.wav"], older)[0].shape == (220, 1)
    with pytest.raises(DataError, match="rate must be samples per second of a signal, got 8000 for images"):
        Preprocessing(rate=8000)
