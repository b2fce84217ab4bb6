"""Bulk prediction: a model over millions of files, in bounded memory, that goes on after a kill and may be shared.

``items`` walks over folders, files and shards without listing them; ``tables`` writes rows as Parquet, CSV or JSON
lines; ``job`` keeps the parts and what is needed to continue; ``predict`` is the loop; ``cluster`` is Ray Data's.
"""

from __future__ import annotations

from fovea.bulk.predict import predict_files

__all__ = ["predict_files"]
