"""What a trained network knows, as features for other classifiers: codes of any layer, simple classifiers on them."""

from __future__ import annotations

from fovea.features.depth import DepthProbe, DepthProbes, probe_depths
from fovea.features.extract import Codes, codes
from fovea.features.neighbours import Neighbours, nearest_neighbours
from fovea.features.probe import Probe, linear_probe

__all__ = [
    "Codes", "DepthProbe", "DepthProbes", "Neighbours", "Probe", "codes", "linear_probe", "nearest_neighbours",
    "probe_depths",
]  # fmt: skip
