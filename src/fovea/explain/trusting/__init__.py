"""Whether to believe an attribution: it must change with the network, matter to the score, and point at the object."""

from __future__ import annotations

from fovea.explain.trusting.report import LIMIT, Measures, TrustReport, trust, trusts

__all__ = ["LIMIT", "Measures", "TrustReport", "trust", "trusts"]
