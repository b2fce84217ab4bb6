"""A tour of a network: one page that shows what it is, what it has learned, why it says what it says, and how far that
can be trusted. ``write(model, path, images, data)``; the command is ``fovea explain MODEL --report``."""

from __future__ import annotations

from fovea.report.tour.write import write

__all__ = ["write"]
