"""What a caller may choose of this engine beyond the options that all engines have."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """``compiled``: networks go through torch.compile. ``sync_batchnorm``: statistics of all processes."""

    compiled: bool = False
    sync_batchnorm: bool = False
