"""ONNX's backend tests on our engines: an oracle that we did not write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from fovea.errors import ModelFileError
from fovea.interop.onnx.load import import_model
from tests.interop.onnx_cases import BackendCase, backend_cases, refused

CASES = list(backend_cases())
REFUSED = refused()


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_case(case: BackendCase) -> None:
    if case.name in REFUSED:
        with pytest.raises(ModelFileError):  # or the list is out of date
            import_model(case.name, case.model)
        pytest.skip(REFUSED[case.name])
    imported = import_model(case.name, case.model)
    feeds = [feed.transpose(order) for feed, order in zip(case.feeds, imported.inputs, strict=True)]
    for engine in ("reference", "native"):
        plan = imported.model.compile(engine, feeds[0].shape[0])
        results: Any = plan.forward(*feeds)
        for result, order, expected in zip(
            results if isinstance(results, tuple) else (results,), imported.outputs, case.expected, strict=False
        ):
            ours = result.transpose(np.argsort(order))
            wanted = np.broadcast_to(expected, ours.shape) if expected.shape[:1] == (1,) else expected
            np.testing.assert_allclose(
                ours, wanted, rtol=1e-3, atol=1e-5, err_msg=engine
            )  # some are given with 4 digits


def test_the_list_names_cases_that_exist() -> None:
    assert set(REFUSED) <= {case.name for case in CASES}


def test_most_cases_pass() -> None:
    assert len(CASES) - len(REFUSED) >= 350


def test_imports_add_no_transposes() -> None:
    """Element moves that the file does not ask for: none in any case of convolution, pooling or normalisation."""
    added = []
    for case in CASES:
        kinds = {node.op_type for node in case.model.graph.node}
        moving = {"Transpose", "Reshape", "DepthToSpace", "SpaceToDepth"}
        if case.name not in REFUSED and not kinds & moving:
            added += [f"{case.name}: {name}" for name in import_model(case.name, case.model).transposes]
    assert added == []
