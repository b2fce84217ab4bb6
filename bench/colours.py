"""Mean and covariance of the colours of photographs: what feature visualisation draws with (explain/visualise).

    python bench/colours.py

Prints them for 125 photographs, one of every eighth class of ImageNet (imagenet_sample in FOVEA_DATA), each cut to the
224x224 pixels that a network sees, and says whether ``fovea.explain.visualise.colours.PHOTOGRAPHS`` holds the same.
"""

from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path

import numpy as np

import fovea
from fovea.data.decode import read_image
from fovea.explain.visualise.colours import PHOTOGRAPHS, Colours, colours_of

DIGITS = 5


def photographs() -> Colours:
    """The statistics, rounded. Ends the program without FOVEA_DATA."""
    folder = os.environ.get("FOVEA_DATA")
    if not folder:
        sys.exit("[colours] expected FOVEA_DATA as the folder with imagenet_sample, got nothing; set it")
    known = fovea.Preprocessing(size=(224, 224), resize_to=256)
    with tarfile.open(Path(folder) / "imagenet_sample" / "imagenet_sample_125.tar") as archive:
        members = [member for member in archive.getmembers() if member.name.endswith(".jpg")]
        raw = [read_image(archive.extractfile(member).read(), 3, member.name) for member in members]
    found = colours_of(known.apply_spatial(raw), f"{len(raw)} photographs")
    covariance = tuple(tuple(round(value, DIGITS) for value in row) for row in found.covariance)
    return Colours(tuple(round(value, DIGITS) for value in found.mean), covariance, found.source)


def main() -> None:
    """Print and compare."""
    found = photographs()
    print(f"{found.source}\nmean       {found.mean}\ncovariance {found.covariance}")
    values, vectors = np.linalg.eigh(np.array(found.covariance))
    for value, vector in zip(values[::-1], vectors.T[::-1], strict=True):
        print(f"{value / values.sum():6.1%} of the variance along {np.round(vector, 2).tolist()}")
    same = (found.mean, found.covariance) == (PHOTOGRAPHS.mean, PHOTOGRAPHS.covariance)
    print("PHOTOGRAPHS holds the same" if same else "PHOTOGRAPHS holds something else")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
