"""Keras's files of weights: read in a process of their own, whose memory and time are bounded.

h5py stands on a C library that was made for files one can trust; on a damaged one it may loop or crash. That then ends
the other process, and here becomes an error of one line.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt
from safetensors import safe_open

from fovea.errors import MissingExtra, ModelFileError

__all__ = ["KerasLayer", "read_keras_file"]

LONGEST = 600
"""Seconds that reading may take on a busy machine; computing is limited far below."""
ENDED = 2
"""Exit code with which the reader says what is wrong."""


class KerasLayer(NamedTuple):
    """A layer's arrays by our short names ("weight", "running_mean", ...), in Keras's layout.

    ``kind``: its class, "conv2d" or "depthwise_conv2d", or "" where the file does not tell. ``eps``: of a norm, where
    the file tells it.
    """

    name: str
    kind: str
    arrays: dict[str, npt.NDArray[Any]]
    eps: float | None = None


def read_keras_file(path: str | PathLike[str]) -> list[KerasLayer]:
    """The layers that have arrays, in the order of the file: the model's own where the file holds that, else by class.

    Nothing in the file is executed. Raises ModelFileError, in one line, for a file that is damaged, hostile or none of
    Keras's; MissingExtra without the extra "keras".
    """
    where = str(path)
    if importlib.util.find_spec("h5py") is None:
        raise MissingExtra("weights", "keras", "reading a Keras file")
    if not Path(path).is_file():
        raise ModelFileError(where, "expected a Keras file, got none there; check the path")
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "layers.safetensors")
        command = [sys.executable, "-m", "fovea.interop.keras_layers", str(Path(path).absolute()), out]
        surrounding = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
        surrounding |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # each thread of NumPy takes addresses
        try:
            # in an empty folder: modules are searched in the current one first
            answer = subprocess.run(
                command, capture_output=True, timeout=LONGEST, env=surrounding, cwd=folder, check=False
            )
        except subprocess.TimeoutExpired:
            raise _damaged(where) from None
        if answer.returncode == ENDED and answer.stdout:
            raise ModelFileError(where, json.loads(answer.stdout))
        if answer.returncode != 0:
            raise _damaged(where)
        with safe_open(out, framework="numpy") as content:
            described = json.loads(content.metadata()["layers"])
            return [
                KerasLayer(
                    one["name"], one["kind"],
                    {short: content.get_tensor(f"{index}.{short}") for short in one["arrays"]}, one["eps"],
                )
                for index, one in enumerate(described)
            ]  # fmt: skip


def _damaged(where: str) -> ModelFileError:
    return ModelFileError(
        where, "expected a whole Keras file, got one on which the HDF5 library fails; save or download it again"
    )
