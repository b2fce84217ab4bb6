"""Shards: data sets as tar files in the layout of WebDataset, written from any images, read as a stream.

A sample is a run of members with one name and several endings: ``000012.jpg`` and ``000012.cls``, say. ``places`` finds
and opens the files, here or elsewhere; ``tar`` reads samples; ``catalog`` knows what each shard holds; ``order`` says
which sample comes when, as pure integers; ``loader`` makes batches of it; ``dataset`` is what ``fovea.dataset`` gives.
"""

from __future__ import annotations
