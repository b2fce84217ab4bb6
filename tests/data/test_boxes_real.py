"""The two real sets of boxes: their counts as their makers publish them, and boxes on the pixels they name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import fovea
from fovea.data.boxes import is_box

ROOT = Path(os.environ.get("FOVEA_DATA", ""))


def real(name: str) -> Path:
    if not os.environ.get("FOVEA_DATA") or not (ROOT / name).exists():
        pytest.skip(f"FOVEA_DATA/{name} is not there")
    return ROOT / name


def test_blood_cells_in_voc() -> None:
    data = fovea.dataset(real("bccd_voc"))
    assert {name: split.listed for name, split in data.splits.items()} == {"train": 205, "val": 87, "test": 72}
    assert data.classes == ("Platelets", "RBC", "WBC")
    assert data.input_shape == (320, 320, 3)
    counts = sum(split.class_counts() for split in data.splits.values())
    # 361, 4155 and 372 are published; two cells are boxes without area
    assert counts.tolist() == [361, 4153, 372]
    assert any("BloodImage_00338.xml line 158" in note for note in data.notes)
    boxes = data.train.targets[is_box(data.train.targets)]
    assert (boxes[:, :4] >= 0).all()
    assert (boxes[:, :4] <= 320).all()
    assert np.allclose(boxes[:, 6:8], 0.5)


def test_masks_in_coco_inside_of_an_archive() -> None:
    data = fovea.dataset(real("facemask_coco"))
    assert {name: split.listed for name, split in data.splits.items()} == {"train": 230, "val": 171}
    assert data.classes == ("mask_weared_incorrect", "with_mask", "without_mask")
    assert data.train.class_counts().sum() == 1140
    assert data.splits["val"].class_counts().sum() == 915
    assert data.train.inputs.shape == (230, 320, 320, 3)
