"""Files and folders that are written whole or not at all: what their errors say."""

from __future__ import annotations

from pathlib import Path

import pytest

from fovea.data.new_folder import written_whole
from fovea.graph.serialize import write_atomically

TOO_LONG = "x" * 250 + ".png"  # with what a temporary name adds


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long") as caught:
        write_atomically(tmp_path / TOO_LONG, lambda temporary: None)
    assert caught.value.filename == str(tmp_path / TOO_LONG)
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_atomically(tmp_path / "folder", lambda temporary: None)
    assert caught.value.filename == str(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_error_names_the_folder_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long") as caught, written_whole(tmp_path / TOO_LONG):
        pass
    assert caught.value.filename == str(tmp_path / TOO_LONG)
