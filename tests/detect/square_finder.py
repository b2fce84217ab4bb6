"""A detector made by hand that finds bright squares on a grid: every box that it gives is known."""

import numpy as np

import fovea
from fovea import ops
from fovea.graph.graph import Graph
from fovea.tasks import Detection

NAMES = ["red", "blue"]
CELL = 8


def finder(side=64, open_size=True, resize="letterbox", names=NAMES, **task):
    """Squares of 8 x 8 pixels of the input, aligned to it, red or blue on black: a box around each, of score 0.95."""
    size = None if open_size else side
    x = ops.Input((size, size, 3))
    graph = Graph(
        inputs=x, outputs=[ops.Conv(2, CELL, stride=CELL)(x), ops.Conv(4, CELL, stride=CELL)(x)],
    )  # fmt: skip
    how = fovea.Preprocessing(size=(side, side), resize=resize, fill=0)
    model = fovea.Model(graph, classes=names, preprocessing=how, task=Detection(strides=(CELL,), **task), name="finder")
    classes, boxes = [name[: -len(".weight")] for name in model.parameters() if name.endswith(".weight")]
    weight = np.zeros((CELL, CELL, 3, 2), np.float32)
    weight[:, :, 0, 0] = weight[:, :, 2, 1] = 12.0 / CELL**2
    values = model.parameters()
    values[f"{classes}.weight"][...] = weight
    values[f"{classes}.bias"][...] = np.log(0.95 / 0.05) - 12.0
    values[f"{boxes}.weight"][...] = 0
    values[f"{boxes}.bias"][...] = 0.5
    model.store.touch()
    return model


def painted(height, width, squares):
    """uint8 H,W,3 black, with squares ``(x1, y1, x2, y2, colour)``."""
    image = np.zeros((height, width, 3), np.uint8)
    for x1, y1, x2, y2, colour in squares:
        image[y1:y2, x1:x2, 2 * colour] = 255
    return image
