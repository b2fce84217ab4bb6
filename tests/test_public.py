"""The public names: one table at run time, one list for type checkers, and both say the same."""

from __future__ import annotations

import ast

import fovea
from tests.conftest import ROOT


def test_stub_and_table_name_the_same_things():
    tree = ast.parse((ROOT / "src" / "fovea" / "__init__.pyi").read_text(encoding="utf-8"))
    declared = {
        alias.asname: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert declared == {**fovea._PUBLIC, **dict.fromkeys(fovea._SUBPACKAGES, "fovea")}


def test_every_public_name_loads():
    for name in fovea.__all__:
        assert getattr(fovea, name) is not None, name
