"""Codes are kept on disk: here in a folder of each test's own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where this test's codes are kept."""
    monkeypatch.setenv("FOVEA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "codes"
