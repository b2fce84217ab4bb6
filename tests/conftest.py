"""What all tests share: outside data that may be absent, and a clean surrounding."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def find_outside(variable: str, name: str) -> Path:
    """`name` in the folder that the environment variable names; skips the test, with the reason, where it is absent."""
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"{variable} is not set; this test needs {name} from it")
    path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"{variable} has no {name}")
    return path


@pytest.fixture
def outside_data() -> Callable[[str], Path]:
    """`outside_data("cifar10")` is the path of that data set in FOVEA_DATA, or skips the test."""
    return lambda name: find_outside("FOVEA_DATA", name)


@pytest.fixture
def outside_weights() -> Callable[[str], Path]:
    """`outside_weights("resnet18.pth")` is the path of that file in FOVEA_WEIGHTS, or skips the test."""
    return lambda name: find_outside("FOVEA_WEIGHTS", name)
