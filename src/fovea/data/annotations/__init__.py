"""Annotated boxes on their way from the files that people have to the one layout of ``fovea.data.boxes``."""
