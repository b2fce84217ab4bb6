"""``fovea explain``: what a network looks at. How to add a mode: ``command.py``."""

from __future__ import annotations

from fovea.cli.explain.command import explain

__all__ = ["explain"]
