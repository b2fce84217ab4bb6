"""The PyTorch engine."""

from __future__ import annotations

from typing import Any

import torch

from fovea.engines.base import Engine
from fovea.engines.spec import PlanSpec
from fovea.engines.torch.device import PRECISIONS, describe, describe_devices, resolve
from fovea.engines.torch.distributed import Processes, join
from fovea.engines.torch.plan import TorchPlan
from fovea.engines.torch.settings import Settings
from fovea.errors import EngineError
from fovea.graph.store import ParameterStore

__all__ = ["TorchEngine"]


class TorchEngine(Engine):
    """Computes with PyTorch: device "cpu" or "cuda"; precision "fp32", "tf32" (on GPUs that have it) or "bf16".

    ``compiled``: networks go through torch.compile (plans with ``wrt`` do not), for the number of samples that first
    comes twice in a row. ``sync_batchnorm``: under torchrun batch statistics are those of all processes. Raises
    EngineError for a device that is not here.
    """

    name = "torch"
    precisions = PRECISIONS
    accelerated = True

    def __init__(self, *, compiled: bool = False, sync_batchnorm: bool = False) -> None:
        self.settings = Settings(compiled, sync_batchnorm)

    def plan(self, spec: PlanSpec, store: ParameterStore) -> TorchPlan:
        """Compile a checked spec."""
        device = resolve(spec.device)
        if spec.precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise EngineError(
                self.name, f"expected a GPU with bfloat16, got {torch.cuda.get_device_name(device)}; use fp32"
            )
        return TorchPlan(spec, store, device, self.settings, Processes(device))

    def configured(self, **options: bool) -> TorchEngine:
        """This engine with other settings."""
        current: dict[str, Any] = vars(self.settings)
        return TorchEngine(**{**current, **options})

    def devices(self) -> list[dict[str, Any]]:
        """The GPUs that PyTorch sees: also "capability", and whether it has "bf16"."""
        return describe_devices()

    def about(self) -> dict[str, Any]:
        """What PyTorch is here: "version", "cuda" that it was built for (None: none), "threads", the "collectives" that
        processes can share a training by, "devices"."""
        return describe()

    def join(self, device: str | None = None) -> Processes:
        """The processes that torchrun has started for this training; one alone otherwise."""
        return join(resolve(device))
