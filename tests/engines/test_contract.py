"""Every op on every engine: same samples, same numbers, or a reason why not."""

from __future__ import annotations

import functools
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
import pytest

from fovea.engines.reference import ReferenceEngine
from fovea.engines.reference.ops import PAIRS
from fovea.engines.registry import ENGINES
from fovea.errors import EngineError
from fovea.ops import OPS
from tests.engines.engine_list import check_close, load, run_sample, store_for
from tests.op_samples import SAMPLES, Sample

OTHERS = [name for name, (module, _, _) in ENGINES.items() if name != "reference" and find_spec(module)]
"""The other engines of this version; where one cannot run, because its compiled core is missing say, its tests skip."""
CASES = [
    pytest.param(sample, mode, id=f"{sample.id}-{'training' if mode else 'inference'}")
    for sample in SAMPLES
    for mode in sample.modes
]


def test_every_op_has_samples_and_a_reference() -> None:
    declared = set(OPS) - {"input"}  # an input computes nothing
    assert {sample.op.kind for sample in SAMPLES} == declared
    assert set(PAIRS) == declared
    assert len({sample.id for sample in SAMPLES}) == len(SAMPLES)


@pytest.mark.parametrize("name", OTHERS)
def test_what_an_engine_refuses_has_a_reason(name: str) -> None:
    engine = load(name)
    assert set(engine.unsupported) <= set(OPS)
    assert all(len(reason) > 10 for reason in engine.unsupported.values())


@functools.cache
def reference(sample_id: str, training: bool, dtype: npt.DTypeLike) -> dict[str, npt.NDArray[np.float64]]:
    sample = next(sample for sample in SAMPLES if sample.id == sample_id)
    return run_sample(ReferenceEngine(dtype), sample, training, dtype)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(("sample", "training"), CASES)
def test_an_engine_computes_what_the_reference_computes(name: str, sample: Sample, training: bool) -> None:
    engine = load(name)
    if sample.op.kind in engine.unsupported:
        with pytest.raises(EngineError, match=sample.op.kind):
            engine.compile(sample.graph(), store_for(sample.graph(), sample), batch_size=1)
        return
    computed = run_sample(engine, sample, training)
    single = reference(sample.id, training, np.float32)
    double = reference(sample.id, training, np.float64)
    assert computed.keys() == double.keys()
    for key, array in computed.items():
        check_close(key, array, single[key], double[key])


@pytest.mark.parametrize(("sample", "training"), CASES)
def test_plans_of_the_reference_run_every_sample(sample: Sample, training: bool) -> None:
    """The plan hands the pair what it declared: float32 and float64 give the same names and shapes."""
    single = reference(sample.id, training, np.float32)
    double = reference(sample.id, training, np.float64)
    assert {key: array.shape for key, array in single.items()} == {key: array.shape for key, array in double.items()}
    assert all(np.isfinite(array).all() for array in double.values())
    if training and sample.op.parameters(*sample.input_shapes):
        assert all(f"gradient of node.{name}" in double for name in sample.parameters())
