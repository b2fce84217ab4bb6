"""torchvision's networks, also where its compiled operators do not fit the PyTorch that is installed."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest

__all__ = ["torchvision_models"]


def torchvision_models() -> Any:
    """The module ``torchvision.models``; skips when it is not installed.

    A torchvision built for GPUs beside a PyTorch built for CPUs registers operators that it could not load (nms and its
    like, none of them in a classifier): they are declared here, without a body.
    """
    torch = pytest.importorskip("torch")
    declared = torch.library.Library("torchvision", "FRAGMENT")
    for _ in range(20):
        try:
            models = importlib.import_module("torchvision.models")
            models.declared = declared  # what is declared lives as long as this object
            return models
        except ModuleNotFoundError:
            pytest.skip("torchvision is not installed")
        except RuntimeError as error:
            missing = str(error).partition("torchvision::")[2].split()[:1]
            if not missing:
                raise
            declared.define(f"{missing[0]}(Tensor x) -> Tensor")
            for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[name]
    raise RuntimeError("torchvision did not load")
