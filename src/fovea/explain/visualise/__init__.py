"""Images made by a network: what excites it (``maximise``), what it sees in others (``deep_dream``), what its codes
still know (``invert``)."""

from __future__ import annotations

from fovea.explain.visualise.inversion import Inversion, invert
from fovea.explain.visualise.maximisation import Visualisation, maximise
from fovea.explain.visualise.octaves import Dream, deep_dream

__all__ = ["Dream", "Inversion", "Visualisation", "deep_dream", "invert", "maximise"]
