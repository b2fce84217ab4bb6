"""A training on shards and a bulk prediction that processes share: -m tests.torch_engine.streaming SHARDS FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import fovea
from tests.torch_engine.several import OPTIONS, model_for

SCENARIOS: dict[str, dict[str, Any]] = {
    "plain": {"batch_size": 32, "augment": "shift_crop"},
    "mixed": {"batch_size": 48, "mix": "mixup", "accumulate": 2},
}


def main(shards: Path, folder: Path) -> None:
    """Train both ways, then predict the shards."""
    for name, options in SCENARIOS.items():
        run = fovea.train(model_for("plain"), str(shards), out=folder / name, **{**OPTIONS, **options})
    fovea.predict_files(run.model, shards, folder / "rows.jsonl")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
