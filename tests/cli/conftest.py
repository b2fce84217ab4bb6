"""The command line as a function, for tests of what it prints."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fovea.cli import main

Answer = tuple[int, str, str]


@pytest.fixture
def fovea(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Runs a command line; returns exit code, stdout and stderr."""

    def run(*words: object) -> Answer:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run
