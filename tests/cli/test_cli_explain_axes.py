"""`fovea explain MODEL FILE` for recordings and volumes: the files that prediction reads."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fovea as library
from fovea import explain
from tests.explain.attribution_nets import lived_in, numbers

Run = Callable[..., tuple[int, str, str]]


def tones() -> library.Model:
    """A network of recordings of 400 samples at 8 kHz that tells nothing in particular."""
    net = library.Sequential(
        library.Conv(4, 9, stride=2, padding=4), library.ReLU(), library.GlobalAvgPool(), library.Dense(2)
    )
    known = library.Preprocessing(kind="signal", size=(400,), channels=1, rate=8000, scale=1.0)
    return lived_in(library.Model(net, (400, 1), ["low", "high"], preprocessing=known, seed=1))


def recording(path: Path, rate: int = 8000) -> np.ndarray:
    """A tone that becomes louder; its samples -1..1."""
    samples = np.round(np.sin(np.arange(500) / 5) * np.linspace(0, 20000, 500)).astype("<i2")
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.tobytes())
    return samples.astype(np.float32)[:, None] / 32768


def test_a_recording(fovea: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tones().save("tones.safetensors")
    samples = recording(tmp_path / "tone.wav")
    code, out, err = fovea("explain", "tones.safetensors", "tone.wav", "--target", "high")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("Grad-CAM at relu1: high ")
    assert out.splitlines()[-1] == "wrote tone-grad-cam.png and tone-grad-cam.npy"
    own = explain.grad_cam(tones(), samples, "high")
    np.testing.assert_allclose(np.load("tone-grad-cam.npy"), own.values, atol=1e-6)
    with Image.open("tone-grad-cam.png") as drawn:
        assert drawn.width > 900
    words = ["--method", "gradient,occlusion,rise", "--json"]
    code, out, _ = fovea("explain", "tones.safetensors", "tone.wav", *words)
    assert [one["shape"] for one in json.loads(out)["explained"]] == [[400]] * 3
    code, out, _ = fovea("explain", "tones.safetensors", "tone.wav", "--method", "gradient-x-input", "--trust")
    assert code == 0
    assert "edges of the sample" in out
    assert (tmp_path / "tone-gradient-x-input-trust.png").is_file()


def test_a_volume(fovea: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    net = library.Sequential(library.Conv(3, 3, padding=1), library.ReLU(), library.GlobalAvgPool(), library.Dense(2))
    known = library.Preprocessing(kind="volume", size=(6, 8, 7), channels=1, scale=1.0)
    model = lived_in(library.Model(net, (6, 8, 7, 1), preprocessing=known, seed=1))
    model.save("scans.safetensors")
    scan = numbers(6, 8, 7)
    np.save("scan.npy", scan)
    code, _, err = fovea(
        "explain", "scans.safetensors", "scan.npy", "--method", "integrated-gradients", "-o", "map.png"
    )
    assert (code, err) == (0, "")
    own = explain.integrated_gradients(model, scan[..., None])
    np.testing.assert_allclose(np.load("map.npy"), own.values, atol=1e-6)
    with Image.open("map.png") as drawn:
        assert drawn.width > 900


def test_files_that_the_model_does_not_take(fovea: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tones().save("tones.safetensors")
    recording(tmp_path / "fast.wav", rate=16000)
    code, _, err = fovea("explain", "tones.safetensors", "fast.wav")
    assert code != 0
    assert "is sampled at 16000 Hz, the model knows 8000 Hz; resample it first" in err
    Image.new("RGB", (8, 8)).save("photo.png")
    code, _, err = fovea("explain", "tones.safetensors", "photo.png")
    assert code != 0
    assert "expected a .wav or .npy file for a model of signals, got .png" in err
