"""The textbook in NumPy: every op forward and, directly below, backward. The oracle of the other engines."""

from fovea.engines.reference.engine import ReferenceEngine

__all__ = ["ReferenceEngine"]
