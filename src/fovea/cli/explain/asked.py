"""What the modes of ``fovea explain`` share: the words of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fovea.errors import ConfigError

if TYPE_CHECKING:
    from fovea.model import Model

__all__ = ["Asked"]


@dataclass(frozen=True)
class Asked:
    """The command line as given; a mode reads what concerns it. ``out``: None where the person named no file."""

    model: str
    images: tuple[Path, ...]
    method: str | None
    layer: str | None
    target: str | None
    score: str | None
    engine: str | None
    out: Path | None
    as_json: bool

    def aim(self, model: Model) -> Any:
        """``--target`` as functions take it: the words for a class, ``NODE:INDEX`` as ``(node, index)``, or None."""
        node, _, index = (self.target or "").rpartition(":")
        parts = index.split(",")
        if node in model.graph.nodes and all(part.isdecimal() for part in parts):
            return node, tuple(int(part) for part in parts)
        return self.target

    def picture(self) -> Path:
        """The one image that this mode needs. Raises ConfigError."""
        if len(self.images) != 1:
            got = f"{len(self.images)}" if self.images else "none"
            raise ConfigError("explain", f"expected one IMAGE behind MODEL, got {got}; name a picture")
        return self.images[0]

    def file(self, name: str, suffix: str = ".png") -> Path:
        """Where to write: ``--out``, or ``name`` in this folder. Raises ConfigError for another kind of file."""
        plain = name.replace("/", "-").replace(":", "-")  # a layer's name may have slashes, resnet20:cifar10 a colon
        path = Path(plain) if self.out is None else self.out
        if path.suffix.lower() != suffix:
            raise ConfigError("--out", f"expected a file that ends in {suffix}, got {path}; name one")
        return path
