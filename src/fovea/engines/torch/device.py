"""Devices and precisions: what a plan's options mean for PyTorch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch

from fovea.errors import EngineError

__all__ = ["PRECISIONS", "computing", "describe", "describe_devices", "resolve"]

PRECISIONS = ("fp32", "tf32", "bf16")


def resolve(name: str | None) -> torch.device:
    """The device of that name: "cpu" (None), "cuda" (of several processes each its own), "cuda:1".

    Raises EngineError for a device that is not here.
    """
    try:
        device = torch.device("cpu" if name is None else name)
    except (RuntimeError, TypeError):
        raise EngineError("device", f"expected cpu, cuda or cuda:1, got {name!r}; choose one of them") from None
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise EngineError("device", f"expected cpu or cuda, got {name!r}; this version runs on those")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
    if not 0 <= index < count:
        built = "" if torch.version.cuda else f", and PyTorch {torch.__version__} is built without CUDA"
        raise EngineError("device", f"expected a GPU for {name}, found {count} here{built}; use device='cpu'")
    return torch.device("cuda", index)


@contextlib.contextmanager
def computing(device: torch.device, precision: str) -> Iterator[None]:
    """Products in that precision: "fp32" and "tf32" (10-bit mantissas, where a GPU has it) choose how float32 numbers
    are multiplied; "bf16" is PyTorch's autocast, whose parameters stay float32."""
    with _products(precision == "tf32"), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        yield


@contextlib.contextmanager
def _products(tf32: bool) -> Iterator[None]:
    """PyTorch keeps this in variables of the process, with another default for convolutions than for products."""
    if not torch.cuda.is_available():
        yield
        return
    switches: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn.conv]  # type: ignore[attr-defined]  # it has
    before = [one.fp32_precision for one in switches]
    try:
        for one in switches:
            one.fp32_precision = "tf32" if tf32 else "ieee"
        yield
    finally:
        for one, value in zip(switches, before, strict=True):
            one.fp32_precision = value


def describe() -> dict[str, Any]:
    """What PyTorch is on this machine; see ``TorchEngine.about``."""
    groups = torch.distributed
    available = groups.is_available()
    collectives = [
        name
        for name, here in (("gloo", available and groups.is_gloo_available()),
                           ("nccl", available and groups.is_nccl_available()))
        if here
    ]  # fmt: skip
    return {
        "version": str(torch.__version__), "cuda": torch.version.cuda, "threads": torch.get_num_threads(),
        "collectives": collectives, "devices": describe_devices(),
    }  # fmt: skip


def describe_devices() -> list[dict[str, Any]]:
    """The GPUs that PyTorch can use: name, memory in all and free in bytes, compute capability."""
    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        found.append({
            "device": f"cuda:{index}", "name": properties.name, "memory": total, "free": free,
            "capability": f"{properties.major}.{properties.minor}", "bf16": torch.cuda.is_bf16_supported(),
        })  # fmt: skip
    return found
