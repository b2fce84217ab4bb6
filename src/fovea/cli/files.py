"""Files that commands leave: whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["write", "write_array"]


def write(path: Path, content: bytes) -> None:
    """Write the whole file or none of it."""
    from fovea.graph.serialize import write_atomically

    def fill(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomically(path, fill)


def write_array(path: Path, values: Any) -> None:
    """Write an array as .npy."""
    import io

    import numpy as np

    data = io.BytesIO()
    np.save(data, values)
    write(path, data.getvalue())
