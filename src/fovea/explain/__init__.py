"""Looking into a trained network: where in an image it sees a class."""

from __future__ import annotations

from fovea.explain.class_maps import ClassMap, class_map, fully_convolutional

__all__ = ["ClassMap", "class_map", "fully_convolutional"]
