"""The GPU bench in its tiny setting: both sides of both parts run, and the table says what was at hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fovea

torch = pytest.importorskip("torch")


def test_both_parts_run_and_become_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bench import gpu

    assert gpu.main(["--smoke", "--precision", "fp32", "--json", str(tmp_path / "gpu.json")]) == 0
    out = capsys.readouterr().out
    assert "no GPU was at hand" in out
    assert "ResNet-50, 64x64, batch 2" in out
    cifar, resnet = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert {"seconds", "accuracy"} == set(cifar["ours"]) == set(cifar["theirs"])
    assert resnet["ours"]["images_per_second"] > 0


def test_without_a_gpu_nothing_is_claimed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 1
    assert "no GPU was at hand; nothing was measured" in capsys.readouterr().out


def test_both_sides_begin_with_the_same_network() -> None:
    """Equal logits before the first step: same weights, same order of layers, same preprocessing."""
    from bench import airbench, gpu

    data = gpu.cifar_data(smoke=True)
    recipe = airbench.Recipe(widths=(8, 16, 8))
    model = airbench.first_model(data, recipe, seed=3)
    network = airbench._network(torch, model, recipe).eval()
    images = data.train.inputs[:16]
    x = torch.from_numpy(data.preprocessing.apply_pixels(images)).permute(0, 3, 1, 2)
    with torch.no_grad():
        theirs = (network(x) / 9).numpy()
    ours = np.asarray(model.logits(images))
    assert np.allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
    assert "conv1.weight" not in model.trainable
    assert not any("batchnorm" in name and name.endswith("weight") for name in model.trainable)


def test_the_recipe_learns_on_both_sides() -> None:
    from bench import airbench, gpu

    data = gpu.cifar_data(smoke=True)
    recipe = airbench.Recipe(epochs=20, batch_size=32, widths=(8, 8, 8), lr=0.2, workers=0, ema=0.9)
    ours = airbench.train_ours(airbench.first_model(data, recipe, 0), data, recipe, "torch", None, "fp32", 0)
    theirs = airbench.train_by_hand(
        airbench.first_model(data, recipe, 0), data, recipe, "cpu", "fp32", 0, compiled=False
    )
    assert ours[1] >= 0.6, "ten colours in noise; chance is 0.1"
    assert theirs[1] >= 0.6


def test_resnet50_by_hand_is_the_one_of_the_zoo() -> None:
    from bench import gpu

    ours = fovea.models.resnet50(num_classes=1000, input_shape=(64, 64, 3), seed=0)
    count = sum(array.size for array in ours.parameters().values())
    assert count == sum(p.numel() for p in gpu._network().parameters()) == 25_557_032


@pytest.mark.parametrize("step", [0, 22, 23, 60, 99])
def test_the_learning_rate_is_two_straight_lines(step: int) -> None:
    from bench import airbench

    expected = np.interp(step, [0, 23, 100], [0.2, 1.0, 0.07])
    assert airbench.lr_factor(step, 100) == pytest.approx(expected)


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    from bench import gpu

    with pytest.raises(SystemExit):
        gpu.main(["--parts", "mnist"])
    assert "expected --parts of cifar, resnet50" in capsys.readouterr().err
