"""Random annotated images and what a detector could have found in them."""

import numpy as np

from fovea.data import boxes


def scene(seed, images=12, classes=3, scales=None, flags=True):
    """Targets ``(N, M, 9)`` and found boxes ``(N, D, 6)``, in pixels of a drawn image; some images are empty."""
    rng = np.random.default_rng(seed)
    rows, found = [], []
    for image in range(images):
        count = 0 if image % 5 == 3 else int(rng.integers(1, 9))
        corner = rng.uniform(0, 300, (count, 2))
        side = rng.choice([12, 40, 150], (count, 1)) * rng.uniform(0.7, 1.4, (count, 2))
        labels = rng.integers(0, classes, count)
        kinds = rng.choice([0, 0, 0, boxes.CROWD, boxes.DIFFICULT], count) if flags else None
        one = boxes.rows_of(np.hstack([corner, corner + side]), labels, kinds)
        one[:, boxes.AREA] *= rng.uniform(0.5, 1, count)  # areas of outlines
        rows.append(one)
        seen = np.repeat(one[:, :5], 3, axis=0)
        seen[:, :4] += rng.normal(0, 0.12, (len(seen), 4)) * np.tile(side.repeat(3, axis=0), 2)
        extra = rng.uniform(0, 200, (4, 4))
        extra[:, 2:] += extra[:, :2]
        everything = np.vstack([seen[:, :4], extra])
        label = np.append(np.where(rng.random(len(seen)) < 0.2, 0, seen[:, 4]), rng.integers(0, classes, 4))
        everything[:, 2:] = np.maximum(everything[:, 2:], everything[:, :2] + 1)
        score = rng.uniform(0, 1, len(everything)).round(2)  # with ties
        found.append(np.column_stack([everything, score, label]))
    most = max(len(one) for one in found) + 2
    whole = np.full((images, most, 6), -1, np.float32)
    for place, one in zip(whole, found, strict=True):
        place[: len(one)] = one
    targets = boxes.padded(rows)
    if scales is not None:
        targets[..., boxes.SCALE] = scales
        targets[..., boxes.BOX] *= np.tile(scales, 2).astype(np.float32)
        whole[..., :4] *= np.tile(scales, 2).astype(np.float32)
    return targets, whole
